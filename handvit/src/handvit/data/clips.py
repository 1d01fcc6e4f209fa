"""Clips inside sequences: where they start, which of them are drawn, how ranks share them."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from jaxtyping import Bool, Int64

Segment = tuple[int, int, int]
"""Shard, its first clip, the clip behind its last."""


def count_clips(
    num_frames: Int64[np.ndarray, " s"], length: int, stride: int = 1, frame_step: int = 1
) -> Int64[np.ndarray, " s"]:
    """Clips of `length` frames in sequences of so many: clip i begins at frame i * stride."""
    span = (length - 1) * frame_step + 1
    return np.asarray(np.maximum(0, (num_frames - span) // stride + 1))


def all_clips(
    num_frames: Int64[np.ndarray, " s"], length: int, stride: int = 1, frame_step: int = 1
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Sequence and first frame of every clip, in order."""
    counts = count_clips(num_frames, length, stride, frame_step)
    sequence = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)
    return sequence, number * stride


def strata(
    sequence: Int64[np.ndarray, " n"], per_sequence: int
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Cut each sequence's clips into `per_sequence` parts (fewer where it has fewer), as even as can be.

    One clip is drawn from each part: they are never the same, and any clip can be drawn.

    Args:
        sequence: Of each clip, ascending.

    Returns:
        First clip of each part, and the one behind its last.
    """
    _, first, sizes = np.unique(sequence, return_index=True, return_counts=True)
    parts = np.minimum(sizes, per_sequence)
    which = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    first, sizes, parts = (np.repeat(values, parts) for values in (first, sizes, parts))
    return first + which * sizes // parts, first + (which + 1) * sizes // parts


def passing_clips(
    good: Bool[np.ndarray, " f"], first_frame: Int64[np.ndarray, " n"], length: int, frame_step: int, policy: str
) -> Bool[np.ndarray, " n"]:
    """Clips whose frames are good.

    Args:
        good: Of each frame of all sequences, one after the other.
        first_frame: Of each clip, counted through all sequences.
        policy: Which frames must be good: all, last or any.
    """
    if policy == "last":
        return np.asarray(good[first_frame + (length - 1) * frame_step])
    counts = sum(good[first_frame + frame * frame_step].astype(np.int64) for frame in range(length))
    return np.asarray(counts == length if policy == "all" else counts > 0)


def split_clip_range(shard_clip_counts: Sequence[int], parts: int, rank: int) -> list[Segment]:
    """This rank's even share of all clips, shard by shard; shards without a clip of its own are left out."""
    if not 0 <= rank < parts:
        raise ValueError(f"{rank=} is not below {parts=}")
    ends = list(accumulate(shard_clip_counts))
    total = ends[-1] if ends else 0
    low, high = total * rank // parts, total * (rank + 1) // parts
    segments = []
    for shard, (count, end) in enumerate(zip(shard_clip_counts, ends, strict=True)):
        start = end - count
        if max(low, start) < min(high, end):
            segments.append((shard, max(low, start) - start, min(high, end) - start))
    return segments
