"""The order of samples is a pure function of (seed, epoch), and is shared out over steps, micro-batches and ranks."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from posecore.data.sampler import GlobalBatchSampler, epoch_subset


@given(
    num_samples=st.integers(1, 60),
    micro=st.integers(1, 3),
    world=st.integers(1, 3),
    size=st.integers(1, 3),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 9),
)
def test_the_ranks_and_micro_batches_of_a_step_are_the_global_batch(num_samples, micro, world, size, seed, epoch):
    global_batch = micro * world * size
    ranks = [
        list(
            GlobalBatchSampler(num_samples, global_batch, seed, rank=r, world_size=world, micro_batches=micro).batches(
                epoch
            )
        )
        for r in range(world)
    ]
    sampler = GlobalBatchSampler(num_samples, global_batch, seed)
    order = sampler.order(epoch).tolist()
    assert sorted(order) == list(range(num_samples))
    assert len(ranks[0]) == sampler.steps(epoch) * micro
    for step in range(sampler.steps(epoch)):
        shared = [i for m in range(micro) for rank in ranks for i in rank[step * micro + m]]
        assert shared == order[step * global_batch : (step + 1) * global_batch]


def test_starting_at_a_step_gives_the_rest_of_the_epoch():
    sampler = GlobalBatchSampler(50, 6, seed=3, micro_batches=2, world_size=3, rank=1)
    assert list(sampler.batches(4, start_step=5)) == list(sampler.batches(4))[10:]
    assert list(sampler.batches(4, start_step=8)) == []


def test_epochs_and_seeds_have_different_orders():
    orders = [tuple(GlobalBatchSampler(40, 4, seed).order(e).tolist()) for seed in range(4) for e in range(4)]
    assert len(set(orders)) == 16


def test_the_last_batch_is_dropped_or_shared_out():
    assert GlobalBatchSampler(11, 4, 0).steps(0) == 2
    kept = [GlobalBatchSampler(11, 4, 0, drop_last=False, world_size=2, rank=r) for r in (0, 1)]
    last = [list(sampler.batches(0))[-1] for sampler in kept]
    assert [len(part) for part in last] == [1, 2]
    assert last[0] + last[1] == kept[0].order(0).tolist()[8:]
    with pytest.raises(ValueError, match="1 samples for world_size=2"):
        GlobalBatchSampler(9, 4, 0, drop_last=False, world_size=2)


def test_a_fraction_draws_the_reference_subset_anew_each_epoch(reference):
    splits = reference("smil_regressor/splits")
    for total in (103, 20):
        count, seed = len(splits[f"N{total}_train"]), int(splits[f"N{total}_fraction_seed"])
        for epoch in (0, 1, 5):
            expected = splits[f"N{total}_fraction0.1_ep{epoch}"]
            np.testing.assert_array_equal(epoch_subset(count, 0.1, seed, epoch), expected)
            order = GlobalBatchSampler(count, 1, seed, fraction=0.1).order(epoch)
            assert sorted(order.tolist()) == sorted(expected)


def test_a_fraction_of_few_samples_keeps_one():
    assert GlobalBatchSampler(3, 1, 0, fraction=0.1).steps(0) == 1


def test_weights_set_how_often_a_sample_is_drawn():
    weights = [0.0, 1.0, 3.0, 0.0]
    draws = GlobalBatchSampler(4, 2, 7, weights=weights)
    counts = torch.bincount(torch.cat([draws.order(e) for e in range(2000)]), minlength=4)
    assert counts[0] == counts[3] == 0
    assert counts[2] / counts[1] == pytest.approx(3.0, rel=0.1)
    assert draws.order(5).tolist() == draws.order(5).tolist()


def test_a_sample_drawn_twice_in_an_epoch_gets_two_keys():
    sampler = GlobalBatchSampler(2, 8, 0, weights=[1.0, 0.0], fraction=1.0, drop_last=False)
    (batch,) = sampler.draws(0)
    assert [draw.sample for draw in batch] == [0, 0]
    assert batch[0].key != batch[1].key


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"world_size": 3}, "global_batch=8 is not divisible by world_size=3"),
        ({"rank": 2, "world_size": 2}, "rank=2 is not below world_size=2"),
        ({"fraction": 0.0}, r"fraction=0.0 is not in \(0, 1\]"),
        ({"weights": [1.0]}, r"shape \(1,\), expected \(10,\)"),
        ({"weights": [0.0] * 10}, "one of them above 0"),
        ({"weights": [float("nan")] * 10}, "must be finite"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GlobalBatchSampler(10, 8, 0, **options)


def test_a_start_beyond_the_epoch_is_refused():
    with pytest.raises(ValueError, match="start_step=6"):
        list(GlobalBatchSampler(10, 2, 0).batches(0, start_step=6))
