"""Validation over all processes, and pictures of predictions. Neither disturbs the training."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from posecore.data.loader import evaluation_batches
from posecore.errors import RunError
from posecore.training import _random
from posecore.training.batches import to_device
from posecore.training.ema import MovingAverage
from posecore.training.launch import sum_over_ranks
from posecore.training.precision import Autocast
from posecore.training.task import SampleSource, Task


def validate(
    task: Task[Any],
    model: Autocast,
    source: SampleSource,
    *,
    batch_size: int,
    workers: int,
    rank: int,
    world_size: int,
    device: torch.device,
) -> dict[str, float | None]:
    """Mean of each metric over all samples, each counted once; None where nothing was counted."""
    sums: dict[str, float] = {}
    batches = evaluation_batches(source, batch_size, task.collate, rank=rank, world_size=world_size, workers=workers)
    totals: dict[str, torch.Tensor] = {}
    for batch in batches:
        for name, (total, count) in task.validate(model, to_device(batch, device)).items():
            pair = torch.stack([torch.as_tensor(v, device=device).double() for v in (total, count)])
            totals[name] = totals[name] + pair if name in totals else pair
    for name, pair in totals.items():
        total, count = pair.tolist()
        sums |= {f"total {name}": total, f"count {name}": count}
    sums = sum_over_ranks(sums)
    names = [key.removeprefix("total ") for key in sums if key.startswith("total ")]
    return {name: _mean(sums[f"total {name}"], sums[f"count {name}"]) for name in names}


def draw_figures(
    task: Task[Any], model: Autocast, source: SampleSource, samples: int, device: torch.device
) -> Mapping[str, UInt8[np.ndarray, "h w 3"]]:
    """The task's pictures of the first samples of a source."""
    count = min(samples, len(source))
    loaded = [source.load(index, np.random.default_rng((0, 0, index))) for index in range(count)]
    return task.figures(model, to_device(task.collate(loaded), device))


@contextmanager
def evaluating(model: nn.Module, average: MovingAverage | None, seed: int, device: torch.device) -> Iterator[None]:
    """Evaluation mode, averaged weights, no gradients and the same random numbers each time; all put back after."""
    modes = [(module, module.training) for module in model.modules()]
    with ExitStack() as stack:
        stack.enter_context(_random.fixed(seed, device))
        stack.enter_context(torch.no_grad())
        if average is not None:
            stack.enter_context(average.swapped_in(model))
        model.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


class Best(NamedTuple):
    """The best value of a metric so far, and its step."""

    value: float
    step: int


def improved(
    task: Task[Any], metrics: Mapping[str, float | None], step: int, bests: Mapping[str, Best]
) -> dict[str, Best]:
    """The watched metrics that are better than ever, those that were not counted left out.

    Raises:
        RunError: The task watches a metric that its validation does not give.
    """
    better = {}
    for name in dict.fromkeys((task.monitor, *task.also_best)):
        if metrics and name not in metrics:
            raise RunError(f"{task.name}: the metric to watch is {name!r}, validation gives {', '.join(metrics)}")
        value = metrics.get(name)
        if value is not None and math.isfinite(value) and _is_better(task, value, bests.get(name)):
            better[name] = Best(value, step)
    return better


def _is_better(task: Task[Any], value: float, best: Best | None) -> bool:
    return best is None or (value < best.value if task.monitor_mode == "min" else value > best.value)


def _mean(total: float, count: float) -> float | None:
    return total / count if count else None
