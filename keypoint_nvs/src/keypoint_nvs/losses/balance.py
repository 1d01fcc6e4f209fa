"""Weighs the terms of a step, as they are or brought to one size."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from posecore.losses import Term

BalanceKind = Literal["fixed", "ema"]
REFERENCE = "nvs"
"""The term to whose size the others are brought."""


class LossBalance(nn.Module):
    """`fixed`: sum of w_i L_i. `ema`: sum of w_i L_i EMA(L_nvs) / EMA(L_i), without gradient through the running sizes.

    The running sizes live in the model, so that checkpoints keep them. They move once an optimiser step, by the loss of
    the whole step over all micro-batches and processes, and a step uses those of the steps before: accumulated and
    distributed steps equal the step on the whole batch, and nothing waits for the device. They are means over the steps
    in which a term was there, unbiased from the first on (Kingma and Ba 2014, section 3). A term counts from the step
    after the first in which it was not 0: before that its size is unknown. The nvs term itself has the factor 1.
    """

    averages_buffers = False
    """A moving average of the weights (posecore) keeps these sizes as they are."""

    mean: Float[Tensor, " n"]
    measured: Float[Tensor, " n"]
    pending: Float[Tensor, " n"]
    is_pending: Bool[Tensor, " n"]
    last_step: Int64[Tensor, ""]

    def __init__(self, names: Sequence[str], kind: BalanceKind = "fixed", decay: float = 0.99) -> None:
        """`names`: all terms that ever come; with `ema` nvs must be among them."""
        super().__init__()
        if kind == "ema" and REFERENCE not in names:
            raise ValueError(f"balance ema needs the term {REFERENCE!r}, the terms are {', '.join(names)}")
        self.names, self.kind, self.decay = tuple(names), kind, decay
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("measured", torch.zeros(len(names)))
        self.register_buffer("pending", torch.zeros(len(names)))
        self.register_buffer("is_pending", torch.zeros(len(names), dtype=torch.bool))
        self.register_buffer("last_step", torch.tensor(-1))

    def weigh(
        self,
        terms: Mapping[str, Term],
        weights: Mapping[str, float],
        denominators: Mapping[str, Tensor] | None,
        step: int | None,
    ) -> dict[str, Tensor]:
        """Each term's loss by its name, `weighted/NAME`, and the sum of the weighted ones as `total`.

        Args:
            weights: Ramps included. Terms without a weight are reported only.
            denominators: Of the whole global batch, by the terms' names; None: the terms' own counts.
            step: Of the optimiser, the same for all its micro-batches. Then all processes must call this equally often,
                with the same terms. None: running sizes are used as they are and do not move (validation).

        Raises:
            ValueError: No term has a weight; or a term is none of those told before.
        """
        unknown = sorted(set(terms) - set(self.names))
        if unknown:
            raise ValueError(f"no term {unknown[0]!r} was told to the balance, only {', '.join(self.names)}")
        weighed = [name for name in terms if name in weights]
        if not weighed:
            raise ValueError("no loss term has a weight: nothing would be learned")
        values = {name: term.mean(None if denominators is None else denominators[name]) for name, term in terms.items()}
        if self.kind == "ema" and step is not None:
            self._note(values, step)
        factors = self._factors()
        contributions = {name: weights[name] * factors[name] * values[name] for name in weighed}
        total = torch.stack(list(contributions.values())).sum()
        return {**values, **{f"weighted/{name}": value for name, value in contributions.items()}, "total": total}

    def _factors(self) -> dict[str, Tensor | float]:
        """Of all names; copies, since the buffers move before the gradient is computed."""
        if self.kind == "fixed":
            return dict.fromkeys(self.names, 1.0)
        sizes = self.mean / torch.where(self.measured > 0, self.measured, 1)
        is_known = sizes > 0
        factors = torch.where(is_known, sizes[self.names.index(REFERENCE)] / torch.where(is_known, sizes, 1), 0)
        return dict(zip(self.names, factors.unbind(), strict=True)) | {REFERENCE: 1.0}

    @torch.no_grad()
    def _note(self, values: Mapping[str, Tensor], step: int) -> None:
        """Add a micro-batch's shares of the step; a new step first moves the running sizes by those of the last one."""
        is_new = self.last_step != step
        moves = is_new & self.is_pending
        self.mean.copy_(torch.where(moves, torch.lerp(self.pending, self.mean, self.decay), self.mean))
        ones = torch.ones_like(self.measured)
        self.measured.copy_(torch.where(moves, torch.lerp(ones, self.measured, self.decay), self.measured))
        here = torch.stack(
            [values[name].detach().float() if name in values else self.mean.new_zeros(()) for name in self.names]
        )
        is_here = torch.tensor([name in values for name in self.names], device=here.device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(here)
        self.pending.copy_(torch.where(is_new, 0, self.pending) + here)
        self.is_pending.copy_((self.is_pending & ~is_new) | is_here)
        self.last_step.fill_(step)
