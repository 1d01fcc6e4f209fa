"""One optimizer step: micro-batches, processes, precision and clipping."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from posecore.training.run import Run
from posecore.training.task import Terms


def train_step(run: Run, batches: Sequence[Any], denominators: Mapping[str, Tensor]) -> Terms:
    """Add up the gradients of the micro-batches, then move the weights.

    A loss term is this micro-batch's share of the global one (see Task), so micro-batches add up;
    distributed gradients come out averaged, hence the factor of the world size.

    Returns:
        This process's share of each term, and of the gradient norm as `grad_norm` if it is
        clipped; on the device.
    """
    terms: Terms = {}
    for position, batch in enumerate(batches):
        with _gradients_stay_local(run.forward, enabled=position < len(batches) - 1):
            share = run.task.loss(run.forward, batch, denominators, run.progress)
            run.scaler.scale(share["total"] * run.world_size).backward()  # type: ignore[no-untyped-call]
        for name, value in share.items():
            terms[name] = terms[name] + value.detach() if name in terms else value.detach()
    if run.config.clip_norm is not None:
        terms["grad_norm"] = _clip(run.optimizer, run.scaler, run.config.clip_norm) / run.world_size
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    return terms


class StepTotals:
    """What processes tell each other before a step, in one small message: denominators, and the wish to stop."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._names: tuple[str, ...] | None = None

    def exchange(self, counts: Sequence[Mapping[str, Tensor]], wants_to_stop: bool) -> tuple[dict[str, Tensor], Tensor]:
        """Add the counts of all micro-batches and processes.

        Returns:
            The totals, and how many processes want to stop (on the device: reading it would wait).

        Raises:
            ValueError: A task counted other names than before.
        """
        names = tuple(sorted(counts[0]))
        self._names = names if self._names is None else self._names
        if any(tuple(sorted(count)) != self._names for count in counts):
            raise ValueError(f"Task.denominators: gave {names}, earlier {self._names}; the names must stay the same")
        sums = [torch.stack([torch.as_tensor(c[n], device=self._device).double() for c in counts]).sum() for n in names]
        stop = torch.tensor(float(wants_to_stop), dtype=torch.float64, device=self._device)
        totals = torch.stack([*sums, stop])
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(totals)
        return dict(zip(names, totals[:-1].float().unbind(), strict=True)), totals[-1]


def _gradients_stay_local(model: nn.Module, enabled: bool) -> AbstractContextManager[None]:
    """Before the last micro-batch nothing is sent to the other processes."""
    if enabled and isinstance(model, DistributedDataParallel):
        context: AbstractContextManager[None] = model.no_sync()
        return context
    return nullcontext()


def _clip(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, clip_norm: float) -> Tensor:
    """Norm of the gradient before clipping; frozen parameters have no gradient and do not count."""
    scaler.unscale_(optimizer)
    trained = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return nn.utils.clip_grad_norm_(trained, clip_norm)
