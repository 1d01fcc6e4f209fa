"""Neighbouring frames of one object together, for terms that compare them."""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Protocol, runtime_checkable

import numpy as np

from keypoint_nvs.data.batch import StoredBatch, ViewSample, collate
from posecore.errors import InputError

Clip = tuple[ViewSample, ...]


@runtime_checkable
class FrameSource(Protocol):
    """Samples whose ids are OBJECT/FRAME."""

    @property
    def sample_ids(self) -> Sequence[str]: ...
    @property
    def image_px(self) -> int: ...
    def __len__(self) -> int: ...
    def load(self, index: int, rng: np.random.Generator) -> ViewSample: ...


class ClipSource:
    """`frames` samples of an object (of a store) or folder (of pictures) that follow each other; one clip from each
    sample on that has so many.

    Frames are ordered by the numbers in their names; a frame that is missing in between is not waited for.

    Raises:
        InputError: No object has so many frames; names the data set.
    """

    def __init__(self, source: FrameSource, frames: int, name: str) -> None:
        self.source, self.frames = source, frames
        self.image_px = source.image_px
        self._clips = [
            tuple(run[start : start + frames])
            for run in _runs(source.sample_ids)
            for start in range(len(run) - frames + 1)
        ]
        if not self._clips:
            raise InputError(f"{name}: no object has {frames} frames (samples OBJECT/0, OBJECT/1, ...)")

    def __len__(self) -> int:
        return len(self._clips)

    def load(self, index: int, rng: np.random.Generator) -> Clip:
        """
        Raises:
            InputError: As of the source's own samples.
        """
        return tuple(self.source.load(frame, rng) for frame in self._clips[index])


def collate_clips(items: Sequence[ViewSample | Clip]) -> StoredBatch:
    """Stack samples, or the frames of clips one clip after the other."""
    return collate([sample for item in items for sample in ((item,) if isinstance(item, ViewSample) else item)])


def _runs(sample_ids: Sequence[str]) -> list[list[int]]:
    """Samples of each object, in the order of their frames."""
    keys = [(object_name, natural(frame)) for object_name, _, frame in (name.rpartition("/") for name in sample_ids)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return [list(run) for _, run in groupby(order, key=lambda index: keys[index][0])]


def natural(name: str) -> list[tuple[int, str]]:
    """What names are sorted by so that numbers in them count by their value."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", name)]
