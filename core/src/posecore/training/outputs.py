"""What a run writes and shows while it trains: metrics, pictures, progress."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from posecore.training.progress import ProgressDisplay
from posecore.training.run import Run
from posecore.training.trackers import Trackers, open_trackers
from posecore.training.validation import draw_figures, evaluating, improved, validate


class Outputs:
    """Writes on the first process; readings that all processes share in are taken by all."""

    def __init__(self, run: Run) -> None:
        self._run = run
        names = run.config.trackers
        self._trackers = (
            open_trackers(names, run.run_dir, run.task.resolved_config(), run.step) if run.rank == 0 else Trackers([])
        )
        self.progress = ProgressDisplay(run.total_steps, run.step, run.rank == 0)
        self._waited = 0.0
        self._logged_at, self._logged_step = time.perf_counter(), run.step

    def __enter__(self) -> "Outputs":
        self.progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.__exit__(kind, error, trace)
        self._trackers.close()

    def timed(self, batches: Iterator[list[Any]]) -> Iterator[list[Any]]:
        """The same batches; the time that the loop waits for them is counted."""
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def log(self, rate: float) -> None:
        """Loss terms and speed since the last call; the only place where training waits for the device."""
        run = self._run
        terms = run.meter.read()
        steps = max(run.step - self._logged_step, 1)
        seconds = time.perf_counter() - self._logged_at
        norm = {"grad_norm": terms.pop("grad_norm")} if "grad_norm" in terms else {}
        values: dict[str, float | None] = {f"train/{name}": value for name, value in terms.items()}
        values |= norm | self._rates(rate)
        values["samples_per_s"] = steps * run.config.batch_size / seconds
        values["data_wait_s"] = self._waited / steps
        self._trackers.log(run.step, {"epoch": run.epoch, **values})
        self.progress.measured(terms.get("total"), steps * run.config.batch_size / seconds)
        self._start_clock()

    def validate(self) -> list[str]:
        """Validate the weights that would be saved; the watched metrics by which they are the best so far."""
        run = self._run
        run.owes_validation = False
        if run.validation is None:
            return []
        with evaluating(run.model, run.average, run.config.seed, run.device):
            run.metrics = validate(
                run.task,
                run.autocast,
                run.validation,
                batch_size=run.micro_batch,
                workers=run.config.workers,
                rank=run.rank,
                world_size=run.world_size,
                device=run.device,
            )
        self._trackers.log(run.step, {"epoch": run.epoch} | {f"validation/{k}": v for k, v in run.metrics.items()})
        better = improved(run.task, run.metrics, run.step, run.bests)
        if run.step == 0:
            better = {}
        run.bests |= better
        self._start_clock()
        return list(better)

    def draw(self) -> None:
        """Pictures of predictions on the first validation samples (training samples where there are none)."""
        run = self._run
        if run.rank == 0:
            source = run.source if run.validation is None else run.validation
            with evaluating(run.model, run.average, run.config.seed, run.device):
                pictures = draw_figures(run.task, run.autocast, source, run.config.figure_samples, run.device)
            for name, picture in pictures.items():
                self._trackers.picture(run.step, name, picture)
        self._start_clock()

    def _rates(self, rate: float) -> dict[str, float | None]:
        """The scheduled rate, and each group's where there are several."""
        groups = self._run.groups
        own = {f"lr/{group.name}": rate * group.lr_multiplier for group in groups} if len(groups) > 1 else {}
        return {"lr": rate, **own}

    def _start_clock(self) -> None:
        self._logged_at, self._logged_step, self._waited = time.perf_counter(), self._run.step, 0.0
