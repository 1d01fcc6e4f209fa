"""Random numbers that depend on a seed and a counter alone."""

import torch

from posecore.data.counter_random import normals, uniforms

SEEDS = torch.arange(200) * 7919 + 3


def test_a_seeds_numbers_do_not_depend_on_its_batch():
    whole = uniforms(SEEDS, 2, 50)
    assert torch.equal(torch.cat([uniforms(SEEDS[i : i + 1], 2, 50) for i in range(200)]), whole)
    assert torch.equal(uniforms(SEEDS, 2, 20), whole[:, :20])


def test_streams_and_seeds_differ_and_numbers_fill_0_to_1():
    numbers = uniforms(SEEDS, 0, 100)
    assert numbers.unique().numel() > 19_900
    assert not (numbers == uniforms(SEEDS, 1, 100)).any(1).all()
    assert 0 <= numbers.min() < 0.001
    assert 0.999 < numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.01
    correlation = torch.corrcoef(torch.stack([numbers[:-1].flatten(), numbers[1:].flatten()]))[0, 1]
    assert abs(correlation) < 0.03


def test_normals_have_mean_0_and_variance_1_also_for_odd_counts():
    numbers = normals(SEEDS, 5, 101)
    assert numbers.shape == (200, 101)
    assert abs(numbers.mean()) < 0.03
    assert abs(numbers.var() - 1) < 0.03
    assert numbers.isfinite().all()
