"""What BOP's models_info.json says of each object: its size and its symmetries."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from posecore.errors import InputError

RIGID = 1e-3
"""How far a symmetry in a file may be from a rotation; files carry three to six digits."""


@dataclass(frozen=True)
class ContinuousSymmetry:
    """The object looks the same after any turn about this line."""

    axis: Float64[np.ndarray, "3"]
    """Unit vector."""
    offset_mm: Float64[np.ndarray, "3"]
    """A point of the line."""


def _none() -> Float64[np.ndarray, "n 4 4"]:
    return np.empty((0, 4, 4))


@dataclass(frozen=True)
class ModelInfo:
    """Of one object; its box is min_mm .. min_mm + size_mm."""

    diameter_mm: float
    """The largest distance of two vertices."""
    min_mm: Float64[np.ndarray, "3"]
    size_mm: Float64[np.ndarray, "3"]
    symmetries_discrete: Float64[np.ndarray, "n 4 4"] = field(default_factory=_none)
    """Rigid motions, in mm, that leave the object as it looks, without the identity."""
    symmetries_continuous: tuple[ContinuousSymmetry, ...] = ()

    @property
    def is_symmetric(self) -> bool:
        return len(self.symmetries_discrete) > 0 or len(self.symmetries_continuous) > 0


def symmetry_transforms(info: ModelInfo, step: float = 0.01) -> Float64[np.ndarray, "n 4 4"]:
    """All motions of the object that leave it as it looks, the identity first, as BOP counts them.

    Each discrete one is followed by ceil(pi / step) turns about each continuous axis.

    Args:
        step: Share of the diameter that a point half a diameter from the axis moves between two neighbouring turns.

    Raises:
        InputError: `step` is not positive.
    """
    if not step > 0:
        raise InputError(f"symmetry step: is {step}; it must be a share of the diameter above 0")
    discrete = np.concatenate([np.eye(4)[None], info.symmetries_discrete])
    if not info.symmetries_continuous:
        return discrete
    turns = np.concatenate([_turns(symmetry, math.ceil(math.pi / step)) for symmetry in info.symmetries_continuous])
    return np.asarray((turns[None] @ discrete[:, None]).reshape(-1, 4, 4))


def read_models_info(path: Path) -> dict[int, ModelInfo]:
    """Sizes and symmetries by object id, in the order of the file.

    Raises:
        InputError: No such file, no JSON, the list form (see model_names), a missing, wrong or non-finite field; every
            wrong object is named.
    """
    data = read_json(Path(path))
    if isinstance(data, list):
        raise InputError(
            f"{path}: is a list, which names objects (GSO, ShapeNet) but gives no sizes; expected"
            ' {"1": {"diameter": ..., "min_x": ...}, ...}'
        )
    if not isinstance(data, Mapping):
        raise InputError(f"{path}: is a {type(data).__name__}; expected an object with one entry for each object id")
    infos: dict[int, ModelInfo] = {}
    problems: list[str] = []
    for key, entry in data.items():
        try:
            infos[_object_id(key, f"{path}: {key!r}")] = _info(entry, f"{path}: object {key}")
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    return infos


def write_models_info(path: Path, infos: Mapping[int, ModelInfo]) -> None:
    """Write the BOP form; floats keep all their digits."""
    text = json.dumps({str(obj_id): _entry(info) for obj_id, info in infos.items()}, indent=2)
    Path(path).write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """
    Raises:
        InputError: No such file, or no JSON; names file and line.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no JSON ({error})") from None


def _turns(symmetry: ContinuousSymmetry, count: int) -> Float64[np.ndarray, "{count} 4 4"]:
    """Evenly spread turns about a line, the first by 0 (Rodrigues)."""
    x, y, z = symmetry.axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angles = (2 * math.pi / count * np.arange(count))[:, None, None]
    turns = np.tile(np.eye(4), (count, 1, 1))
    turns[:, :3, :3] += np.sin(angles) * cross + (1 - np.cos(angles)) * (cross @ cross)
    turns[:, :3, 3] = symmetry.offset_mm - turns[:, :3, :3] @ symmetry.offset_mm
    return turns


def _object_id(key: Any, where: str) -> int:
    try:
        return int(key)
    except (TypeError, ValueError):
        raise InputError(f"{where}: is no object id; keys are whole numbers") from None


def _info(entry: Any, where: str) -> ModelInfo:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: is {entry!r}; expected an object with diameter, min_x..z and size_x..z")
    names = ["diameter", *(f"{kind}_{axis}" for kind in ("min", "size") for axis in "xyz")]
    missing = [name for name in names if name not in entry]
    if missing:
        raise InputError(f"{where}: has no {', '.join(missing)}")
    numbers = {name: float(_numbers([entry[name]], 1, f"{where}.{name}")[0]) for name in names}
    if numbers["diameter"] <= 0:
        raise InputError(f"{where}.diameter: is {numbers['diameter']}; it must be above 0 mm")
    negative = [name for name in names if name.startswith("size") and numbers[name] < 0]
    if negative:
        raise InputError(f"{where}.{negative[0]}: is {numbers[negative[0]]}; a size is at least 0 mm")
    return ModelInfo(
        numbers["diameter"],
        np.array([numbers[f"min_{axis}"] for axis in "xyz"]),
        np.array([numbers[f"size_{axis}"] for axis in "xyz"]),
        _discrete(entry.get("symmetries_discrete", []), f"{where}.symmetries_discrete"),
        _continuous(entry.get("symmetries_continuous", []), f"{where}.symmetries_continuous"),
    )


def _discrete(values: Any, where: str) -> Float64[np.ndarray, "n 4 4"]:
    if not isinstance(values, list):
        raise InputError(f"{where}: is {values!r}; expected a list of 16 numbers each, row by row")
    matrices = [_numbers(row, 16, f"{where}[{i}]").reshape(4, 4) for i, row in enumerate(values)]
    for i, matrix in enumerate(matrices):
        rotation = matrix[:3, :3]
        is_rotation = np.abs(rotation @ rotation.T - np.eye(3)).max() < RIGID and np.linalg.det(rotation) > 0
        if not is_rotation or not np.array_equal(matrix[3], [0, 0, 0, 1]):
            raise InputError(
                f"{where}[{i}]: is {matrix.tolist()}; expected a rotation and a translation, last row 0 0 0 1"
            )
    return np.stack(matrices) if matrices else _none()


def _continuous(values: Any, where: str) -> tuple[ContinuousSymmetry, ...]:
    if not isinstance(values, list):
        raise InputError(f'{where}: is {values!r}; expected a list of {{"axis": [3 numbers], "offset": [3 numbers]}}')
    found = []
    for i, value in enumerate(values):
        if not isinstance(value, Mapping) or "axis" not in value or "offset" not in value:
            raise InputError(f"{where}[{i}]: is {value!r}; expected axis and offset, 3 numbers each")
        axis = _numbers(value["axis"], 3, f"{where}[{i}].axis")
        length = float(np.linalg.norm(axis))
        if not length > 0:
            raise InputError(f"{where}[{i}].axis: is {axis.tolist()}; an axis has a length")
        found.append(ContinuousSymmetry(axis / length, _numbers(value["offset"], 3, f"{where}[{i}].offset")))
    return tuple(found)


def _numbers(values: Any, count: int, where: str) -> Float64[np.ndarray, " {count}"]:
    is_list = isinstance(values, list) and len(values) == count
    if not is_list or not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        shown = values[0] if count == 1 else values
        expected = "a finite number" if count == 1 else f"{count} finite numbers"
        raise InputError(f"{where}: is {shown!r}; expected {expected}")
    return np.array(values, dtype=np.float64)


def _entry(info: ModelInfo) -> dict[str, Any]:
    entry: dict[str, Any] = {"diameter": float(info.diameter_mm)}
    entry |= {f"min_{axis}": float(value) for axis, value in zip("xyz", info.min_mm, strict=True)}
    entry |= {f"size_{axis}": float(value) for axis, value in zip("xyz", info.size_mm, strict=True)}
    if len(info.symmetries_discrete):
        entry["symmetries_discrete"] = [matrix.ravel().tolist() for matrix in info.symmetries_discrete]
    if info.symmetries_continuous:
        entry["symmetries_continuous"] = [
            {"axis": symmetry.axis.tolist(), "offset": symmetry.offset_mm.tolist()}
            for symmetry in info.symmetries_continuous
        ]
    return entry
