"""Stops a run at the first loss or gradient that is not finite, and keeps the batch that did it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posecore.errors import RunError
from posecore.training.batches import to_plain


class LateRead:
    """A device tensor on its way to the host: the copy is queued now and waited for only when it is read."""

    def __init__(self, value: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = value
        if value.is_cuda:
            self._host = torch.empty_like(value, device="cpu", pin_memory=True)
            self._host.copy_(value, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def read(self) -> float:
        if self._event is not None:
            self._event.synchronize()
        return float(self._host)


@dataclass(frozen=True)
class _Step:
    step: int
    terms: Mapping[str, Tensor]
    batches: Sequence[Any]
    is_finite: LateRead


class FiniteCheck:
    """Looks at each step one step later, so that the device is never waited for; `verify` looks at once.

    Weights that a bad step has spoilt are never saved: the loop verifies before it saves.
    """

    def __init__(self, run_dir: Path, rank: int) -> None:
        self._file = run_dir / ("nonfinite_batch.pt" if rank == 0 else f"nonfinite_batch.rank{rank}.pt")
        self._rank = rank
        self._pending: _Step | None = None

    def push(self, step: int, terms: Mapping[str, Tensor], batches: Sequence[Any]) -> None:
        """Remember this step and verify the one before.

        Raises:
            RunError: See `verify`.
        """
        values = torch.stack([value.detach().float() for value in terms.values()])
        late = LateRead(values.isfinite().all())
        self.verify()
        self._pending = _Step(step, {name: value.detach() for name, value in terms.items()}, batches, late)

    def verify(self) -> None:
        """Raises:
        RunError: A term of the last step was not finite; names step and terms, the batch is saved.
        """
        pending, self._pending = self._pending, None
        if pending is None or pending.is_finite.read():
            return
        bad = [name for name, value in pending.terms.items() if not bool(value.isfinite())]
        culprits = [name for name in bad if name != "total"] or bad
        report = {"step": pending.step, "rank": self._rank, "terms": to_plain(pending.terms)}
        torch.save({**report, "batches": to_plain(pending.batches)}, self._file)
        values = ", ".join(f"{name} is {float(pending.terms[name])}" for name in culprits)
        raise RunError(
            f"step {pending.step}: {values}; the batch is saved in {self._file}, the last checkpoint is good"
        )
