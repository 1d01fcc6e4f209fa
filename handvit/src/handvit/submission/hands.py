"""What submissions hold, and the checks that all of them share."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from posecore.errors import InputError

MM = 1000.0
FARTHEST_M = 20.0
"""No benchmark shows hands farther away: larger numbers are millimetres."""
DECIMALS_M = 6


@dataclass(frozen=True)
class Hands:
    """n hands in the camera frame (OpenCV axes, mm), joints in the canonical order."""

    joints_mm: Float[np.ndarray, "n 21 3"]
    vertices_mm: Float[np.ndarray, "n 778 3"] | None = None

    def __len__(self) -> int:
        return len(self.joints_mm)


def arranged(ids: Sequence[str], order: Sequence[str], where: str) -> list[int]:
    """Rows of `ids` in the benchmark's order.

    Raises:
        InputError: A sample of the order is missing or was predicted twice; names the first of them.
    """
    rows: dict[str, int] = {}
    wanted = set(order)
    again = [name for row, name in enumerate(ids) if name in wanted and rows.setdefault(name, row) != row]
    twice = list(dict.fromkeys(again))
    missing = [name for name in order if name not in rows]
    problems = []
    if missing:
        problems.append(
            f"{where}: {len(missing)} of {len(order)} samples were not predicted, the first is {missing[0]}"
        )
    if twice:
        problems.append(f"{where}: {len(twice)} samples were predicted more than once, the first is {twice[0]}")
    if problems:
        raise InputError(problems)
    return [rows[name] for name in order]


def check_count(where: str, found: int, expected: int | None) -> None:
    if expected is not None and found != expected:
        raise InputError(f"{where}: {found} hands, the benchmark has {expected}")


def check_metres(where: str, points_m: Float[np.ndarray, "n k 3"], sign: int) -> None:
    """Finite, in metres, and all in front of the camera: `sign` 1 for z > 0 (OpenCV), -1 for z < 0 (OpenGL).

    Raises:
        InputError: Which of these does not hold, and for which hand first.
    """
    bad = np.flatnonzero(~np.isfinite(points_m).all((1, 2)))
    if len(bad):
        raise InputError(f"{where}: {len(bad)} hands have values that are not finite, the first is number {bad[0]}")
    far = np.median(np.abs(points_m[..., 2])) if points_m.size else 0.0
    if far > FARTHEST_M:
        raise InputError(f"{where}: hands are {far:.0f} away: that looks like millimetres, metres are needed")
    behind = np.flatnonzero((sign * points_m[..., 2] <= 0).any(1))
    if len(behind):
        frame, other = ("z > 0 (OpenCV)", "OpenGL") if sign > 0 else ("z < 0 (OpenGL)", "OpenCV")
        hint = f"; are they in {other}'s frame?" if len(behind) == len(points_m) else ""
        raise InputError(
            f"{where}: {len(behind)} hands have points without {frame}, the first is number {behind[0]}{hint}"
        )


def points_from(where: str, data: Any, points: int) -> Float[np.ndarray, "n k 3"]:
    """Nested lists as an array of n x `points` x 3.

    Raises:
        InputError: They are of another shape; names the first hand that is.
    """
    if not isinstance(data, list) or not data:
        raise InputError(f"{where}: a list of hands is needed, found {type(data).__name__}")
    try:
        array = np.array(data, dtype=np.float64)
    except (ValueError, TypeError):
        array = np.zeros(0)
    if array.shape[1:] != (points, 3):
        wrong = next((i for i, hand in enumerate(data) if _shape(hand) != (points, 3)), 0)
        raise InputError(f"{where}: hand {wrong} has shape {_shape(data[wrong])}, expected ({points}, 3)")
    return array


def read_points(path: Path, points: int) -> Float[np.ndarray, "n k 3"]:
    """A JSON list of n x `points` x 3 numbers: the truth as FreiHAND and HO3D publish it, in its own unit and frame."""
    return points_from(str(path), read_json(path), points)


def read_json(path: Path) -> Any:
    """
    Raises:
        InputError: No such file, or not valid JSON.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None


def write_pair(
    file: TextIOWrapper, joints_m: Float[np.ndarray, "n 21 3"], vertices_m: Float[np.ndarray, "n 778 3"]
) -> None:
    """`[xyz, verts]` to the micrometre, hand by hand: as one list of floats it would take gigabytes."""
    file.write("[")
    for position, points in enumerate((joints_m, vertices_m)):
        file.write(", [" if position else "[")
        file.writelines(_separated(json.dumps(np.round(hand, DECIMALS_M).tolist()) for hand in points))
        file.write("]")
    file.write("]\n")


def split_pair(where: str, data: Any) -> tuple[Float[np.ndarray, "n 21 3"], Float[np.ndarray, "n 778 3"]]:
    """
    Raises:
        InputError: Not two lists of as many hands.
    """
    if not isinstance(data, list) or len(data) != 2:
        raise InputError(f"{where}: a list of two is needed, [joints, vertices]")
    joints, vertices = points_from(f"{where}: joints", data[0], 21), points_from(f"{where}: vertices", data[1], 778)
    if len(joints) != len(vertices):
        raise InputError(f"{where}: joints of {len(joints)} hands and vertices of {len(vertices)}")
    return joints, vertices


def replace_file(unfinished: Path, path: Path) -> None:
    """Put a finished file in its place."""
    os.replace(unfinished, path)


def needs_vertices(where: str, hands: Hands) -> Float[np.ndarray, "n 778 3"]:
    if hands.vertices_mm is None:
        raise InputError(f"{where}: this benchmark takes vertices too; predict with the mesh")
    return hands.vertices_mm


def _separated(items: Iterable[str]) -> Iterable[str]:
    for position, item in enumerate(items):
        yield f", {item}" if position else item


def _shape(hand: Any) -> tuple[int, ...] | str:
    try:
        return tuple(np.shape(hand))
    except ValueError:
        return "ragged"
