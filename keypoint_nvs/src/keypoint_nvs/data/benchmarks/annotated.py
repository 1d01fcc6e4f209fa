"""One's own pictures with points: a folder with `annotations.csv` or `annotations.json` beside or above the pictures.

The table names its columns in the first line, for points 0, 1, ...:

    file,split,x_0,y_0,v_0,x_1,y_1,v_1
    cats/01.jpg,train,120.5,88,1,0,0,0

The JSON holds the same, visibility optional (then all are visible):

    {"pictures": [{"file": "cats/01.jpg", "split": "train", "points": [[120.5, 88], [0, 0]], "visible": [1, 0]}]}

Coordinates are pixels of the picture as viewers show it, centres at integers. Split is train or test.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keypoint_nvs.data.benchmarks.reading import numbers, picture_size, read_lines
from keypoint_nvs.data.benchmarks.records import Benchmark, PictureSet
from keypoint_nvs.data.rgba_images import read_rgba
from posecore.errors import InputError

SPLITS = ("train", "test")


@dataclass(frozen=True)
class _Row:
    where: str
    file: str
    split: str
    points_px: np.ndarray
    visible: np.ndarray


def annotated(root: Path) -> Benchmark:
    """
    Raises:
        InputError: No annotations or both kinds, a wrong value, or pictures without points; names file and line or entry.
    """
    table, listed = root / "annotations.csv", root / "annotations.json"
    if table.is_file() == listed.is_file():
        found = "both are there" if table.is_file() else "neither is there"
        raise InputError(f"{root}: needs annotations.csv or annotations.json; {found}")
    rows = _table(table) if table.is_file() else _json(listed)
    counts = {len(row.visible) for row in rows}
    if len(counts) > 1:
        raise InputError(f"{root}: pictures have {min(counts)} to {max(counts)} points; all need as many")
    for row in rows:
        if row.split not in SPLITS:
            raise InputError(f"{row.where}: split is {row.split!r}; expected train or test")
        if not np.isin(row.visible, (0, 1)).all():
            raise InputError(f"{row.where}: visibility {row.visible.tolist()}; expected 0 or 1")
    train, test = (_split(root, split, [row for row in rows if row.split == split]) for split in SPLITS)
    return Benchmark("annotated", "visible", train, test)


def _split(root: Path, split: str, rows: list[_Row]) -> PictureSet:
    if not rows:
        raise InputError(f"{root}: no picture has the split {split}")
    paths = [root / row.file for row in rows]
    sizes = np.array([picture_size(path) for path in paths], float)
    points = (np.stack([row.points_px for row in rows]) + 0.5) / sizes[:, None]
    visible = np.stack([row.visible for row in rows]).astype(bool)
    outside = np.argwhere(visible & ((points < 0) | (points > 1)).any(-1))
    if len(outside):
        row, point = rows[outside[0][0]], outside[0][1]
        raise InputError(
            f"{row.where}: point {point} is visible at {row.points_px[point].tolist()}, outside {row.file}"
        )
    return PictureSet(tuple(row.file for row in rows), points, visible, lambda index: read_rgba(paths[index]))


def _table(path: Path) -> list[_Row]:
    header, *lines = list(csv.reader(read_lines(path, "a table of files and points"))) or [[]]
    num_points = (len(header) - 2) // 3
    expected = ["file", "split", *(f"{axis}_{i}" for i in range(num_points) for axis in "xyv")]
    if num_points < 1 or [name.strip() for name in header] != expected:
        raise InputError(f"{path}: first line is {','.join(header)!r}; expected file,split,x_0,y_0,v_0,x_1,y_1,v_1,...")
    rows = []
    for number, fields in enumerate(lines, start=2):
        where = f"{path}: line {number}"
        values = numbers(fields[2:], 3 * num_points, where).reshape(num_points, 3)
        rows.append(_Row(where, fields[0].strip(), fields[1].strip(), values[:, :2], values[:, 2]))
    return rows


def _json(path: Path) -> list[_Row]:
    try:
        entries = json.loads("\n".join(read_lines(path, "files and points")))["pictures"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path}: {error!r}; expected {{"pictures": [...]}}') from None
    return [_entry(f"{path}: pictures[{number}]", entry) for number, entry in enumerate(entries)]


def _entry(where: str, entry: Any) -> _Row:
    try:
        points = np.array(entry["points"], float).reshape(-1, 2)
        visible = np.array(entry.get("visible", [1] * len(points)), float)
        file, split = str(entry["file"]), str(entry["split"])
        unknown = set(entry) - {"file", "split", "points", "visible"}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: {error!r}; expected file, split and points [[x, y], ...]") from None
    if unknown:
        raise InputError(
            f"{where}: {', '.join(sorted(unknown))}: no such key; file, split, points and visible are known"
        )
    if visible.shape != (len(points),):
        raise InputError(f"{where}: {visible.size} values of visibility for {len(points)} points")
    return _Row(where, file, split, points, visible)
