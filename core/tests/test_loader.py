"""Batches do not depend on who loads them, a run resumes from one integer, and errors arrive as they were raised."""

import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from posecore.data.loader import evaluation_batches, make_loader
from posecore.data.sampler import GlobalBatchSampler
from posecore.errors import InputError


@dataclass(frozen=True)
class Batch:
    index: torch.Tensor
    noise: torch.Tensor
    pid: int


class Noise:
    """Samples of an index and a random number; sample `damaged` raises."""

    def __init__(self, count: int, damaged: int = -1) -> None:
        self.count, self.damaged = count, damaged

    def __len__(self) -> int:
        return self.count

    def load(self, index: int, rng: np.random.Generator) -> tuple[int, float]:
        if index == self.damaged:
            raise InputError(f"shard-000.tar: {index:06d}.jpg: not an image")
        return index, rng.standard_normal()


def collate(samples: list[tuple[int, float]]) -> Batch:
    index, noise = zip(*samples, strict=True)
    return Batch(torch.tensor(index), torch.tensor(noise, dtype=torch.float64), os.getpid())


def loader_of(source, workers=0, seed=0, **options):
    sampler = GlobalBatchSampler(len(source), 4, seed, micro_batches=2, **options)
    return make_loader(source, sampler, collate, workers=workers, seed=seed)


def values(batches):
    return [(b.index.tolist(), b.noise.tolist()) for b in batches]


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_for_any_number_of_workers_over_two_epochs_and_a_resumed_one(workers):
    here, there = loader_of(Noise(21)), loader_of(Noise(21), workers)
    global_state = torch.get_rng_state()
    expected = [values(here.epoch(e)) for e in range(3)]
    assert values(there.epoch(0)) == expected[0]
    assert values(there.epoch(1)) == expected[1]
    assert values(there.epoch(2, start_step=3)) == expected[2][6:]
    unfinished = there.epoch(0)
    next(unfinished)
    assert values(there.epoch(1)) == expected[1]
    there.close()
    assert torch.equal(torch.get_rng_state(), global_state)


def test_a_resumed_loader_gives_the_rest_of_the_epoch():
    assert values(loader_of(Noise(40)).epoch(3, start_step=7)) == values(loader_of(Noise(40)).epoch(3))[14:]


def test_a_sample_has_other_draws_in_another_epoch_seed_or_position():
    first, other_seed = loader_of(Noise(8)), loader_of(Noise(8), seed=1)
    noise = [dict(zip(i, n, strict=True)) for e in (0, 1) for i, n in values(first.epoch(e))]
    noise += [dict(zip(i, n, strict=True)) for i, n in values(other_seed.epoch(0))]
    drawn = [value for batch in noise for value in batch.values()]
    assert len(set(drawn)) == 24
    weighted = loader_of(Noise(8), weights=[1.0] + [0.0] * 7)
    assert len({n for _, batch in values(weighted.epoch(0)) for n in batch}) == 8


def test_worker_processes_outlive_epochs_and_end_when_closed():
    loader = loader_of(Noise(16), workers=2)
    workers = {batch.pid for epoch in range(3) for batch in loader.epoch(epoch)}
    assert len(workers) == 2
    assert os.getpid() not in workers
    loader.close()
    loader.close()
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(ValueError, match="closed"):
        next(loader.epoch(0))


def test_signals_that_reach_the_whole_job_do_not_end_the_workers():
    loader = loader_of(Noise(40), workers=1)
    batches = loader.epoch(0)
    first = next(batches)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        os.kill(first.pid, number)
    assert len(list(batches)) == 19
    loader.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_sample_is_told_in_the_line_that_its_source_gave(workers):
    loader = loader_of(Noise(8, damaged=5), workers)
    with pytest.raises(InputError) as caught:
        list(loader.epoch(0))
    loader.close()
    assert str(caught.value) == "shard-000.tar: 000005.jpg: not an image"


@pytest.mark.parametrize(("count", "world_size", "workers"), [(10, 1, 0), (10, 3, 0), (2, 3, 0), (10, 2, 2)])
def test_evaluation_sees_each_sample_once_over_all_ranks(count, world_size, workers):
    seen = []
    for rank in range(world_size):
        batches = evaluation_batches(Noise(count), 3, collate, rank, world_size, workers)
        seen += [pair for i, n in values(batches) for pair in zip(i, n, strict=True)]
    alone = [(i, np.random.default_rng((0, 0, i)).standard_normal()) for i in range(count)]
    assert seen == alone


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="memory is pinned for a CUDA device, and there is none")
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_of_dataclasses_arrive_pinned_when_asked(workers):
    sampler = GlobalBatchSampler(8, 4, seed=0)
    loader = make_loader(Noise(8), sampler, collate, workers=workers, seed=0, pin_memory=True)
    assert all(batch.index.is_pinned() and batch.noise.is_pinned() for batch in loader.epoch(0))
    loader.close()


def test_a_source_and_a_sampler_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="the source has 3 samples, the sampler draws from 4"):
        make_loader(Noise(3), GlobalBatchSampler(4, 1, 0), collate, workers=0, seed=0)
    with pytest.raises(ValueError, match="3 samples an epoch are less than a batch of 4"):
        loader_of(Noise(3))


def test_a_batch_of_a_class_that_cannot_travel_between_processes_is_an_error_not_a_wait():
    @dataclass(frozen=True)
    class Local:
        index: torch.Tensor

    sampler = GlobalBatchSampler(8, 4, 0)
    loader = make_loader(Noise(8), sampler, lambda samples: Local(torch.zeros(len(samples))), workers=1, seed=0)
    try:
        with pytest.raises(TypeError, match="their classes must stand in modules"):
            next(iter(loader.epoch(0)))
    finally:
        loader.close()
