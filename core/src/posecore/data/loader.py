"""Loads the sampler's batches, here or in worker processes: the same batches for any number of workers."""

import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from posecore.data.packing import Packed, pack
from posecore.data.sampler import Draw, GlobalBatchSampler
from posecore.data.structure import map_tensors
from posecore.errors import InputError

Collate = Callable[[list[Any]], Any]


@runtime_checkable
class Source(Protocol):
    """A map-style dataset whose random draws come from the generator that it is handed (training.SampleSource)."""

    def __len__(self) -> int: ...

    def load(self, index: int, rng: np.random.Generator) -> Any: ...


class Loader:
    """This rank's micro-batches of one epoch after the other. Where it stands is one integer, the step in the epoch.

    Worker processes live until `close`, and go on to load the next epoch while the last batches of
    this one are used or a validation runs.
    """

    def __init__(
        self,
        source: Source,
        sampler: GlobalBatchSampler,
        collate: Collate,
        *,
        workers: int,
        prefetch: int,
        seed: int,
        pin_memory: bool,
    ) -> None:
        if len(source) != sampler.num_samples:
            raise ValueError(f"the source has {len(source)} samples, the sampler draws from {sampler.num_samples}")
        if sampler.steps(0) == 0:
            raise ValueError(
                f"{sampler.epoch_samples} samples an epoch are less than a batch of {sampler.global_batch}"
            )
        self.sampler = sampler
        self._route = _Route(sampler)
        self._batches = _data_loader(_Batches(source, collate, (seed,)), self._route, workers, prefetch, pin_memory)
        self._running: Iterator[_Loaded] | None = None
        self._next = (-1, -1)  # epoch, micro-batch that `_running` gives next
        # Runs at the latest before multiprocessing's own exit handler, which would wait for the workers for ever.
        self._finalizer = weakref.finalize(self, _shut_down, self._batches)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Any]:
        """This rank's micro-batches of the epoch from `start_step` on.

        Raises:
            InputError: A sample is damaged; the same message that its source gave, whichever process loaded it.
        """
        if not self._finalizer.alive:
            raise ValueError("the loader is closed")
        first = start_step * self.sampler.micro_batches
        if (epoch, first) != self._next or self._running is None:
            self._route.start = (epoch, start_step)
            self._running = iter(self._batches)
        running = self._running
        for position in range(first, self.sampler.steps(epoch) * self.sampler.micro_batches):
            self._next = (epoch, position + 1)
            yield next(running).unwrap()
        self._next = (epoch + 1, 0)

    def close(self) -> None:
        """End the worker processes. Safe to call twice."""
        self._running = None
        self._finalizer()


def make_loader(
    source: Source,
    sampler: GlobalBatchSampler,
    collate: Collate,
    *,
    workers: int,
    prefetch: int = 2,
    seed: int,
    pin_memory: bool = False,
) -> Loader:
    """A loader with `workers` processes that each load `prefetch` micro-batches ahead; 0: load in this process.

    Sample i of an epoch is `source.load(i, rng)`, rng seeded by (seed, epoch, i), whoever loads it.
    """
    return Loader(source, sampler, collate, workers=workers, prefetch=prefetch, seed=seed, pin_memory=pin_memory)


def evaluation_batches(
    source: Source,
    batch_size: int,
    collate: Collate,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> Iterator[Any]:
    """This rank's part of all samples, in order; over all ranks each sample once, with no padding.

    Ranks take contiguous parts whose lengths differ by at most one; the last batch of a rank may be
    smaller. Draws are seeded by (0, 0, index): every evaluation sees the same.
    """
    if batch_size < 1 or not 0 <= rank < world_size:
        raise ValueError(f"{batch_size=} must be positive and {rank=} below {world_size=}")
    start, end = (len(source) * part // world_size for part in (rank, rank + 1))
    route = [
        [Draw(index, (0, index)) for index in range(first, min(first + batch_size, end))]
        for first in range(start, end, batch_size)
    ]
    loader = _data_loader(_Batches(source, collate, (0,)), route, min(workers, len(route)), 2, False)
    try:
        for loaded in loader:
            yield loaded.unwrap()
    finally:
        _shut_down(loader)


@dataclass(frozen=True)
class _Loaded:
    """A batch, or what is wrong with it, on its way from a worker. torch calls `pin_memory` in its pinning thread."""

    batch: Any
    problems: tuple[str, ...] | None = None

    def pin_memory(self, device: Any = None) -> "_Loaded":
        if isinstance(self.batch, Packed):
            return _Loaded(self.batch.pin_memory(), self.problems)
        return _Loaded(map_tensors(torch.Tensor.pin_memory, self.batch), self.problems)

    def unwrap(self) -> Any:
        if self.problems is not None:
            raise InputError(self.problems)
        return self.batch.unpack() if isinstance(self.batch, Packed) else self.batch


class _Batches(torch.utils.data.Dataset[Any]):
    """What runs in a worker: draws in, a collated batch out."""

    def __init__(self, source: Source, collate: Collate, seed: tuple[int, ...]) -> None:
        self._source, self._collate, self._seed = source, collate, seed

    def __getitem__(self, draw: Draw) -> Any:
        return self._source.load(draw.sample, np.random.default_rng(self._seed + draw.key))

    def __getitems__(self, draws: Sequence[Draw]) -> _Loaded:
        try:
            batch = self._collate([self[draw] for draw in draws])
        except InputError as error:  # torch would wrap it into a traceback of text
            return _Loaded(None, error.problems)
        # what a queue cannot pickle it drops, and the run would wait for ever; `pack` says what is wrong
        return _Loaded(batch if get_worker_info() is None else pack(batch))


class _Route:
    """The draws of all micro-batches from `start` on, epoch after epoch without end."""

    def __init__(self, sampler: GlobalBatchSampler) -> None:
        self._sampler = sampler
        self.start = (0, 0)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, step = self.start
        while True:
            yield from self._sampler.draws(epoch, step)
            epoch, step = epoch + 1, 0


def _data_loader(batches: _Batches, route: Any, workers: int, prefetch: int, pin_memory: bool) -> "DataLoader[Any]":
    return DataLoader(
        batches,
        batch_sampler=route,
        collate_fn=_as_is,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=_begin_worker,
        generator=torch.Generator(),  # else torch draws from the global one, and a resumed run goes another way
    )


def _as_is(loaded: Any) -> Any:
    return loaded


def _begin_worker(worker: int) -> None:
    """One thread a worker. Signals are left to the main process: SLURM sends them to all, and it still has to save."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _shut_down(loader: "DataLoader[Any]") -> None:
    """torch has no public way to end persistent workers at a chosen moment."""
    running = getattr(loader, "_iterator", None)
    if running is not None:
        running._shutdown_workers()
        loader._iterator = None


__all__ = ["Loader", "evaluation_batches", "make_loader"]
