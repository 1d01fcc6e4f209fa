"""The checked labels of all frames of a shard, kept beside it, so that training reads nothing but pictures from the tar.

`X.tar.labels.npy` has a row for each frame, in the order of `frame_table`, which writes it, and says whose rows they are.
It is mapped, not read: processes share its pages.
"""

import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from handvit.data.members import CHANNELS
from handvit.data.records import ClipRecord
from handvit.data.shards import StoredPictures
from posecore.errors import InputError

UNKNOWN = -1

ROW = np.dtype(
    [(channel.field, "<f4", channel.shape) for channel in CHANNELS.values()]
    + [
        ("pose_is_relative", "<i4"),  # 1, 0, or UNKNOWN where the sample does not say
        ("column", "<i4"),  # of the picture in the shard's index; UNKNOWN: it lies in a member with others
        ("crc32", "<i8"),  # of the picture; UNKNOWN: the sample does not say
    ]
)  # fmt: skip
"""A frame: labels as `ClipRecord` has them, but poses as they are stored; and where its picture is."""

Rows = Shaped[np.ndarray, " f"]


class FrameLabels:
    """The rows of several shards, one after the other."""

    def __init__(self, shards: Sequence[Rows | Path]) -> None:
        self._shards = list(shards)
        self._rows = [rows if isinstance(rows, np.ndarray) else read_rows(rows) for rows in shards]
        self._starts = [0, *accumulate(len(rows) for rows in self._rows)]

    def __getstate__(self) -> dict[str, Any]:
        return {"shards": self._shards}  # other processes map the files themselves

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["shards"])  # type: ignore[misc]

    def read(self, frames: range) -> Rows:
        """Frames of one sequence, counted through all shards."""
        shard = bisect_right(self._starts, frames.start) - 1
        start = self._starts[shard]
        return self._rows[shard][frames.start - start : frames.stop - start : frames.step].copy()


def labels_path(shard: Path) -> Path:
    return shard.with_name(f"{shard.name}.labels.npy")


def make_rows(record: ClipRecord, stored: StoredPictures) -> Rows:
    """The rows of a whole sample; `record` with its poses as they are stored."""
    rows = np.zeros(len(record), ROW)
    for channel in CHANNELS.values():
        rows[channel.field] = getattr(record, channel.field)
    rows["pose_is_relative"] = UNKNOWN if stored.pose_mean is None else stored.pose_mean == "relative"
    rows["column"] = UNKNOWN if stored.columns is None else stored.columns
    rows["crc32"] = UNKNOWN if stored.checksums is None else stored.checksums
    return rows


def write_rows(shard: Path, rows: Rows) -> None:
    path = labels_path(shard)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.writing")  # several processes may write the same
    with unfinished.open("wb") as file:
        np.save(file, rows, allow_pickle=False)
    unfinished.replace(path)


def read_rows(path: Path) -> Rows:
    """
    Raises:
        InputError: The file is damaged.
    """
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise InputError(f"{path}: is damaged; delete it, it is made again") from None
    if rows.dtype != ROW or rows.ndim != 1:
        raise InputError(f"{path}: is damaged; delete it, it is made again")
    return np.asarray(rows)  # each access to a memmap costs more
