"""Predictions beside their labels in an HDF5 file, from which every metric can be computed again.

Layout: a dataset `samples/<field of Frames>` for each column, one row a frame; attributes of the group `metadata` tell the
format, unit, frame and joint order, and what the writer adds (checkpoint, hand model).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from handvit.joints import JOINT_NAMES
from handvit.metrics.frames import Frames, concatenate_frames
from posecore.data.hdf5 import Hdf5Reader, Hdf5Writer
from posecore.errors import InputError

FORMAT = 1
TEXTS = ("key", "sequence", "image", "source_index", "data_source")
FLAGS = ("is_left", "joint_3d_valid", "joint_2d_valid", "size_valid", "has_mano")
MESHES = ("vertices_mm", "true_vertices_mm")
SHAPES: dict[str, tuple[int, ...]] = {
    "joint_cam_mm": (21, 3),
    "true_joint_cam_mm": (21, 3),
    "joint_3d_valid": (21,),
    "joint_patch": (21, 2),
    "true_joint_patch": (21, 2),
    "joint_2d_valid": (21,),
    "vertices_mm": (778, 3),
    "true_vertices_mm": (778, 3),
}


Facts = dict[str, Any]


def write_predictions(path: Path, frames: Frames, facts: Mapping[str, Any]) -> None:
    """Write all frames; the file appears under its name when it is whole.

    Args:
        facts: What else is told about the predictions (checkpoint, hand model): what JSON can hold.
    """
    columns = {f.name: getattr(frames, f.name) for f in fields(Frames) if getattr(frames, f.name) is not None}
    with Hdf5Writer(path) as writer:
        for i in range(len(frames)):
            writer.append({f"samples/{name}": _cell(column[i]) for name, column in columns.items()})
        layout = {"format": FORMAT, "unit": "mm", "frame": "opencv", "joint_order": ",".join(JOINT_NAMES)}
        writer.finish(layout | {"facts": json.dumps(dict(facts))})


def read_predictions(paths: Path | Sequence[Path]) -> tuple[Frames, Facts]:
    """The frames of one file, or of all parts of an evaluation, and its facts.

    Raises:
        InputError: No such file, another format, a column that is missing, of another shape or not finite, or two parts that
            hold the same clip or are of different evaluations; names file and column.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    if not files:
        raise InputError("no files of predictions were given")
    read = [_read_file(path) for path in files]
    _check_parts(files, read)
    facts = read[0][1]
    if len(read) > 1 and "seconds" in facts:
        facts = facts | {"seconds": round(sum(part["seconds"] for _, part in read), 2)}
    return concatenate_frames([frames for frames, _ in read]), facts


def _read_file(path: Path) -> tuple[Frames, Facts]:
    reader = Hdf5Reader(path)
    try:
        if reader.attribute("format") != FORMAT:
            raise InputError(f"{path}: metadata/format is {reader.attribute('format')}, expected {FORMAT}")
        columns: dict[str, Any] = {name: tuple(reader.texts(_found(reader, name))) for name in TEXTS}
        rows = len(columns["key"])
        for field in fields(Frames):
            if field.name not in TEXTS and not (field.name in MESHES and f"samples/{field.name}" not in reader):
                columns[field.name] = _column(reader, field.name, rows)
        facts = _facts(reader)
    finally:
        reader.close()
    _check(path, columns)
    return Frames(**columns), facts


def _facts(reader: Hdf5Reader) -> Facts:
    try:
        facts = json.loads(reader.attribute("facts") or "")
    except ValueError as error:
        raise InputError(f"{reader.path}: metadata/facts: not valid JSON: {error}") from None
    if not isinstance(facts, dict):
        raise InputError(f"{reader.path}: metadata/facts: a JSON object is needed")
    return facts


def _check_parts(files: Sequence[Path], read: Sequence[tuple[Frames, Facts]]) -> None:
    """Parts are of one evaluation and share no frame."""
    seen: dict[tuple[str, float], Path] = {}
    problems = []
    first = read[0][1]
    for path, (frames, facts) in zip(files, read, strict=True):
        names = [n for n in (*first, *facts) if n != "seconds" and first.get(n) != facts.get(n)]
        if names:
            problems.append(
                f"{path}: {names[0]} is {facts.get(names[0])!r}, but {first.get(names[0])!r} in {files[0]}: "
                "parts of one evaluation are needed"
            )
        if (frames.vertices_mm is None) != (read[0][0].vertices_mm is None):
            problems.append(f"{path}: samples/vertices_mm: {files[0]} and this differ in having meshes")
        own = {*zip(frames.key, frames.timestamp_ms.tolist(), strict=True)}
        shared = own & seen.keys()
        if shared:
            clip = min(shared)
            problems.append(f"{path}: {len(shared)} frames are in {seen[clip]} too, one of clip {clip[0]}")
        seen |= dict.fromkeys(own, path)
    if problems:
        raise InputError(problems)


def _cell(value: Any) -> Any:
    return value if isinstance(value, str) else np.asarray(value)[()]


def _found(reader: Hdf5Reader, name: str) -> str:
    return reader.require(f"samples/{name}", shape=(None, *SHAPES.get(name, ())))


def _column(reader: Hdf5Reader, name: str, rows: int) -> np.ndarray:
    values = reader.column(_found(reader, name))
    if len(values) != rows:
        raise InputError(f"{reader.path}: samples/{name}: {len(values)} rows, samples/key has {rows}")
    return values.astype(bool) if name in FLAGS else values


def _check(path: Path, columns: Mapping[str, Any]) -> None:
    problems = []
    if ("vertices_mm" in columns) != ("true_vertices_mm" in columns):
        problems.append(f"{path}: samples/vertices_mm and samples/true_vertices_mm: both or none are needed")
    lengths = {"joint_cam_mm": None, "vertices_mm": None, "true_joint_cam_mm": "joint_3d_valid"}
    for name, mask in lengths.items():
        if name in columns:
            used = columns[name] if mask is None else columns[name][columns[mask]]
            bad = np.argwhere(~np.isfinite(used))
            if len(bad):
                problems.append(
                    f"{path}: samples/{name}: {len(bad)} values are not finite, the first in row {bad[0][0]}"
                )
    if problems:
        raise InputError(problems)
