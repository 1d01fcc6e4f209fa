"""What all converters share: their part of the sequences, keys, boxes, source pictures, and the writing of clips."""

import hashlib
import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float

from handvit.data.converters.report import ConversionReport
from handvit.data.records import ClipRecord, FrameFormat
from handvit.data.shards import write_clip
from handvit.data.storage import CropStorage, crop_record
from posecore.data.headers import read_header
from posecore.data.shard_writer import ShardWriter
from posecore.errors import InputError

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_KEY = 78
"""Bytes; with the longest member's name it still fits the plain tar header."""
MAX_SHARD_BYTES = 900 << 20
"""A shard ends with the first clip beyond this, which keeps it below 1 GB."""
FRAME_FORMATS: dict[str, FrameFormat] = {"JPEG": "jpg", "PNG": "png", "WebP": "webp"}


def part_of(sequences: Sequence[T], shard: tuple[int, int] | None) -> Sequence[T]:
    """The i-th of n nearly equal, contiguous parts; shard = (i, n), i from 0; None: all.

    Raises:
        InputError: No such part.
    """
    if shard is None:
        return sequences
    part, parts = shard
    if not 0 <= part < parts:
        raise InputError(f"shard: {part}/{parts}: the first number counts from 0 to {max(parts, 1) - 1}")
    return sequences[part * len(sequences) // parts : (part + 1) * len(sequences) // parts]


def shard_pattern(name: str, shard: tuple[int, int] | None) -> str:
    """File names for `ShardWriter`: `train-%06d.tar`, or `train-0003-of-0016-%06d.tar` for a part."""
    part = "" if shard is None else f"-{shard[0]:04d}-of-{shard[1]:04d}"
    return f"{name}{part}-%06d.tar"


def clip_key(*parts: str) -> str:
    """A clip's key: the parts joined, what a key cannot hold replaced by `_`; a long one is cut and ends in its hash."""
    name = "-".join(parts)
    key = re.sub(r"[^A-Za-z0-9_+-]", "_", name)
    if len(key) > MAX_KEY:
        key = f"{key[: MAX_KEY - 13]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return key


def tight_boxes(
    joint_img: Float[np.ndarray, "*b n 2"], valid: Float[np.ndarray, "*b n"] | Bool[np.ndarray, "*b n"]
) -> Float[np.ndarray, "*b 4"]:
    """`hand_bbox`: (x1, y1, x2, y2) about the valid joints, px; zeros where none is valid."""
    is_valid = (valid > 0)[..., None]
    low = np.where(is_valid, joint_img, np.inf).min(-2)
    high = np.where(is_valid, joint_img, -np.inf).max(-2)
    boxes = np.concatenate([low, high], -1)
    return np.where(np.isfinite(boxes), boxes, 0.0)


NO_BOX = "no box: fewer than two joints have a 2D label"
OUTSIDE = "the hand is outside of the picture"


def box_problem(box: Float[np.ndarray, "4"], size_wh: tuple[int, int]) -> str | None:
    """The reason to skip a hand with this box, for `ConversionReport.skip`; None where it can be used."""
    x1, y1, x2, y2 = box
    if not (x2 > x1 and y2 > y1):
        return NO_BOX
    width, height = size_wh
    if x2 < -0.5 or y2 < -0.5 or x1 > width - 0.5 or y1 > height - 0.5:
        return OUTSIDE
    return None


def read_picture(path: Path, entry: str, size_wh: tuple[int, int] | None = None) -> tuple[bytes, FrameFormat]:
    """A picture's file as it is, and what it is.

    Args:
        path: The file.
        entry: Who asks for it, for errors: the annotation file and the entry in it.
        size_wh: Width and height that the labels refer to.

    Raises:
        InputError: It is missing, damaged, of another format or of another size.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {entry} names it") from None
    header = read_header(data)
    if header is None or header.format not in FRAME_FORMATS:
        raise InputError(f"{path}: is not a JPEG, PNG or WebP picture (it begins with {data[:12]!r}); {entry} names it")
    if not header.is_complete:
        raise InputError(f"{path}: the file is cut off; copy it again")
    if size_wh is not None and (header.width, header.height) != size_wh:
        raise InputError(
            f"{path}: is {header.width} x {header.height}; {entry} says {size_wh[0]} x {size_wh[1]}, which labels refer to"
        )
    return data, FRAME_FORMATS[header.format]


def write_conversion(
    records: Iterator[ClipRecord],
    output: Path,
    pattern: str,
    crop: CropStorage | None,
    report: ConversionReport,
    limit: int | None = None,
) -> ConversionReport:
    """Write the clips as shards in `output`, and the report beside them when all are written.

    Args:
        records: One at a time is held.
        output: A folder; it has no shards of this pattern yet.
        pattern: From `shard_pattern`.
        crop: Store the square margin crop; None: the source's own picture files, not encoded again.
        report: Counted and completed here.
        limit: At most so many clips.

    Raises:
        InputError: No clip at all; old shards in `output`; whatever the records' reader meets.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit: {limit}: at least one clip")
    with ShardWriter(output, pattern, max_bytes=MAX_SHARD_BYTES) as writer:
        for record in itertools.islice(records, limit):
            report.count(record)
            write_clip(writer, record if crop is None else crop_record(record, crop))
            if report.clips % 100 == 0:
                log.info("%s: %d clips, %d frames", output, report.clips, report.frames)
    if not report.clips:
        reasons = [
            f"skipped {count}: {reason} (first: {report.first_skipped[reason]})"
            for reason, count in report.skipped.items()
        ]
        raise InputError([f"{output}: {report.dataset} {report.split}: no clip is left to write", *reasons])
    if limit is not None and report.clips == limit:
        report.warn(f"limit: only the first {limit} clips were converted")
    report.files = [path.name for path in writer.paths]
    report.write(output)
    return report
