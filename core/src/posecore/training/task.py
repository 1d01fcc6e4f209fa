"""What the training loop asks of a system."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from torch import Tensor, nn

Batch = TypeVar("Batch")
Terms = dict[str, Tensor]


@runtime_checkable
class SampleSource(Protocol):
    """A map-style dataset whose random draws come from the generator that it is handed.

    The generator is seeded from (seed, epoch, index), so a sample does not depend on the
    worker or process that loads it, nor on what was loaded before.
    """

    def __len__(self) -> int: ...

    def load(self, index: int, rng: np.random.Generator) -> Any: ...


@dataclass(frozen=True)
class Progress:
    """Where the run is, for curricula: epoch and step count from 0; `fraction` runs from 0 to 1 over the whole run."""

    epoch: int
    step: int
    fraction: float


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate: the scheduled rate times `lr_multiplier`."""

    name: str
    parameters: Sequence[nn.Parameter]
    lr_multiplier: float = 1.0
    weight_decay: float | None = None
    """None: the run's own weight decay."""


class Task(ABC, Generic[Batch]):
    """One system's share of `fit`: its model, data, loss, metrics and figures.

    Loss terms add up over micro-batches and processes. A term is a sum over what it counts,
    divided by a denominator that belongs to the whole global batch: `denominators` counts one
    micro-batch, the loop adds the counts over micro-batches and processes, and `loss` divides by
    those totals. So an accumulated or distributed step equals the step on the whole batch, for
    masked losses too.
    """

    name: str
    """The system, written into checkpoints; a checkpoint of another system is refused."""
    version: str
    monitor: str = "loss"
    """Name of the validation metric that chooses `checkpoints/best`."""
    monitor_mode: Literal["min", "max"] = "min"
    """Also of `also_best`."""
    also_best: Sequence[str] = ()
    """Further validation metrics; the best checkpoint of each is kept as `checkpoints/best-NAME`."""

    @abstractmethod
    def resolved_config(self) -> dict[str, Any]:
        """The complete configuration as plain JSON types; saved in the run and in every checkpoint."""

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The network, on the CPU, initialised from torch's global generator (seeded by the loop)."""

    @abstractmethod
    def train_source(self) -> SampleSource: ...

    def validation_source(self) -> SampleSource | None:
        return None

    def sample_weights(self) -> Sequence[float] | None:
        """How often each training sample is drawn, relative to the others; None: each once an epoch."""
        return None

    @abstractmethod
    def collate(self, samples: list[Any]) -> Batch:
        """Stack samples into a batch: a dataclass or dict of tensors (and plain values)."""

    def prepare(self, batch: Batch) -> Batch:
        """Change a training batch on its device, before `denominators` and `loss` see it: augmentation. Default: nothing.

        Its draws must come from seeds that the samples carry, or results depend on how the batch was split.
        """
        return batch

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        """All parameters, also those frozen for now, so that unfreezing does not change the optimizer's layout."""
        return [ParameterGroup("all", list(model.parameters()))]

    def begin_epoch(self, model: nn.Module, progress: Progress) -> None:
        """Set what depends on the epoch: requires_grad of frozen parts, their train/eval mode. Draws no random numbers.

        Called at the start of each epoch, and once more where a run resumes within one.
        """
        model.train()

    def denominators(self, batch: Batch) -> Mapping[str, Tensor]:
        """Scalar counts of this micro-batch, by the names that `loss` divides by; always the same names. Default: none.

        A total may be 0 (nothing labelled in a whole batch): `loss` has to answer to that.
        """
        return {}

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, denominators: Mapping[str, Tensor], progress: Progress) -> Terms:
        """Weighed loss terms of one micro-batch; `total` is what is differentiated.

        `model` is the wrapped module: call it (its forward), never a method of the module inside,
        or gradients are not averaged over processes.
        """

    def validate(self, model: nn.Module, batch: Batch) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Metric name -> (sum, count) over this batch; the loop divides the totals over all processes.

        The batch holds real samples only: samples that pad the last global batch are cut before.
        """
        return {}

    def figures(self, model: nn.Module, batch: Batch) -> Mapping[str, UInt8[np.ndarray, "h w 3"]]:
        """RGB pictures of predictions on a fixed validation batch, by name."""
        return {}

    def learning_rate(self, progress: Progress) -> float | None:
        """The rate at this point, or None to use the schedule of the run's config."""
        return None


__all__ = ["ParameterGroup", "Progress", "SampleSource", "Task", "Terms"]
