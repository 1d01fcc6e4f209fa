"""FreiHAND: pred.json = [joints, vertices] of 3960 hands, metres, OpenCV axes, canonical order."""

from pathlib import Path

from handvit.submission.hands import (
    MM,
    Hands,
    check_count,
    check_metres,
    needs_vertices,
    read_json,
    replace_file,
    split_pair,
    write_pair,
)
from handvit.submission.scores import check_pair, joint_scores, mesh_scores, procrustes_aligned

FREIHAND_COUNT = 3960


def write_freihand(path: Path, hands: Hands, count: int | None = FREIHAND_COUNT) -> None:
    """Hands in the order of the evaluation pictures. `count` None: a part of the benchmark.

    Raises:
        InputError: Another number of hands, no vertices, or points that are not finite or not in front of the camera.
    """
    joints, vertices = hands.joints_mm / MM, needs_vertices(str(path), hands) / MM
    check_count(str(path), len(hands), count)
    for points in (joints, vertices):
        check_metres(str(path), points, sign=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.writing")
    with unfinished.open("w", encoding="utf-8") as file:
        write_pair(file, joints, vertices)
    replace_file(unfinished, path)


def read_freihand(path: Path, count: int | None = FREIHAND_COUNT) -> Hands:
    """
    Raises:
        InputError: Not a submission to FreiHAND: layout, number of hands, unit or axes; names file and hand.
    """
    joints, vertices = split_pair(str(path), read_json(path))
    check_count(str(path), len(joints), count)
    for name, points in (("joints", joints), ("vertices", vertices)):
        check_metres(f"{path}: {name}", points, sign=1)
    return Hands(joints * MM, vertices * MM)


def score_freihand(pred: Hands, truth: Hands) -> dict[str, float]:
    """The official numbers: `xyz` joints, `mesh` vertices, `f` scores; `_al` after an alignment that may mirror."""
    check_pair("FreiHAND", pred, truth)
    aligned = procrustes_aligned(pred.joints_mm, truth.joints_mm)
    raw = joint_scores("xyz", pred.joints_mm, truth.joints_mm)
    return raw | joint_scores("xyz_al", aligned, truth.joints_mm) | mesh_scores(pred, truth)
