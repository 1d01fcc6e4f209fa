"""Clips of T frames as training and evaluation ask for them: any of them at any time."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from handvit.config.data import FilterConfig
from handvit.data.clips import all_clips, passing_clips, split_clip_range, strata
from handvit.data.filters import Dropped, good_frames
from handvit.data.frame_labels import UNKNOWN
from handvit.data.frame_table import FrameTable, open_frames
from handvit.data.members import CHANNELS
from handvit.data.records import ClipRecord, Handedness
from handvit.data.sample import Sample, changed
from handvit.data.shards import ClipShards, PoseMean
from posecore.errors import InputError

Prepare = Callable[[ClipRecord, np.random.Generator], Sample]


@dataclass(frozen=True)
class ClipRules:
    """Which clips there are."""

    num_frames: int = 1
    """T."""
    stride: int = 1
    frame_step: int = 1
    per_sequence: int | None = None
    """Clips drawn from each sequence; None: all of them."""
    filter: FilterConfig = field(default_factory=FilterConfig)


class Origin(NamedTuple):
    """Which frame of the raw data it is; empty where the shards do not say."""

    image: str
    """Its picture, the same for both hands in it."""
    source_index: str
    """Its ids, as JSON text."""


class ClipSource:
    """Clips of the shards' sequences. With `rules.per_sequence` an item is one of several clips, drawn when loaded.

    Args:
        prepare: Makes the sample of a clip's record (`preparation.Preparation`).
        pose_mean: Of samples whose meta.json does not say it.
        hands_mean: Mean pose of the right hand, where poses are relative.

    Raises:
        InputError: A shard is missing or damaged, or no clip passes the filter.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        prepare: Prepare,
        rules: ClipRules,
        *,
        pose_mean: PoseMean = "absolute",
        hands_mean: Float[np.ndarray, "45"] | None = None,
    ) -> None:
        self.rules, self._prepare = rules, prepare
        self.clips = ClipShards(shards, pose_mean=pose_mean, hands_mean=hands_mean)
        self.table, self._labels = open_frames(list(shards))
        self._first_frame = self.table.first_frame
        self._sequence, self._start, self.dropped = passing(self.table, rules)
        if not len(self._sequence):
            more = f" and {len(shards) - 1} more" if len(shards) > 1 else ""
            raise InputError(
                f"{shards[0]}{more}: no clip of {rules.num_frames} frames passes the filter ({self.dropped}); "
                "loosen data filter, or take shorter clips"
            )
        every = np.arange(len(self._sequence))
        per_sequence = rules.per_sequence
        parts = (every, every + 1) if per_sequence is None else strata(self._sequence, per_sequence)
        self._low: Int64[np.ndarray, " n"] = parts[0]
        self._high: Int64[np.ndarray, " n"] = parts[1]

    def __len__(self) -> int:
        return len(self._low)

    def load(self, index: int, rng: np.random.Generator) -> Sample:
        """The sample of a clip; its key is shard, key and first frame.

        Raises:
            InputError: The clip is damaged; names shard, key and frame.
        """
        which = self._draw(index, rng)
        sequence, start = int(self._sequence[which]), int(self._start[which])
        sample = self._sample(which, f"{self.clips.where(sequence)}[{start}]", rng)
        return changed(sample, key=f"{self.clips.shard(sequence).name}: {self.clips.key(sequence)}[{start}]")

    def record(self, index: int) -> ClipRecord:
        """The T frames of a clip as they are stored; of several clips the first."""
        return self._read(int(self._low[index]), notes=True)

    def origin(self, index: int) -> Origin:
        """Where the clip's last frame comes from."""
        which = int(self._low[index])
        last = int(self._start[which]) + (self.rules.num_frames - 1) * self.rules.frame_step
        record = self.clips.read(int(self._sequence[which]), [last], pictures=False)
        has_path = bool(record.imgs_path) and bool(record.imgs_path[0])
        ids = record.source_index[0] if record.source_index else {}
        return Origin(f"{record.data_source}/{record.imgs_path[0]}" if has_path else "", json.dumps(ids) if ids else "")

    @property
    def data_sources(self) -> Shaped[np.ndarray, " n"]:
        """The data set of each clip, as its sample says it."""
        return np.asarray(self.table.data_source[self._sequence[self._low]])

    @property
    def root_depth_mm(self) -> Float[np.ndarray, " n"]:
        """Of the last frame of each clip, of several clips of the middle one; NaN where it is not known."""
        middle = (self._low + self._high - 1) // 2
        last = self._start[middle] + (self.rules.num_frames - 1) * self.rules.frame_step
        return np.asarray(self.table.root_depth_mm[self.table.first_frame[self._sequence[middle]] + last])

    def shard_clip_counts(self) -> list[int]:
        """Clips of this source in each shard."""
        shard = self.clips.shard_numbers[self._sequence[self._low]]
        return np.bincount(shard, minlength=len(self.clips.paths)).tolist()  # type: ignore[no-any-return]

    def part(self, rank: int, parts: int) -> "ClipSource":
        """An even share of the clips; over all ranks each clip once.

        Raises:
            InputError: There are fewer clips than parts, and this one has none.
        """
        counts = self.shard_clip_counts()
        return self.select(segments_to_indices(counts, split_clip_range(counts, parts, rank)))

    def select(self, indices: Int64[np.ndarray, " k"]) -> "ClipSource":
        """A source of some of the clips, in that order.

        Raises:
            InputError: None are chosen.
        """
        if not len(indices):
            raise InputError(f"{self.clips.paths[0]}: none of its {len(self)} clips is in this part; take fewer parts")
        chosen = copy.copy(self)
        chosen._low, chosen._high = self._low[indices], self._high[indices]
        return chosen

    def _sample(self, which: int, where: str, rng: np.random.Generator) -> Sample:
        try:
            return self._prepare(self._labelled(which, where), rng)
        except InputError:
            self._read(which, notes=False)  # checks all that the shard says, and tells it better
            raise

    def _draw(self, index: int, rng: np.random.Generator) -> int:
        low, high = int(self._low[index]), int(self._high[index])
        return low if high - low == 1 else int(rng.integers(low, high))

    def _frames(self, which: int) -> range:
        """Of the clip, counted in its sequence."""
        start, step = int(self._start[which]), self.rules.frame_step
        return range(start, start + self.rules.num_frames * step, step)

    def _read(self, which: int, notes: bool) -> ClipRecord:
        return self.clips.read(int(self._sequence[which]), self._frames(which), notes=notes)

    def _labelled(self, which: int, key: str, pictures: bool = True) -> ClipRecord:
        """What samples are made of: labels that are kept beside the shard, and pictures out of it."""
        sequence, frames = int(self._sequence[which]), self._frames(which)
        first = int(self._first_frame[sequence])
        rows = self._labels.read(range(first + frames.start, first + frames.stop, frames.step))
        columns = rows["column"].tolist()
        if pictures and UNKNOWN in columns:
            return replace(self._read(which, notes=False), key=key)
        encoded = [b""] * len(frames)
        if pictures:
            checksums = rows["crc32"].tolist()
            known = None if UNKNOWN in checksums else checksums
            encoded = self.clips.read_pictures(sequence, frames, columns, known)
        side: Handedness = "left" if self.table.is_left[sequence] else "right"
        labels: dict[str, Any] = {channel.field: rows[channel.field] for channel in CHANNELS.values()}
        says: PoseMean | None = _POSE_MEANS[int(rows["pose_is_relative"][0])]
        labels["mano_pose"] = self.clips.absolute_pose(sequence, labels["mano_pose"], labels["has_mano"], side, says)
        return ClipRecord(
            key=key,
            frames=encoded,
            frame_format="jpg",
            handedness=side,
            data_source=str(self.table.data_source[sequence]),
            source_split="",
            **labels,
        )


_POSE_MEANS: dict[int, PoseMean | None] = {UNKNOWN: None, 0: "absolute", 1: "relative"}


def segments_to_indices(counts: Sequence[int], segments: Sequence[tuple[int, int, int]]) -> Int64[np.ndarray, " k"]:
    """Places of the segments' clips among all clips."""
    starts = np.cumsum([0, *counts])
    ranges = [np.arange(starts[shard] + start, starts[shard] + end) for shard, start, end in segments]
    return np.concatenate(ranges) if ranges else np.zeros(0, np.int64)


def passing(table: FrameTable, rules: ClipRules) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"], Dropped]:
    """Sequence and first frame of each clip that passes, and what does not."""
    good, few_joints, small_box = good_frames(table, rules.filter.min_valid_joints, rules.filter.min_box_px)
    sequence, start = all_clips(table.num_frames, rules.num_frames, rules.stride, rules.frame_step)
    first = table.first_frame[sequence] + start
    passes: Bool[np.ndarray, " n"] = passing_clips(good, first, rules.num_frames, rules.frame_step, rules.filter.policy)
    # Without an area there is nothing to cut a patch from, whatever the policy.
    passes &= passing_clips(table.box_edge_px > 0, first, rules.num_frames, rules.frame_step, "all")
    dropped = Dropped(
        frames=len(good),
        few_joints=few_joints,
        small_box=small_box,
        clips=len(passes),
        dropped_clips=int((~passes).sum()),
        short_sequences=len(table.num_frames) - len(np.unique(sequence)),
    )
    return sequence[passes], start[passes], dropped
