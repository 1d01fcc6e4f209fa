"""Train, validation and test parts of a data set: by frame, by group, or in blocks of time."""

from collections.abc import Hashable, Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch


def random_split_indices(num_samples: int, fractions: Sequence[float], seed: int) -> list[list[int]]:
    """A permutation cut into parts of int(fraction * n), the last of which takes the rest.

    The same as `torch.utils.data.random_split` with these lengths and a generator with that seed.

    Neighbouring frames of a video land in different parts: use `split_by_group` or `split_blocks` to measure how
    well a model does on what it has not seen.

    Raises:
        ValueError: Fractions that are negative or do not add up to 1.
    """
    lengths = _lengths(num_samples, fractions)
    order = torch.randperm(num_samples, generator=torch.Generator().manual_seed(seed)).tolist()
    return [order[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]


def split_by_group(groups: Sequence[Hashable], fractions: Sequence[float], seed: int) -> list[list[int]]:
    """Each group (session, animal, video) lies in one part whole, so that nothing leaks; indices ascend in each part.

    Groups are shuffled, then each goes to the part that lacks most samples. A part with a fraction
    above 0 gets at least one group.

    Raises:
        ValueError: There are fewer groups than parts.
    """
    _check(fractions)
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    wanted = [part for part, fraction in enumerate(fractions) if fraction > 0]
    if len(members) < len(wanted):
        raise ValueError(f"{len(members)} groups cannot be split into {len(wanted)} parts without a leak")
    names = list(members)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    parts: list[list[int]] = [[] for _ in fractions]
    for left, name in zip(range(len(shuffled), 0, -1), shuffled, strict=True):
        empty = [part for part in wanted if not parts[part]]
        candidates = empty if len(empty) == left else wanted
        lacking = {part: fractions[part] * len(groups) - len(parts[part]) for part in candidates}
        parts[max(candidates, key=lacking.__getitem__)] += members[name]
    return [sorted(part) for part in parts]


def split_blocks(num_frames: int, fractions: Sequence[float], gap: int) -> list[list[int]]:
    """Consecutive blocks of one video, in the order of the parts; `gap` frames between two of them go unused.

    Raises:
        ValueError: The gaps leave a part without a frame.
    """
    _check(fractions)
    wanted = [fraction for fraction in fractions if fraction > 0]
    lengths = _lengths(num_frames - gap * (len(wanted) - 1), wanted)
    if min(lengths) < 1:
        raise ValueError(f"{num_frames} frames with gaps of {gap} are too few for parts of {tuple(fractions)}")
    starts = accumulate([length + gap for length in lengths], initial=0)
    blocks = iter([list(range(start, start + length)) for start, length in zip(starts, lengths, strict=False)])
    return [next(blocks) if fraction > 0 else [] for fraction in fractions]


def _lengths(total: int, fractions: Sequence[float]) -> list[int]:
    _check(fractions)
    lengths = [int(fraction * total) for fraction in fractions[:-1]]
    return [*lengths, total - sum(lengths)]


def _check(fractions: Sequence[float]) -> None:
    if any(fraction < 0 for fraction in fractions) or abs(sum(fractions) - 1.0) > 1e-6:
        raise ValueError(f"fractions {tuple(fractions)} must not be negative and must add up to 1")


__all__ = ["random_split_indices", "split_blocks", "split_by_group"]
