"""Where clips start, which are drawn, how ranks share them: laws and the reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handvit.data.clips import all_clips, count_clips, passing_clips, split_clip_range, strata

lengths = st.lists(st.integers(0, 40), min_size=1, max_size=8).map(np.array)
small = st.integers(1, 9)


def test_counts_of_clips_equal_the_reference(reference):
    clips = reference("clips")
    for length, stride, *counts in clips["rows_T_stride_counts"].tolist():
        np.testing.assert_array_equal(count_clips(clips["total_frames"], length, stride), counts)


def test_segments_of_ranks_equal_the_reference(reference):
    clips = reference("clips")
    counts = clips["shard_clip_counts"].tolist()
    for parts in sorted({row[0] for row in clips["segments_parts_rank_shard_start_end"].tolist()}):
        found = [(parts, rank, *segment) for rank in range(parts) for segment in split_clip_range(counts, parts, rank)]
        rows = clips["segments_parts_rank_shard_start_end"]
        assert found == [tuple(row) for row in rows[rows[:, 0] == parts].tolist()]


@given(st.lists(st.integers(0, 20), max_size=6), st.integers(1, 8))
def test_ranks_cover_every_clip_once_and_evenly(counts, parts):
    segments = [split_clip_range(counts, parts, rank) for rank in range(parts)]
    found = [(shard, clip) for rank in segments for shard, start, end in rank for clip in range(start, end)]
    assert found == [(shard, clip) for shard, count in enumerate(counts) for clip in range(count)]
    sizes = [sum(end - start for _, start, end in rank) for rank in segments]
    assert max(sizes) - min(sizes) <= 1


def test_a_rank_beyond_the_parts_is_refused():
    with pytest.raises(ValueError, match="rank=2 is not below parts=2"):
        split_clip_range([3], 2, 2)


@given(lengths, small, small, small)
def test_clips_lie_inside_their_sequence_and_none_is_missing(num_frames, length, stride, frame_step):
    sequence, start = all_clips(num_frames, length, stride, frame_step)
    span = (length - 1) * frame_step
    expected = [(s, first) for s, n in enumerate(num_frames) for first in range(0, n, stride) if first + span < n]
    assert list(zip(sequence, start, strict=True)) == expected
    np.testing.assert_array_equal(
        np.bincount(sequence, minlength=len(num_frames)), count_clips(num_frames, length, stride, frame_step)
    )


@given(lengths, small)
def test_strata_of_a_sequence_are_disjoint_and_cover_it(counts, per_sequence):
    sequence = np.repeat(np.arange(len(counts)), counts)
    low, high = strata(sequence, per_sequence)
    covered = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)] or [np.zeros(0)])
    np.testing.assert_array_equal(covered, np.arange(len(sequence)))
    assert (high > low).all()
    np.testing.assert_array_equal(np.bincount(sequence[low], minlength=len(counts)), np.minimum(counts, per_sequence))


@given(lengths, small, small, st.floats(0, 1), st.integers(0, 99))
def test_policies_ask_the_frames_of_the_clip_alone(num_frames, length, frame_step, share, seed):
    good = np.random.default_rng(seed).random(num_frames.sum()) < share
    sequence, start = all_clips(num_frames, length, 1, frame_step)
    first = (np.cumsum(num_frames) - num_frames)[sequence] + start
    frames = [good[f : f + (length - 1) * frame_step + 1 : frame_step] for f in first]
    for policy, judge in (("all", all), ("any", any), ("last", lambda clip: clip[-1])):
        found = passing_clips(good, first, length, frame_step, policy)
        np.testing.assert_array_equal(found, [judge(clip) for clip in frames])
