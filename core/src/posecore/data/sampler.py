"""Which samples make up each step: a pure function of seed, epoch and step, so a run resumes from one integer."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor


class Draw(NamedTuple):
    """One sample of an epoch, and what makes its random draws differ from all others."""

    sample: int
    key: tuple[int, ...]
    """(epoch, sample); when samples can be drawn twice in an epoch, (epoch, sample, position in the epoch)."""


class GlobalBatchSampler:
    """Cuts each epoch's order into global batches of G samples, and gives one process its share of each.

    Step k takes `order(epoch)[k*G:(k+1)*G]`. That slice is cut into `micro_batches` parts one after the other, and
    each of them into `world_size` contiguous parts, one a rank. So the samples of a step do not depend on how many
    processes share it.

    With `fraction` below 1 an epoch sees a part of the data, chosen anew each epoch. With `weights` samples are
    drawn with replacement, in proportion to their weight.

    Raises:
        ValueError: The global batch cannot be cut evenly; weights of the wrong length, negative or all zero.
    """

    def __init__(
        self,
        num_samples: int,
        global_batch: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        micro_batches: int = 1,
        drop_last: bool = True,
        fraction: float = 1.0,
        weights: Sequence[float] | Float[Tensor, " n"] | None = None,
    ) -> None:
        if num_samples < 1 or global_batch < 1 or micro_batches < 1 or seed < 0:
            raise ValueError(
                f"{num_samples=}, {global_batch=}, {micro_batches=} must be positive, {seed=} not negative"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"{rank=} is not below {world_size=}")
        if global_batch % (world_size * micro_batches):
            raise ValueError(f"{global_batch=} is not divisible by {world_size=} x {micro_batches=}")
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"{fraction=} is not in (0, 1]")
        self.num_samples, self.global_batch, self.seed = num_samples, global_batch, seed
        self.rank, self.world_size, self.micro_batches = rank, world_size, micro_batches
        self.drop_last, self.fraction = drop_last, fraction
        self.weights = None if weights is None else _checked_weights(weights, num_samples)
        self.epoch_samples = max(1, int(num_samples * fraction))
        rest = self.epoch_samples % global_batch
        if not drop_last and 0 < rest < world_size * micro_batches:
            raise ValueError(
                f"the last batch of an epoch has {rest} samples for {world_size=} x {micro_batches=} parts; drop it"
            )

    def steps(self, epoch: int) -> int:
        """Optimizer steps of an epoch."""
        whole, rest = divmod(self.epoch_samples, self.global_batch)
        return whole + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> Int64[Tensor, " m"]:
        """Sample indices of the whole epoch, over all ranks, in the order in which they are used."""
        generator = _generator(self.seed, epoch)
        if self.weights is not None:
            return _draw_with_replacement(self.weights, self.epoch_samples, generator)
        if self.fraction == 1.0:
            return torch.randperm(self.num_samples, generator=generator)
        members = epoch_subset(self.num_samples, self.fraction, self.seed, epoch)
        return members[torch.randperm(len(members), generator=generator)]

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[list[int]]:
        """Indices of this rank's micro-batches, `micro_batches` of them for each step from `start_step` on."""
        for draws in self.draws(epoch, start_step):
            yield [draw.sample for draw in draws]

    def draws(self, epoch: int, start_step: int = 0) -> Iterator[list[Draw]]:
        """As `batches`, with the key of each sample's random draws."""
        if not 0 <= start_step <= self.steps(epoch):
            raise ValueError(f"{start_step=} is not in 0..{self.steps(epoch)}")
        order = self.order(epoch).tolist()
        for step in range(start_step, self.steps(epoch)):
            start = step * self.global_batch
            positions = range(start, min(start + self.global_batch, len(order)))
            for micro_batch in _cut(positions, self.micro_batches):
                share = _cut(micro_batch, self.world_size)[self.rank]
                yield [Draw(order[p], self._key(epoch, order[p], p)) for p in share]

    def _key(self, epoch: int, index: int, position: int) -> tuple[int, ...]:
        return (epoch, index) if self.weights is None else (epoch, index, position)


def epoch_subset(num_samples: int, fraction: float, seed: int, epoch: int) -> Int64[Tensor, " m"]:
    """The part of the data that an epoch sees: the first int(n * fraction), at least one, of a permutation.

    Its generator is seeded with seed + epoch, as the original SMIL trainer does, so that runs can be compared.
    """
    generator = torch.Generator().manual_seed(seed + epoch)
    return torch.randperm(num_samples, generator=generator)[: max(1, int(num_samples * fraction))]


def _generator(seed: int, epoch: int) -> torch.Generator:
    """Seed and epoch mixed, not added: neighbouring seeds must not share their epochs' orders."""
    mixed = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed >> np.uint64(1)))  # torch takes 63 bits


def _draw_with_replacement(
    weights: Float[Tensor, " n"], count: int, generator: torch.Generator
) -> Int64[Tensor, " count"]:
    """By inverting the cumulative sum: torch.multinomial stops at 2^24 samples."""
    cumulative = torch.cumsum(weights, dim=0)
    points = torch.rand(count, generator=generator, dtype=torch.float64) * cumulative[-1]
    return torch.searchsorted(cumulative, points, right=True).clamp_(max=int(weights.nonzero()[-1]))


def _checked_weights(weights: Sequence[float] | Tensor, num_samples: int) -> Float[Tensor, " n"]:
    checked = torch.as_tensor(weights, dtype=torch.float64)
    if checked.shape != (num_samples,):
        raise ValueError(f"weights: shape {tuple(checked.shape)}, expected ({num_samples},)")
    if not bool(torch.isfinite(checked).all()) or bool((checked < 0).any()) or not bool((checked > 0).any()):
        raise ValueError("weights: must be finite and not negative, and one of them above 0")
    return checked


def _cut(positions: range, parts: int) -> list[range]:
    """Contiguous parts whose lengths differ by at most one."""
    bounds = [len(positions) * part // parts for part in range(parts + 1)]
    return [positions[a:b] for a, b in pairwise(bounds)]


__all__ = ["Draw", "GlobalBatchSampler", "epoch_subset"]
