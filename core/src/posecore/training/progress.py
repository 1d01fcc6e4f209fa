"""What a person sees of a run: a table, then a bar at a terminal, or a plain line every 30 s in a job log."""

import logging
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


class ProgressDisplay:
    """Shows step, epoch, loss, samples a second and the time left; silent on ranks above 0."""

    def __init__(self, total_steps: int, done_steps: int, is_rank_zero: bool) -> None:
        self._total, self._first = total_steps, done_steps
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._is_silent = not is_rank_zero
        self._loss: float | None = None
        self._rate = 0.0
        if is_rank_zero and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )

    def __enter__(self) -> "ProgressDisplay":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total, completed=self._first, epoch=0, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def measured(self, loss: float | None, samples_per_s: float) -> None:
        """New numbers, when they are logged."""
        self._loss, self._rate = loss, samples_per_s

    def advance(self, step: int, epoch: int) -> None:
        """After each step; costs microseconds."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, epoch=epoch, text=self._numbers())
        elif not self._is_silent and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            logger.info(
                "step %d/%d  epoch %d  %s  %s left", step, self._total, epoch, self._numbers(), self._left(step)
            )

    def _numbers(self) -> str:
        return "" if self._loss is None else f"loss {self._loss:.4g}  {self._rate:.3g} samples/s"

    def _left(self, step: int) -> str:
        elapsed = time.monotonic() - self._started
        seconds = elapsed / max(step - self._first, 1) * (self._total - step)
        return f"{int(seconds // 3600)}:{int(seconds // 60) % 60:02d}:{int(seconds) % 60:02d}"


def start_table(rows: dict[str, object]) -> None:
    """One aligned line a fact."""
    width = max(len(name) for name in rows)
    logger.info("\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items()))
