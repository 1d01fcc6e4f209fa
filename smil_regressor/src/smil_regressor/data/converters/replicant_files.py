"""Files of a replicAnt set (https://github.com/evo-biomech/replicAnt): which belong together, and what their JSON says.

One camera: `<set>_<NN>.json`, `.JPG`, optional `_ID.png`. Many cameras: `<set>_<NNNNN>_CAM<id>.json`, `.JPG`,
`<set>_<NNNNN>_ID_CAM<id>.png` and `_Depth_CAM<id>.png`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from posecore.errors import InputError
from smil_regressor.data.converters.unreal import UnrealCamera, focal_from_fov

NAME = re.compile(r"^(?P<set>.+)_(?P<number>\d+)(?:_CAM(?P<camera>[^_.]+))?$")
IMAGE_ENDINGS = (".JPG", ".jpg", ".jpeg", ".png", ".PNG")


@dataclass(frozen=True)
class ReplicantView:
    """Files of one picture."""

    json: Path
    camera: str
    """Empty in sets of one camera."""

    def find(self, kind: str = "") -> Path | None:
        """The picture itself, or its "ID" or "Depth" companion; None where there is none."""
        parts = NAME.match(self.json.stem)
        assert parts is not None  # only such files are listed
        stem = f"{parts['set']}_{parts['number']}" + (f"_{kind}" if kind else "")
        stem += f"_CAM{self.camera}" if self.camera else ""
        endings = (".png", ".PNG") if kind else IMAGE_ENDINGS
        return next((path for end in endings if (path := self.json.with_name(stem + end)).is_file()), None)


@dataclass(frozen=True)
class ReplicantLabels:
    """One subject in one picture, in Unreal's units and axes; k keypoints."""

    camera: UnrealCamera
    names: tuple[str, ...]
    pixels: Float[np.ndarray, "k 2"]
    """x, y from the corner of the picture, as Unreal measures."""
    points: Float[np.ndarray, "k 3"]
    """World, centimetres, left-handed."""
    quaternions_xyzw: Float[np.ndarray, "k 4"] | None
    """Local rotations; None in sets that have only positions."""
    global_quaternions_xyzw: Float[np.ndarray, "k 4"] | None
    betas: Float[np.ndarray, " c"] | None
    scale_weights: Float[np.ndarray, " c"] | None
    translation_weights: Float[np.ndarray, " c"] | None


def list_samples(folder: Path) -> list[list[ReplicantView]]:
    """Samples in the order of their numbers, each with its views in the order of camera names."""
    samples: dict[tuple[str, int], list[ReplicantView]] = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        parts = None if path.name.startswith("_BatchData") else NAME.match(path.stem)
        if parts is not None:
            view = ReplicantView(path, parts["camera"] or "")
            samples.setdefault((parts["set"], int(parts["number"])), []).append(view)
    if not samples:
        raise InputError(f"{folder}: no <set>_<number>.json in it; the folder of a replicAnt set is expected")
    return [sorted(samples[key], key=lambda view: natural(view.camera)) for key in sorted(samples)]


def natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts 2 before 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|\D+", text)]


def read_picture_size(folder: Path) -> tuple[int, int] | None:
    """Width and height in `_BatchData_<set>.json`; None where a set has no such file."""
    path = next(iter(sorted(folder.glob("_BatchData*.json"))), None)
    if path is None:
        return None
    resolution = _get(_load(path), "Image Resolution", str(path))
    return int(_get(resolution, "x", str(path))), int(_get(resolution, "y", str(path)))


def read_labels(path: Path, size_wh: tuple[int, int], subject: str = "1") -> ReplicantLabels | None:
    """The labels of one picture of this size; None where the animal is not in it ("subject Data" is empty)."""
    where = str(path)
    data = _get(_load(path), "iterationData", where)
    subjects = {name: value for entry in _get(data, "subject Data", where) for name, value in entry.items()}
    if not subjects:
        return None
    if subject not in subjects:
        raise InputError(f"{path}: subject Data: no subject {subject!r}; there are {', '.join(sorted(subjects))}")
    animal = subjects[subject]
    keypoints = _get(animal, "keypoints", where)
    joints = list(keypoints.values())
    return ReplicantLabels(
        camera=_camera(_get(data, "camera", where), size_wh, where),
        names=tuple(keypoints),
        pixels=_vectors(joints, "2DPos", "xy", where),
        points=_vectors(joints, "3DPos", "xyz", where),
        quaternions_xyzw=_quaternions(joints, "quaternion", where),
        global_quaternions_xyzw=_quaternions(joints, "globalRotation", where),
        betas=_weights(animal.get("shape betas")),
        scale_weights=_weights(animal.get("ScaleWeights")),
        translation_weights=_weights(animal.get("TranslationWeights")),
    )


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a JSON file ({error})") from None


def _get(table: Any, key: str, where: str) -> Any:
    if not isinstance(table, Mapping) or key not in table:
        raise InputError(f"{where}: {key}: missing; the layout of replicAnt is expected")
    return table[key]


def _camera(camera: Any, size_wh: tuple[int, int], where: str) -> UnrealCamera:
    planes = _get(camera, "View Matrix", where)
    rows = np.concatenate([_vectors([planes], f"{axis}Plane", "xyz", where) for axis in "xyzw"])
    fov = _get(camera, "FOV", where)
    if not isinstance(fov, int | float) or not 0 < fov < 180:
        raise InputError(f"{where}: camera.FOV: degrees between 0 and 180 are expected, this is {fov!r}")
    return UnrealCamera(rows[:3], rows[3], focal_from_fov(fov, size_wh[0]), size_wh)


def _vectors(tables: Sequence[Any], key: str, axes: str, where: str) -> Float[np.ndarray, "n d"]:
    vectors = [_get(table, key, where) for table in tables]
    try:
        values = [[vector[axis] for axis in axes] for vector in vectors]
        return np.array(values, dtype=np.float64).reshape(-1, len(axes))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{where}: {key}: numbers {', '.join(axes)} are expected") from None


def _quaternions(joints: Sequence[Any], key: str, where: str) -> Float[np.ndarray, "k 4"] | None:
    if not joints or not all(key in joint for joint in joints):
        return None
    quaternions = _vectors(joints, key, "xyzw", where)
    if not (np.linalg.norm(quaternions, axis=1) > 0.5).all():
        raise InputError(f"{where}: {key}: unit quaternions x, y, z, w are expected")
    return quaternions


def _weights(value: Any) -> Float[np.ndarray, " c"] | None:
    """A list, or a table PC_01, PC_02, ... in that order; None where there is none."""
    if isinstance(value, Mapping):
        value = [value[name] for name in sorted(value, key=natural)]
    return np.array(value, dtype=np.float64) if value else None
