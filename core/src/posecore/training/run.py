"""A run: everything that training changes, built from a task, saved to a checkpoint and brought back from one."""

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from posecore.data.loader import Loader, make_loader
from posecore.data.sampler import GlobalBatchSampler
from posecore.errors import InputError
from posecore.training import _random, checkpoints
from posecore.training.batches import to_device
from posecore.training.checkpoints import Checkpoint
from posecore.training.config import FitConfig
from posecore.training.ema import MovingAverage
from posecore.training.launch import gather
from posecore.training.meter import Meter
from posecore.training.optimizer import build_optimizer, set_learning_rates
from posecore.training.precision import Autocast, gradient_scaler
from posecore.training.provenance import changed_fields
from posecore.training.schedules import scheduled_rate
from posecore.training.task import Progress, Task, Terms
from posecore.training.validation import Best

logger = logging.getLogger(__name__)


class Run:
    """Model, optimizer, data and position of one run, in one of its processes."""

    def __init__(self, fabric: Fabric, task: Task[Any], config: FitConfig, run_dir: Path) -> None:
        self.task, self.config, self.run_dir = task, config, run_dir
        self.fabric, self.device = fabric, fabric.device
        self.rank, self.world_size = fabric.global_rank, fabric.world_size
        self.micro_batch = _micro_batch_size(config, self.world_size)
        _random.seed_everything(config.seed)  # the same initial weights in all processes
        self.model = task.build_model().to(self.device)
        self.autocast = Autocast(_compiled(self.model, config), config.precision, self.device.type)
        self.scaler = gradient_scaler(config.precision, self.device.type)
        self.average = None if config.ema_decay is None else MovingAverage(self.model, config.ema_decay)
        self.source, self.validation = task.train_source(), task.validation_source()
        self.sampler = self._sampler()
        self.loader: Loader = make_loader(
            self.source,
            self.sampler,
            task.collate,
            workers=config.workers,
            prefetch=config.prefetch,
            seed=config.seed,
            pin_memory=config.pin_memory and self.device.type == "cuda",
        )
        self.epoch = self.step = self.step_in_epoch = 0
        self.steps_per_epoch = self.sampler.steps(0)
        self.total_steps = self._total_steps()
        self.bests: dict[str, Best] = {}
        self.metrics: dict[str, float | None] = {}
        self.owes_validation = config.validate_at_start
        self.meter = Meter()
        self.task.begin_epoch(self.model, self.progress)
        self.groups = task.parameter_groups(self.model)
        self.optimizer = build_optimizer(self.model, self.groups, config)
        self.forward: nn.Module = self.autocast
        self._trained: tuple[bool, ...] = ()
        _random.seed_everything(config.seed, self.rank)

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loader.close()

    @property
    def progress(self) -> Progress:
        return Progress(self.epoch, self.step, self.step / self.total_steps)

    @property
    def is_over(self) -> bool:
        return self.step >= self.total_steps

    def begin_epoch(self) -> None:
        """Let the task set what depends on the epoch; if other parameters train now, processes agree on them anew."""
        self.task.begin_epoch(self.model, self.progress)
        trained = tuple(parameter.requires_grad for parameter in self.model.parameters())
        if trained != self._trained:
            self._trained = trained
            self.forward = self.autocast  # the old wrapper must be gone before the new one hooks into the gradients
            self.forward = self.fabric.strategy.setup_module(self.autocast)

    def micro_batches(self) -> Iterator[list[Any]]:
        """This process's micro-batches of each step that is left of the epoch, on its device."""
        micro_batches = iter(self.loader.epoch(self.epoch, self.step_in_epoch))
        prepare = self.task.prepare
        while batches := [prepare(to_device(b, self.device)) for b in islice(micro_batches, self.config.accumulation)]:
            yield batches

    def set_learning_rate(self) -> float:
        """Set and return the rate of the coming step."""
        own = self.task.learning_rate(self.progress)
        rate = scheduled_rate(self.config, self.step, self.epoch, self.total_steps) if own is None else own
        set_learning_rates(self.optimizer, self.groups, rate)
        return rate

    def advance(self) -> int | None:
        """Count a step; how many epochs are over if one has just ended, else None."""
        if self.average is not None:
            self.average.update(self.model)
        self.step += 1
        self.step_in_epoch += 1
        if self.step_in_epoch < self.steps_per_epoch:
            return None
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        return self.epoch

    def zero(self) -> Tensor:
        return torch.zeros((), device=self.device)

    def checkable(self, terms: Terms) -> Terms:
        """The terms that must be finite; the scaler of float16 answers to an infinite gradient by skipping the step."""
        return {k: v for k, v in terms.items() if k != "grad_norm"} if self.scaler.is_enabled() else terms

    def facts(self) -> dict[str, object]:
        """What a person wants to know before the first step."""
        config, numel = self.config, sum(p.numel() for p in self.model.parameters())
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        split = f"{self.world_size} processes x {config.accumulation} x {self.micro_batch}"
        return {
            "run folder": self.run_dir,
            "device": f"{self.device.type} x {self.world_size}, {config.precision}",
            "batch": f"{config.batch_size} = {split}",
            "samples": f"{len(self.source)} train, {0 if self.validation is None else len(self.validation)} validation",
            "steps": f"{self.step} of {self.total_steps} done, {self.steps_per_epoch} an epoch",
            "learning rate": f"{config.lr:g}, {config.schedule.kind}, warm-up {config.warmup_steps} steps",
            "parameters": f"{trained:,} trained, {numel - trained:,} frozen",
            "seed": config.seed,
        }

    @property
    def best_steps(self) -> dict[str, int]:
        """Steps of the best checkpoints, by the names of the links to them."""
        links = {"best": self.task.monitor} | {f"best-{name}": name for name in self.task.also_best}
        return {link: self.bests[name].step for link, name in links.items() if name in self.bests}

    def save(self, best_by: Sequence[str]) -> None:
        """Write a checkpoint, the best by some metrics; all processes call this, the first one writes."""
        state = self._state()
        if self.rank == 0:
            checkpoints.save_checkpoint(
                self.run_dir,
                system=self.task.name,
                system_version=self.task.version,
                step=self.step,
                epoch=self.epoch,
                weights=self.model.state_dict() if self.average is None else self.average.averages,
                state=state,
                config=self.task.resolved_config(),
                metrics=self.metrics,
                is_best=self.task.monitor in best_by,
                also_best=[name for name in self.task.also_best if name in best_by],
                keep_last=self.config.keep_last,
            )
        self.fabric.barrier()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint, whatever number of processes or workers wrote it."""
        state = checkpoint.training_state()
        source = str(checkpoint.folder / checkpoints.STATE)
        _tell_changes(checkpoint.config, self.task.resolved_config())
        own_weights = state["training_weights"]
        checkpoints.load_weights(self.model, checkpoint.weights if own_weights is None else own_weights, source)
        if self.average is not None:
            self.average = MovingAverage(self.model, self.average.decay)
            if own_weights is not None:
                self.average.updates = state["average_updates"]
                self.average.averages = {k: v.to(self.device) for k, v in checkpoint.weights.items()}
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except ValueError as error:
            raise InputError(f"{source}: optimizer: does not fit this configuration: {error}") from None
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self._resume_position(state)
        self.owes_validation = state["owes_validation"]
        self.metrics = dict(checkpoint.metrics)
        self.bests = {name: Best(*best) for name, best in state.get("also_best", {}).items()}
        if state["best"] is not None:
            self.bests[state.get("monitor", self.task.monitor)] = Best(state["best"], state["best_step"])
        self.meter.load(state["meter"], keeps_sums=self.rank == 0)
        if self.rank < len(state["random"]):
            _random.restore(state["random"][self.rank], self.device)
        else:
            _random.seed_everything(self.config.seed, self.rank, self.step)

    def _state(self) -> dict[str, Any]:
        best = self.bests.get(self.task.monitor)
        return {
            "step": self.step,
            "epoch": self.epoch,
            "samples_in_epoch": self.step_in_epoch * self.config.batch_size,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "training_weights": None if self.average is None else self.model.state_dict(),
            "average_updates": None if self.average is None else self.average.updates,
            "monitor": self.task.monitor,
            "best": best.value if best is not None else None,
            "best_step": best.step if best is not None else None,
            "also_best": {name: tuple(found) for name, found in self.bests.items() if name != self.task.monitor},
            "owes_validation": self.owes_validation,
            "meter": self.meter.state(),
            "random": gather(_random.capture(self.device)),
        }

    def _resume_position(self, state: dict[str, Any]) -> None:
        self.step, self.epoch = state["step"], state["epoch"]
        self.step_in_epoch, rest = divmod(state["samples_in_epoch"], self.config.batch_size)
        if rest:
            logger.warning("batch_size has changed: %d samples of epoch %d are seen a second time", rest, self.epoch)
        if self.step_in_epoch >= self.steps_per_epoch:
            self.epoch, self.step_in_epoch = self.epoch + 1, 0
        self.total_steps = self._total_steps()

    def _sampler(self) -> GlobalBatchSampler:
        config, samples = self.config, len(self.source)
        sampler = GlobalBatchSampler(
            samples,
            config.batch_size,
            config.seed,
            rank=self.rank,
            world_size=self.world_size,
            micro_batches=config.accumulation,
            fraction=config.fraction,
            weights=self.task.sample_weights(),
        )
        if sampler.steps(0) == 0:
            drawn = f"{samples} training samples" + (f" x fraction {config.fraction}" if config.fraction < 1 else "")
            raise InputError(f"batch_size: {config.batch_size} is more than an epoch has: {drawn}")
        return sampler

    def _total_steps(self) -> int:
        limits = []
        if self.config.max_steps is not None:
            limits.append(self.config.max_steps)
        if self.config.epochs is not None:
            left = (self.config.epochs - self.epoch) * self.steps_per_epoch - self.step_in_epoch
            limits.append(self.step + max(left, 0))
        return min(limits)


def _micro_batch_size(config: FitConfig, world_size: int) -> int:
    """Samples that one process handles at a time."""
    parts = world_size * config.accumulation
    if config.batch_size % parts:
        lower = config.batch_size // parts * parts
        raise InputError(
            f"batch_size: {config.batch_size} is not divisible by {world_size} processes x {config.accumulation} "
            f"micro-batches; {lower or parts} or {lower + parts} would be"
        )
    return config.batch_size // parts


def _compiled(model: nn.Module, config: FitConfig) -> nn.Module:
    return torch.compile(model) if config.compile else model  # type: ignore[return-value]


def _tell_changes(old: dict[str, Any], new: dict[str, Any]) -> None:
    for line in changed_fields(old, new):
        logger.info("changed since the checkpoint: %s", line)
