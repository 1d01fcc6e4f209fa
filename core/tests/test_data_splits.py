"""Splits lose nothing, share nothing, and keep together what belongs together."""

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from posecore.data.splits import random_split_indices, split_blocks, split_by_group

FRACTIONS = st.sampled_from([(0.85, 0.05, 0.1), (0.5, 0.5), (0.7, 0.0, 0.3), (0.7, 0.3, 0.0), (1.0,)])


def test_random_splits_are_those_of_the_reference(reference):
    splits = reference("smil_regressor/splits")
    for total in (103, 20):
        parts = random_split_indices(total, (0.85, 0.05, 0.1), int(splits[f"N{total}_seed"]))
        for name, part in zip(("train", "val", "test"), parts, strict=True):
            np.testing.assert_array_equal(part, splits[f"N{total}_{name}"])


@given(sizes=st.lists(st.integers(1, 9), min_size=3, max_size=12), fractions=FRACTIONS, seed=st.integers(0, 99))
def test_no_group_is_in_two_parts_and_no_sample_is_lost(sizes, fractions, seed):
    groups = [f"session {g}" for g, size in enumerate(sizes) for _ in range(size)]
    parts = split_by_group(groups, fractions, seed)
    assert sorted(i for part in parts for i in part) == list(range(len(groups)))
    owners = [{groups[i] for i in part} for part in parts]
    assert sum(len(owner) for owner in owners) == len(sizes)
    assert [bool(part) for part in parts] == [fraction > 0 for fraction in fractions]
    assert parts == split_by_group(groups, fractions, seed)


def test_groups_are_dealt_out_close_to_the_fractions():
    parts = split_by_group([i // 10 for i in range(1000)], (0.8, 0.1, 0.1), seed=1)
    assert [len(part) for part in parts] == [800, 100, 100]


@given(frames=st.integers(60, 200), gap=st.integers(0, 9), fractions=FRACTIONS)
def test_blocks_follow_each_other_at_the_gap(frames, gap, fractions):
    parts = [part for part in split_blocks(frames, fractions, gap) if part]
    assert len(parts) == sum(fraction > 0 for fraction in fractions)
    assert parts[-1][-1] == frames - 1
    for part in parts:
        assert part == list(range(part[0], part[-1] + 1))
    for earlier, later in pairwise(parts):
        assert later[0] - earlier[-1] == gap + 1


def test_what_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="2 groups cannot be split into 3 parts"):
        split_by_group(["a", "b", "b"], (0.8, 0.1, 0.1), 0)
    with pytest.raises(ValueError, match="must add up to 1"):
        random_split_indices(10, (0.8, 0.1), 0)
    with pytest.raises(ValueError, match="10 frames with gaps of 5 are too few"):
        split_blocks(10, (0.8, 0.1, 0.1), 5)
