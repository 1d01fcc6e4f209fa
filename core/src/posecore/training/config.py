"""The part of a system's configuration that the training loop reads. Nothing here imports torch."""

import math
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from posecore.config import Config

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class Constant(Config):
    """The same rate from the end of warm-up on."""

    kind: Literal["constant"] = "constant"

    def factor(self, fraction: float) -> float:
        return 1.0


class Cosine(Config):
    """A cosine from 1 after warm-up down to the end of the run."""

    kind: Literal["cosine"] = "cosine"
    floor: Fraction = 0.0
    """The lowest point of the curve, as a fraction of `lr`."""
    cycle: Annotated[float, Field(gt=0.0, le=0.5)] = 0.5
    """How much of a full period the run covers: 0.5 ends at the floor, 0.4 at 9.5 % above it."""

    def factor(self, fraction: float) -> float:
        """`fraction` runs from 0 at the end of warm-up to 1 at the end of the run."""
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(2.0 * math.pi * self.cycle * fraction))


class Steps(Config):
    """Rates that change at given epochs or steps; before the first key the rate is `lr`."""

    kind: Literal["steps"] = "steps"
    by: Literal["epoch", "step"] = "epoch"
    rates: dict[NonNegativeInt, PositiveFloat]
    """First epoch (or step), counted from 0, at which the rate holds: {"10": 3e-5, "60": 1e-5}."""

    def rate(self, position: int) -> float | None:
        """The rate at this epoch or step, None before the first key."""
        reached = [key for key in self.rates if key <= position]
        return self.rates[max(reached)] if reached else None


class Every(Config):
    """How often: after so many epochs, or after so many steps."""

    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "Every":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("exactly one of epochs and steps is needed")
        return self

    def is_due(self, step: int, ended_epochs: int | None) -> bool:
        """After `step` steps in all; `ended_epochs` is how many epochs are over if one has just ended, else None."""
        if self.steps is not None:
            return step % self.steps == 0
        assert self.epochs is not None
        return ended_epochs is not None and ended_epochs % self.epochs == 0


class FitConfig(Config):
    """How to train: length, batches, rates, devices, what is written when."""

    epochs: PositiveInt | None = None
    """How many times through the data (through `fraction` of it)."""
    max_steps: PositiveInt | None = None
    """How many optimizer steps; with `epochs` as well, whichever ends first."""
    batch_size: PositiveInt = 8
    """Samples of one optimizer step, over all devices and micro-batches together."""
    accumulation: PositiveInt = 1
    """Micro-batches that each device adds up for one step."""
    fraction: Share = 1.0
    """Share of the training samples that an epoch draws, anew each epoch."""

    lr: PositiveFloat = 1e-4
    """Peak learning rate, reached after warm-up."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the rate grows linearly to its scheduled value."""
    warmup_start: Fraction = 0.0
    """Fraction of the scheduled rate from which warm-up grows."""
    schedule: Annotated[Constant | Cosine | Steps, Field(discriminator="kind")] = Constant()
    optimizer: Literal["adamw"] = "adamw"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 1e-2
    clip_norm: PositiveFloat | None = 1.0
    """Largest norm of the gradient of all trained parameters together; null: no clipping."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of the moving average of the weights that is validated and predicts; null: the weights themselves."""

    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: PositiveInt | Literal["auto"] = "auto"
    """Processes a node, one a GPU; auto: what torchrun or SLURM started, else all GPUs, else one CPU process."""
    nodes: PositiveInt | Literal["auto"] = "auto"
    """Machines; auto: what torchrun or SLURM started, else one."""
    strategy: Literal["auto", "ddp"] = "auto"
    """auto: ddp as soon as there are several processes."""
    find_unused_parameters: bool = False
    """For models where a trained parameter may get no gradient in some steps (ddp then searches, which costs time)."""
    timeout_minutes: PositiveFloat = 30.0
    """How long a process waits for the others before it gives up."""
    compile: bool = False
    """Compile the model with torch.compile."""
    deterministic: bool = False
    """Only algorithms whose result does not vary from run to run, also on GPUs (slower)."""
    seed: NonNegativeInt = 0

    workers: NonNegativeInt = 0
    """Processes that load data, for each device."""
    prefetch: PositiveInt = 2
    """Micro-batches that each of them loads ahead."""
    pin_memory: bool = True
    """On GPUs, load batches into page-locked memory, from which they are copied while the device computes."""

    log_every: PositiveInt = 10
    """Steps between two lines of metrics."""
    validate_every: Every = Every(epochs=1)
    validate_at_start: bool = True
    """Validate once before the first step: a failing metric shows at once, and the curve has a beginning."""
    figures_every: Every | None = Every(epochs=1)
    """Pictures of predictions on the first validation samples."""
    figure_samples: PositiveInt = 8
    save_every: Every = Every(epochs=1)
    keep_last: PositiveInt = 3
    """Checkpoints kept besides the best."""
    trackers: list[Literal["tensorboard", "aim", "wandb"]] = ["tensorboard"]
    """Where metrics go besides metrics.jsonl."""

    @model_validator(mode="after")
    def _has_an_end(self) -> "FitConfig":
        if self.epochs is None and self.max_steps is None:
            raise ValueError("one of epochs and max_steps is needed")
        return self

    @model_validator(mode="after")
    def _micro_batches_are_whole(self) -> "FitConfig":
        if self.batch_size % self.accumulation:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by accumulation {self.accumulation}")
        return self
