"""What filters and sampling need to know of each frame of a shard, kept beside it so that it is read once.

`X.tar.frames.npz` and the labels beside it (`frame_labels`) belong to one shard: to the contents of `X.tar.index.json`,
its size and the time of its last change. They are made anew when one of these is another.
"""

import hashlib
import io
import json
import logging
import os
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped, UInt8

from handvit.data.check import reprojection_error_px
from handvit.data.frame_labels import FrameLabels, Rows, labels_path, make_rows, read_rows, write_rows
from handvit.data.shards import ClipShards
from posecore.data.shard_index import ShardIndex, open_index
from posecore.errors import InputError

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of what `contents_checksum` says."""
TABLE_FORMAT = 2
"""Of both files."""


@dataclass(frozen=True)
class FrameTable:
    """s sequences (samples of the shards) with f frames altogether, one after the other."""

    num_frames: Int64[np.ndarray, " s"]
    is_left: Bool[np.ndarray, " s"]
    data_source: Shaped[np.ndarray, " s"]
    """Texts."""
    intr_type: Shaped[np.ndarray, " s"]
    valid_2d: UInt8[np.ndarray, " f"]
    """Valid 2D joints of a frame."""
    valid_3d: UInt8[np.ndarray, " f"]
    box_edge_px: Float32[np.ndarray, " f"]
    """Shorter edge of the hand's box."""
    root_depth_mm: Float32[np.ndarray, " f"]
    """NaN where the wrist is not valid in 3D."""
    reprojection_px: Float32[np.ndarray, " f"]
    """Of the worst joint; NaN where it cannot be told."""
    has_mano: Bool[np.ndarray, " f"]
    has_intr: Bool[np.ndarray, " f"]

    @property
    def first_frame(self) -> Int64[np.ndarray, " s"]:
        return np.asarray(np.cumsum(self.num_frames) - self.num_frames)


def open_frame_table(shards: list[Path]) -> FrameTable:
    """The table of several shards.

    Raises:
        InputError: A shard, or a table kept beside it, is damaged.
    """
    return open_frames(shards)[0]


def open_frames(shards: list[Path]) -> tuple[FrameTable, FrameLabels]:
    """The table of several shards, and the labels of its frames.

    Raises:
        InputError: A shard, or what is kept beside it, is damaged.
    """
    tables, labels = zip(*[_open(shard) for shard in shards], strict=True)
    joined = {field.name: np.concatenate([getattr(table, field.name) for table in tables])
              for field in fields(FrameTable)}  # fmt: skip
    return FrameTable(**joined), FrameLabels(labels)


def table_path(shard: Path) -> Path:
    return shard.with_name(f"{shard.name}.frames.npz")


def _open(shard: Path) -> tuple[FrameTable, Rows | Path]:
    """The table of a shard, and its labels or the file they are in."""
    state = _state(shard)
    table = _kept(shard, state)
    if table is not None:
        return table, labels_path(shard)
    table, rows = _scan(shard)
    if not os.access(shard.parent, os.W_OK):
        return table, rows
    write_rows(shard, rows)  # first: a table stands for its labels too
    _keep(shard, table, state)
    return table, labels_path(shard)


def _scan(shard: Path) -> tuple[FrameTable, Rows]:
    """Read and check the labels of all samples."""
    clips = ClipShards([shard], hands_mean=np.zeros(45))  # poses stay as they are stored
    logger.info("%s: reading the labels of %d samples", shard, len(clips))
    sequences: list[tuple[int, bool, str, str]] = []
    frames: dict[str, list[np.ndarray]] = {name: [] for name in _OF_FRAMES}
    rows: list[Rows] = []
    for index in range(len(clips)):
        record = clips.read(index, pictures=False, notes=False)
        rows.append(make_rows(record, clips.stored_pictures(index)))
        sequences.append((len(record), record.handedness == "left", record.data_source, record.intr_type))
        has_root = record.joint_3d_valid[:, 0] > 0
        has_error = (record.joint_2d_valid * record.joint_3d_valid * record.has_intr[:, None]).any(1)
        x1, y1, x2, y2 = record.hand_bbox.T
        frames["valid_2d"].append(record.joint_2d_valid.sum(1))
        frames["valid_3d"].append(record.joint_3d_valid.sum(1))
        frames["box_edge_px"].append(np.minimum(x2 - x1, y2 - y1))
        frames["root_depth_mm"].append(np.where(has_root, record.joint_cam_mm[:, 0, 2], np.nan))
        frames["reprojection_px"].append(np.where(has_error, reprojection_error_px(record).max(1), np.nan))
        frames["has_mano"].append(record.has_mano)
        frames["has_intr"].append(record.has_intr)
    counts, lefts, sources, types = zip(*sequences, strict=True)
    columns: dict[str, np.ndarray] = {
        name: np.concatenate(values).astype(_OF_FRAMES[name]) for name, values in frames.items()
    }
    table = FrameTable(np.array(counts, np.int64), np.array(lefts), np.array(sources), np.array(types), **columns)
    return table, np.concatenate(rows)


_OF_FRAMES: dict[str, type] = {
    "valid_2d": np.uint8,
    "valid_3d": np.uint8,
    "box_edge_px": np.float32,
    "root_depth_mm": np.float32,
    "reprojection_px": np.float32,
    "has_mano": np.bool_,
    "has_intr": np.bool_,
}


def contents_checksum(index: ShardIndex) -> str:
    """Of the names and places of all files in the shard."""
    digest = hashlib.sha256(json.dumps([FORMAT, index.keys, index.fields]).encode())
    digest.update(index.offsets.tobytes() + index.sizes.tobytes())
    return digest.hexdigest()


def _state(shard: Path) -> str:
    """What a table is of."""
    checksum, file = contents_checksum(open_index(shard)), shard.stat()
    return f"{TABLE_FORMAT} {checksum} {file.st_size} {file.st_mtime_ns}"


def _keep(shard: Path, table: FrameTable, state: str) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, state=np.array(state), **{f.name: getattr(table, f.name) for f in fields(FrameTable)})
    path = table_path(shard)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.writing")  # several processes may write the same
    unfinished.write_bytes(buffer.getvalue())
    unfinished.replace(path)


def _kept(shard: Path, state: str) -> FrameTable | None:
    """The table beside the shard; None if it or the labels are missing, or of other contents."""
    path = table_path(shard)
    if not path.is_file() or not labels_path(shard).is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            if "state" not in content or str(content["state"]) != state:
                return None
            table = FrameTable(**{field.name: content[field.name] for field in fields(FrameTable)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path}: is damaged; delete it, it is made again") from None
    if len(read_rows(labels_path(shard))) != table.num_frames.sum():
        raise InputError(f"{labels_path(shard)}: is damaged; delete it, it is made again")
    return table
