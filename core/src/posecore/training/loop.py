"""`fit`: the training loop of all systems."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from posecore.training import checkpoints, preemption
from posecore.training.checkpoints import load_checkpoint
from posecore.training.config import FitConfig
from posecore.training.finite import FiniteCheck, LateRead
from posecore.training.launch import launched
from posecore.training.outputs import Outputs
from posecore.training.progress import start_table
from posecore.training.provenance import write_provenance
from posecore.training.run import Run
from posecore.training.starting_point import prepare_folder, starting_point
from posecore.training.step import StepTotals, train_step
from posecore.training.task import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitResult:
    """How a run ended."""

    run_dir: Path
    step: int
    epoch: int
    metrics: dict[str, float | None]
    """The newest validation metrics."""
    best: float | None
    """The best value of the metric that the task watches."""
    best_checkpoint: Path | None
    also_best: dict[str, Path]
    """The best checkpoints by the task's further metrics."""
    last_checkpoint: Path | None
    was_preempted: bool
    """Saved before the end because of a signal; a preempted SLURM job was put back into the queue."""


def fit(task: Task[Any], config: FitConfig, run_dir: Path | str, resume: str | Path | None = None) -> FitResult:
    """Train a task: metrics, pictures and checkpoints go to the run folder.

    Args:
        resume: None begins anew in a folder that holds no run; "auto" goes on from the newest whole
            checkpoint of the folder, if there is one; a path goes on from that checkpoint.

    Raises:
        InputError: The configuration does not fit data or devices, or the checkpoint is refused.
        RunError: A loss or gradient is not finite, or a preempted job could not be requeued.
    """
    with preemption.handled(), launched(config) as fabric:
        run_dir = Path(fabric.broadcast(str(run_dir)))  # a name with a time in it differs between processes
        with Run(fabric, task, config, run_dir) as run:
            begin(run, resume)
            with Outputs(run) as outputs:
                was_preempted = train(run, outputs)
            if was_preempted and run.rank == 0:
                preemption.requeue_if_preempted()
            return result(run, was_preempted)


def begin(run: Run, resume: str | Path | None) -> None:
    """Find the starting point (one process decides for all), load it, and write down what the run is."""
    chosen = run.fabric.broadcast(starting_point(run.run_dir, resume) if run.rank == 0 else None)
    if chosen is not None:
        run.resume(load_checkpoint(chosen, run.task.name))
        logger.info("resumed from %s", chosen)
    if run.rank == 0:
        run.run_dir.mkdir(parents=True, exist_ok=True)
        prepare_folder(run.run_dir, run.step, run.best_steps)
        write_provenance(run.run_dir, run.task.resolved_config(), run.task.name, run.task.version)
        start_table(run.facts())
    run.fabric.barrier()


def train(run: Run, outputs: Outputs) -> bool:
    """Train to the end; True if a signal ended it early."""
    check, totals = FiniteCheck(run.run_dir, run.rank), StepTotals(run.device)
    stop_wishes = LateRead(run.zero())
    if run.owes_validation and (owed := outputs.validate()):
        run.save(owed)
    while not run.is_over:
        run.begin_epoch()
        for batches in outputs.timed(run.micro_batches()):
            rate = run.set_learning_rate()
            wants_to_stop = preemption.received() is not None
            denominators, stop = totals.exchange([run.task.denominators(batch) for batch in batches], wants_to_stop)
            terms = train_step(run, batches, denominators)
            check.push(run.step + 1, run.checkable(terms), batches)
            run.meter.add(terms)
            ended_epochs = run.advance()

            # Several processes agree on the wishes of the step before: those of this one are still on the device.
            earlier_wishes, stop_wishes = stop_wishes, LateRead(stop)
            must_stop = wants_to_stop if run.world_size == 1 else earlier_wishes.read() > 0
            due = what_is_due(run, ended_epochs)
            best_by: list[str] = []
            if must_stop or any(due):
                check.verify()
            if due.log:
                outputs.log(rate)
            if due.validate and not must_stop:
                best_by = outputs.validate()
            if due.figures and not must_stop:
                outputs.draw()
            if due.save or best_by or must_stop:
                run.owes_validation = due.validate and must_stop
                run.save(best_by)
            outputs.progress.advance(run.step, run.epoch)
            if must_stop:
                return True
            if run.is_over:
                break
    return False


class Due(NamedTuple):
    """What follows a step."""

    log: bool
    validate: bool
    figures: bool
    save: bool


def what_is_due(run: Run, ended_epochs: int | None) -> Due:
    """By the run's intervals; everything after the last step."""
    config, step, is_last = run.config, run.step, run.is_over
    return Due(
        log=is_last or step % config.log_every == 0,
        validate=is_last or config.validate_every.is_due(step, ended_epochs),
        figures=config.figures_every is not None and (is_last or config.figures_every.is_due(step, ended_epochs)),
        save=is_last or config.save_every.is_due(step, ended_epochs),
    )


def result(run: Run, was_preempted: bool) -> FitResult:
    """What `fit` returns, the same in all processes."""
    folder = run.run_dir / "checkpoints"
    best = folder / "best"
    written = checkpoints.all_checkpoints(folder)
    return FitResult(
        run_dir=run.run_dir,
        step=run.step,
        epoch=run.epoch,
        metrics=run.metrics,
        best=run.bests[run.task.monitor].value if run.task.monitor in run.bests else None,
        best_checkpoint=best.resolve() if best.exists() else None,
        also_best={name: (folder / f"best-{name}").resolve() for name in run.task.also_best if name in run.bests},
        last_checkpoint=written[-1] if written else None,
        was_preempted=was_preempted,
    )
