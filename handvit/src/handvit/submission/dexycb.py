"""DexYCB: a line `id,63 numbers` for each hand, mm, OpenCV axes, canonical order; the id counts samples of the split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from handvit.submission.hands import Hands, check_count, replace_file
from handvit.submission.scores import check_pair, joint_scores, procrustes_aligned, root_relative
from posecore.errors import InputError

NEAREST_MM = 20.0
"""No hand is nearer to the camera: smaller numbers are metres."""


def write_dexycb(path: Path, hands: Hands, ids: Sequence[int]) -> None:
    """
    Raises:
        InputError: An id comes twice, or joints are not finite, or in metres, or behind the camera.
    """
    if len(ids) != len(hands) or len(set(ids)) != len(ids):
        raise InputError(
            f"{path}: {len(hands)} hands and {len(set(ids))} different ids of {len(ids)}; one each is needed"
        )
    _check(str(path), hands.joints_mm)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.writing")
    with unfinished.open("w", encoding="utf-8") as file:
        for row in np.argsort(np.asarray(ids)):
            file.write(f"{int(ids[row])},{','.join(f'{x:.4f}' for x in hands.joints_mm[row].ravel())}\n")
    replace_file(unfinished, path)


def read_dexycb(path: Path, count: int | None = None) -> tuple[Int[np.ndarray, " n"], Hands]:
    """Ids, ascending, and hands.

    Raises:
        InputError: A line is of another form, an id comes twice, or the joints cannot be mm; names file and line.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    rows: dict[int, list[float]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        cells = line.split(",")
        if len(cells) != 64:
            raise InputError(f"{path}:{number}: {len(cells)} values, expected an id and 63 numbers")
        try:
            sample, values = int(cells[0]), [float(cell) for cell in cells[1:]]
        except ValueError as error:
            raise InputError(f"{path}:{number}: {error}") from None
        if sample in rows:
            raise InputError(f"{path}:{number}: id {sample} was there before")
        rows[sample] = values
    check_count(str(path), len(rows), count)
    if not rows:
        raise InputError(f"{path}: holds no hands")
    ids = np.array(sorted(rows))
    joints = np.array([rows[i] for i in ids]).reshape(-1, 21, 3)
    _check(str(path), joints)
    return ids, Hands(joints)


def score_dexycb(pred: Hands, truth: Hands) -> dict[str, float]:
    """The official numbers: `absolute`, `root_relative` and `procrustes` joints (which may mirror), each mean and AUC."""
    check_pair("DexYCB", pred, truth)
    p, t = pred.joints_mm, truth.joints_mm
    scores = joint_scores("absolute", p, t) | joint_scores("root_relative", root_relative(p), root_relative(t))
    return scores | joint_scores("procrustes", procrustes_aligned(p, t), t)


def _check(where: str, joints_mm: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(joints_mm).all((1, 2)))
    if len(bad):
        raise InputError(f"{where}: {len(bad)} hands have values that are not finite, the first is number {bad[0]}")
    if len(joints_mm) and np.median(np.abs(joints_mm[..., 2])) < NEAREST_MM:
        raise InputError(
            f"{where}: hands are within {NEAREST_MM:g} of the camera: that looks like metres, mm are needed"
        )
    behind = np.flatnonzero((joints_mm[..., 2] <= 0).any(1))
    if len(behind):
        raise InputError(f"{where}: {len(behind)} hands have joints behind the camera, the first is number {behind[0]}")
