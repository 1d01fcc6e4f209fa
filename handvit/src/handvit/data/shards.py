"""Clips in WebDataset shards: written by every converter, read at any place.

The members of a sample are listed in `members`; README.md describes the format.
"""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from handvit.data.check import check_record
from handvit.data.legacy import OLD_SHAPES, Arrays, complete, read_legacy_frames
from handvit.data.members import CHANNELS, LEGACY_FRAMES, NOTES, TEXTS, frame_members
from handvit.data.records import FORMAT, ClipRecord, FrameFormat, Handedness
from posecore.data.headers import read_header
from posecore.data.shard_fields import decode_array, decode_json
from posecore.data.shards import ShardSource, ShardWriter
from posecore.errors import InputError

PoseMean = Literal["absolute", "relative"]

CHECKSUMS = "pictures_crc32"
"""Of the pictures, in meta.json; tars made elsewhere have none."""
MIRRORED_AXIS_ANGLE = np.array([1.0, -1.0, -1.0])

_ENDINGS: dict[str, FrameFormat] = {"WebP": "webp", "JPEG": "jpg", "PNG": "png"}
_FORMATS: dict[str, FrameFormat] = {"webp": "webp", "jpg": "jpg", "jpeg": "jpg", "png": "png"}
_SIDES = {"right": "right", "left": "left", "r": "right", "l": "left"}
_INTRINSICS = ("real", "fixed_virtual", "pseudo", "none")
_SHAPES = {name: channel.shape for name, channel in CHANNELS.items()} | OLD_SHAPES


class StoredPictures(NamedTuple):
    """Of a whole sample, what is needed besides its labels to read it later without them."""

    columns: list[int] | None
    """Of its pictures in the shard's index; None: they lie in one member."""
    checksums: list[int] | None
    """None: the sample has none, or not what they should be."""
    pose_mean: PoseMean | None
    """None: the sample does not say."""


def write_clip(writer: ShardWriter, record: ClipRecord) -> None:
    """Add a clip to the shards.

    Raises:
        InputError: The record breaks a rule of the format (`check.check_record`, counts, formats of pictures).
        ValueError: Its key is no key, or was written already.
    """
    _check_writable(record)
    check_record(record, record.key)
    fields: dict[str, Any] = {
        f"frame_{number:04d}.{record.frame_format}": bytes(data) for number, data in enumerate(record.frames)
    }
    fields |= {f"{name}.json": getattr(record, name) for name in TEXTS}
    fields["imgs_path.json"] = list(record.imgs_path) or [""] * len(record)
    for name in NOTES[1:]:
        fields[f"{name}.json"] = [dict(note) for note in getattr(record, name)] or [{}] * len(record)
    for name, channel in CHANNELS.items():
        fields[f"{name}.npy"] = np.ascontiguousarray(getattr(record, channel.field), dtype=np.float32)
    joints = fields["joint_cam.npy"]
    fields["joint_rel.npy"] = joints - joints[:, :1]
    checksums = {CHECKSUMS: [zlib.crc32(data) for data in record.frames]}
    fields["meta.json"] = {"version": FORMAT, "pose_mean": "absolute"} | dict(record.meta) | checksums
    writer.write(record.key, fields)


class ClipShards:
    """The clips of some shards, one after the other; any frames of any of them.

    Args:
        shards: Tar files in the order in which their clips count.
        pose_mean: Of samples whose meta.json does not say it: `relative` poses are offsets from the mean pose.
        hands_mean: Mean pose of the right hand, axis-angle of 15 joints; needed where poses are relative.

    Raises:
        InputError: A shard is missing or damaged.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        *,
        pose_mean: PoseMean = "absolute",
        hands_mean: Float[np.ndarray, "45"] | None = None,
    ) -> None:
        self._source = ShardSource(shards, fields=())
        self._pose_mean, self._hands_mean = pose_mean, hands_mean

    def __len__(self) -> int:
        return len(self._source)

    @property
    def paths(self) -> list[Path]:
        return [index.path for index in self._source.indexes]

    @property
    def shard_numbers(self) -> Int64[np.ndarray, " n"]:
        """In which shard each clip lies."""
        return np.repeat(np.arange(len(self.paths)), [len(index) for index in self._source.indexes])

    def shard(self, index: int) -> Path:
        return self._source.shard(index)

    def key(self, index: int) -> str:
        return self._source.key(index)

    def where(self, index: int) -> str:
        """Shard and key, for messages."""
        return self._source.where(index)

    def read(
        self, index: int, frames: Sequence[int] | None = None, *, pictures: bool = True, notes: bool = True
    ) -> ClipRecord:
        """Some frames of a clip; None: all. Only the bytes of their pictures are read.

        Args:
            pictures: Without them each frame is empty bytes.
            notes: Read `imgs_path`, `source_index` and `additional_desc`, which labels do not need.

        Raises:
            InputError: The sample is damaged or breaks a rule of the format; names shard, key and member.
        """
        where, members = self.where(index), self._source.members(index)
        content = self._labels(index, members, notes)
        names = frame_members(members, where)
        arrays, stored = _arrays(content, where), self._stored(index, names, members, where)
        num_frames = len(names) if stored is None else len(stored)
        if not num_frames:
            raise InputError(f"{where}: has no frames; expected frame_0000.webp (or .jpg, .png) and so on")
        _check_counts(arrays, {name: content[name] for name in NOTES if name in content}, num_frames, where)
        arrays = complete(arrays, num_frames, where)
        texts = _texts(content, arrays, where)
        rows = list(range(num_frames)) if frames is None else list(frames)
        meta = self._to_absolute(index, arrays, content.get("meta", {}), texts["handedness"], where)
        ending = _ending(names, stored, where)
        columns: dict[str, Any] = {channel.field: arrays[name][rows] for name, channel in CHANNELS.items()}
        columns |= {name: [content[name][row] for row in rows] for name in NOTES if name in content}
        checksums = meta.pop(CHECKSUMS, None)
        encoded = self._pictures(index, names, stored, rows) if pictures else [b""] * len(rows)
        if pictures and checksums is not None:
            if not isinstance(checksums, list) or len(checksums) != num_frames:
                raise InputError(
                    f"{where}.meta.json: {CHECKSUMS} is not a list of {num_frames} numbers, one for each frame"
                )
            _check_pictures(encoded, rows, [checksums[row] for row in rows], where)
        record = ClipRecord(self._source.key(index), encoded, ending, meta=meta, **texts, **columns)
        check_record(record, where, rows)
        return record

    def stored_pictures(self, index: int) -> StoredPictures:
        """Of a sample that `read` takes."""
        members, where = self._source.members(index), self.where(index)
        names = frame_members(members, where)
        meta = {}
        if "meta.json" in members:
            meta = decode_json(self._source.read_members(index, ["meta.json"])[0], f"{where}.meta.json")
        checksums: Any = meta.get(CHECKSUMS)
        is_known = isinstance(checksums, list) and len(checksums) == len(names)
        is_known = is_known and all(isinstance(value, int) and 0 <= value < 1 << 32 for value in checksums)
        columns = self._source.columns(index, names) if names and (is_known or checksums is None) else None
        return StoredPictures(columns, checksums if is_known else None, meta.get("pose_mean"))

    def read_pictures(
        self, index: int, rows: Sequence[int], columns: Sequence[int], checksums: Sequence[int] | None
    ) -> list[bytes]:
        """The pictures of some frames, as `stored_pictures` says of them. Nothing else is read.

        Raises:
            InputError: As `read`.
        """
        encoded = self._source.read_columns(index, columns)
        if checksums is not None:
            _check_pictures(encoded, rows, checksums, self.where(index))
        return encoded

    def absolute_pose(
        self,
        index: int,
        pose: Float[np.ndarray, "t 48"],
        has_mano: Float[np.ndarray, " t"],
        side: Handedness,
        pose_mean: PoseMean | None,
    ) -> Float[np.ndarray, "t 48"]:
        """The pose of the sample with the mean pose added where it is relative to it.

        Args:
            pose_mean: What the sample says; None: nothing.

        Raises:
            InputError: There is no mean pose to add.
        """
        if (pose_mean or self._pose_mean) == "absolute":
            return pose
        if self._hands_mean is None:
            where = self.where(index)
            raise InputError(f"{where}: its poses are relative to the mean pose; reading them needs the hand model")
        mean = self._hands_mean.reshape(15, 3) * (MIRRORED_AXIS_ANGLE if side == "left" else 1.0)
        offset = np.concatenate([np.zeros(3), mean.ravel()]) * has_mano[:, None]
        return np.asarray((pose + offset).astype(np.float32))

    def _labels(self, index: int, members: Sequence[str], notes: bool) -> dict[str, Any]:
        """Decoded members by their names without the extension."""
        names = [f"{name}.npy" for name in _SHAPES]
        names += [f"{name}.json" for name in (*TEXTS, "meta", *(NOTES if notes else ()))]
        there = [name for name in names if name in members]
        where = self.where(index)
        content = {}
        for name, data in zip(there, self._source.read_members(index, there), strict=True):
            decode = decode_array if name.endswith(".npy") else decode_json
            content[name.partition(".")[0]] = decode(data, f"{where}.{name}")
        return content

    def _stored(self, index: int, names: list[str], members: Sequence[str], where: str) -> list[bytes] | None:
        """Pictures of an older tar, where they lie in one member."""
        if names or LEGACY_FRAMES not in members:
            return None
        return read_legacy_frames(self._source.read_members(index, [LEGACY_FRAMES])[0], where)

    def _pictures(self, index: int, names: list[str], stored: list[bytes] | None, rows: list[int]) -> list[bytes]:
        if stored is not None:
            return [stored[row] for row in rows]
        return self._source.read_members(index, [names[row] for row in rows])

    def _to_absolute(self, index: int, arrays: Arrays, meta: Any, side: Handedness, where: str) -> dict[str, Any]:
        """Add the mean pose to a relative one, in place; the meta data then say so."""
        if not isinstance(meta, Mapping):
            raise InputError(f"{where}.meta.json: is a {type(meta).__name__}; expected an object")
        if meta.get("version", FORMAT) != FORMAT:
            raise InputError(f"{where}.meta.json: version {meta['version']!r}; this program reads version {FORMAT}")
        pose_mean = meta.get("pose_mean", self._pose_mean)
        if pose_mean not in ("absolute", "relative"):
            raise InputError(f"{where}.meta.json: pose_mean is {pose_mean!r}; expected absolute or relative")
        arrays["mano_pose"] = self.absolute_pose(index, arrays["mano_pose"], arrays["has_mano"], side, pose_mean)
        return dict(meta) | {"pose_mean": "absolute"}


def _check_pictures(encoded: Sequence[bytes], rows: Sequence[int], checksums: Sequence[int], where: str) -> None:
    """A damaged JPEG decodes to something; only its checksum tells."""
    for row, data, checksum in zip(rows, encoded, checksums, strict=True):
        if zlib.crc32(data) != checksum:
            raise InputError(
                f"{where}: frame {row} does not match its checksum in meta.json: damaged; copy the shard again"
            )


def _arrays(content: dict[str, Any], where: str) -> Arrays:
    arrays = {}
    for name, shape in _SHAPES.items():
        if name not in content:
            continue
        values: np.ndarray = content[name]
        if values.dtype.kind not in "fiub" or values.ndim == 0 or values.shape[1:] != shape:
            expected = ",".join(["T", *map(str, shape)])
            raise InputError(
                f"{where}.{name}.npy: is {values.dtype} {list(values.shape)}; expected float32 [{expected}]"
            )
        arrays[name] = values.astype(np.float32, copy=False)
    return arrays


def _check_counts(arrays: Arrays, notes: Mapping[str, Any], num_frames: int, where: str) -> None:
    counts = {f"{name}.npy": len(values) for name, values in arrays.items()}
    for name, entries in notes.items():
        if not isinstance(entries, list):
            raise InputError(f"{where}.{name}.json: is a {type(entries).__name__}; expected a list")
        counts[f"{name}.json"] = len(entries)
    wrong = [f"{where}.{name}: has {count} entries, but there are {num_frames} frames"
             for name, count in counts.items() if count != num_frames]  # fmt: skip
    if wrong:
        raise InputError(wrong)


def _texts(content: dict[str, Any], arrays: Arrays, where: str) -> dict[str, Any]:
    if "handedness" not in content:
        raise InputError(f"{where}: has no handedness.json; every sample needs one, right or left")
    defaults = {
        "data_source": "unknown",
        "source_split": "",
        "intr_type": "real" if arrays["has_intr"].any() else "none",
    }
    texts = {name: content.get(name, defaults.get(name)) for name in TEXTS}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise InputError(f"{where}.{name}.json: is a {type(text).__name__}; expected a text")
    if texts["handedness"] not in _SIDES:
        raise InputError(f"{where}.handedness.json: is {texts['handedness']!r}; expected right or left")
    if texts["intr_type"] not in _INTRINSICS:
        raise InputError(f"{where}.intr_type.json: is {texts['intr_type']!r}; expected {', '.join(_INTRINSICS)}")
    return texts | {"handedness": _SIDES[texts["handedness"]]}


def _ending(names: list[str], stored: list[bytes] | None, where: str) -> FrameFormat:
    if names:
        return _FORMATS[names[0].rpartition(".")[2]]
    header = read_header(stored[0]) if stored else None
    if header is None or header.format not in _ENDINGS:
        raise InputError(f"{where}: {LEGACY_FRAMES}: entry 0 is no picture; expected {', '.join(_ENDINGS)}")
    return _ENDINGS[header.format]


def _check_writable(record: ClipRecord) -> None:
    where, count = record.key, len(record)
    if "/" in record.key:
        raise ValueError(f"key {record.key!r}: must not hold slashes")
    if not count:
        raise InputError(f"{where}: has no frames")
    for name, channel in CHANNELS.items():
        shape = getattr(record, channel.field).shape
        if shape != (count, *channel.shape):
            raise InputError(f"{where}: {name} has shape {shape}; expected {(count, *channel.shape)}")
    for name in NOTES:
        if len(getattr(record, name)) not in (0, count):
            raise InputError(f"{where}: {name} has {len(getattr(record, name))} entries, but there are {count} frames")
    if record.meta.get("pose_mean", "absolute") != "absolute":
        raise InputError(f"{where}: meta says pose_mean {record.meta['pose_mean']!r}; records hold absolute poses")
    for number, data in enumerate(record.frames):
        header = read_header(data)
        if header is None or _ENDINGS.get(header.format) != record.frame_format:
            found = "no picture" if header is None else header.format
            raise InputError(f"{where}[{number}]: is {found}; frame_format says {record.frame_format}")
