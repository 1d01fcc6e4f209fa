"""HO3D: pred.json in a zip = [joints, vertices], metres, OpenGL axes (z < 0), HO3D's joint order, as evaluation.txt."""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from handvit.joints import CANONICAL_TO_HO3D, MANO_TO_CANONICAL
from handvit.submission.hands import (
    MM,
    Hands,
    arranged,
    check_count,
    check_metres,
    needs_vertices,
    read_json,
    read_points,
    replace_file,
    split_pair,
    write_pair,
)
from handvit.submission.scores import check_pair, joint_scores, mesh_scores, procrustes_aligned, scaled_at_wrist
from posecore.errors import InputError

OPENGL = np.array([1.0, -1.0, -1.0])
MEMBER = "pred.json"
LARGEST_BYTES = 8 * 2**30
"""Of the file inside of the zip: twenty thousand hands take one gigabyte."""


def read_order(path: Path) -> list[str]:
    """Lines `SEQUENCE/ID` of evaluation.txt.

    Raises:
        InputError: No such file, or it has no lines of that form; names file and line.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        if line.count("/") != 1:
            raise InputError(f"{path}:{number}: {line!r}, expected SEQUENCE/ID")
    if not lines:
        raise InputError(f"{path}: names no samples")
    return lines


def write_ho3d(path: Path, hands: Hands, ids: Sequence[str], order: Sequence[str]) -> None:
    """
    Args:
        path: The zip.
        ids: `SEQUENCE/ID` of each hand.
        order: Those of evaluation.txt.

    Raises:
        InputError: A sample is missing or there twice, there are no vertices, or points are not finite or behind the camera.
    """
    if path.suffix != ".zip":
        raise InputError(f"{path}: a name that ends in .zip is needed")
    rows = arranged(ids, order, str(path))
    joints = _to_ho3d(hands.joints_mm[rows][:, CANONICAL_TO_HO3D])
    vertices = _to_ho3d(needs_vertices(str(path), hands)[rows])
    for points in (joints, vertices):
        check_metres(str(path), points, sign=-1)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.writing")
    with (
        zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(MEMBER, "w", force_zip64=True) as member,
        io.TextIOWrapper(member, encoding="utf-8") as file,
    ):
        write_pair(file, joints, vertices)
    replace_file(unfinished, path)


def read_ho3d(path: Path, count: int | None = None) -> Hands:
    """A submission (pred.json, alone or in a zip), back in OpenCV axes and the canonical order.

    Raises:
        InputError: Not a submission to HO3D: layout, number of hands, unit or axes; names file and hand.
    """
    data = read_json(path) if path.suffix == ".json" else _read_zip(path)
    joints, vertices = split_pair(str(path), data)
    check_count(str(path), len(joints), count)
    for name, points in (("joints", joints), ("vertices", vertices)):
        check_metres(f"{path}: {name}", points, sign=-1)
    return _hands(joints, vertices)


def _read_zip(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                raise InputError(f"{path}: holds no {MEMBER}, but {', '.join(archive.namelist()[:5]) or 'nothing'}")
            if archive.getinfo(MEMBER).file_size > LARGEST_BYTES:
                raise InputError(f"{path}: {MEMBER} is {archive.getinfo(MEMBER).file_size} bytes, too large")
            return json.loads(archive.read(MEMBER))
    except (zipfile.BadZipFile, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a zip with valid JSON: {error}") from None


def read_ho3d_truth(xyz: Path, verts: Path | None) -> Hands:
    """The published evaluation_xyz.json and evaluation_verts.json."""
    joints = read_points(xyz, 21)
    vertices = None if verts is None else read_points(verts, 778)
    check_metres(str(xyz), joints, sign=-1)
    if vertices is not None:
        check_count(str(verts), len(vertices), len(joints))
    return _hands(joints, vertices)


def score_ho3d(pred: Hands, truth: Hands) -> dict[str, float]:
    """The official numbers: as FreiHAND's, and `xyz_sc` after scaling by one bone at the true wrist."""
    check_pair("HO3D", pred, truth)
    p, t = pred.joints_mm, truth.joints_mm
    joints = joint_scores("xyz", p, t) | joint_scores("xyz_sc", scaled_at_wrist(p, t), t)
    return joints | joint_scores("xyz_al", procrustes_aligned(p, t), t) | mesh_scores(pred, truth)


def _to_ho3d(points_mm: Float[np.ndarray, "n k 3"]) -> Float[np.ndarray, "n k 3"]:
    return np.asarray(points_mm.astype(np.float64) / MM * OPENGL)


def _hands(joints_m: Float[np.ndarray, "n 21 3"], vertices_m: Float[np.ndarray, "n 778 3"] | None) -> Hands:
    vertices = None if vertices_m is None else vertices_m * OPENGL * MM
    return Hands((joints_m * OPENGL * MM)[:, MANO_TO_CANONICAL], vertices)
