"""Pose errors of a can with 315 symmetries: ours beside loops as the public toolkit has them.

    PYTHONPATH=core/bench python vpog/bench/bench_vpog_metrics.py --json build/bench/bench_vpog_metrics.json

Milliseconds for 24 pairs of poses and a model of 1000 points; one pair in five is turned at random, the others are near. One
rival goes through pairs and symmetries one by one, the other, harder to beat, takes all symmetries of a pair at once. For
ADD-S the rival grows a tree for each pair. All give the same numbers (checked before timing).
"""

from collections.abc import Callable

import numpy as np
from _measure import Target, compare, json_argument, report
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from vpog.metrics.models import EvaluationModel
from vpog.metrics.pose_errors import add_s_errors_mm
from vpog.metrics.symmetric_errors import mspd_errors_px, mssd_errors_mm

PAIRS, POINTS, SYMMETRIES = 24, 1000, 315
K = np.array([[570.0, 0, 320], [0, 570, 240], [0, 0, 1]])
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def transforms(rotations: np.ndarray, translations: np.ndarray | float) -> np.ndarray:
    out = np.tile(np.eye(4), (len(rotations), 1, 1))
    out[:, :3, :3], out[:, :3, 3] = rotations, translations
    return out


def make_can(rng: np.random.Generator) -> EvaluationModel:
    angle = rng.uniform(0, 2 * np.pi, POINTS)
    points = np.stack([30 * np.cos(angle), 30 * np.sin(angle), rng.uniform(-45, 45, POINTS)], 1)
    turns = Rotation.from_euler("z", 2 * np.pi / SYMMETRIES * np.arange(SYMMETRIES)[:, None])
    return EvaluationModel(points, 108.2, transforms(turns.as_matrix(), 0.0))


def make_poses(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    true = transforms(Rotation.from_quat(rng.normal(size=(PAIRS, 4))).as_matrix(), rng.normal(0, 50, (PAIRS, 3)))
    true[:, 2, 3] += 700
    about_axis = Rotation.from_euler("z", rng.uniform(0, 6, (PAIRS, 1))).as_matrix()
    small = Rotation.from_rotvec(rng.normal(0, 0.1, (PAIRS, 3))).as_matrix()
    estimated = transforms(true[:, :3, :3] @ about_axis @ small, true[:, :3, 3] + rng.normal(0, 8, (PAIRS, 3)))
    estimated[::5, :3, :3] = Rotation.from_quat(rng.normal(size=(len(estimated[::5]), 4))).as_matrix()
    return estimated, true


def in_space(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=-1).max(-1)


def in_picture(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a @ K.T, b @ K.T
    return np.linalg.norm(a[..., :2] / a[..., 2:] - b[..., :2] / b[..., 2:], axis=-1).max(-1)


def moved(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ np.swapaxes(pose[..., :3, :3], -1, -2) + pose[..., None, :3, 3]


def one_by_one(estimated: np.ndarray, true: np.ndarray, can: EvaluationModel, distance: Distance) -> np.ndarray:
    points = can.points_mm
    return np.array(
        [
            min(distance(moved(e, points), moved(t @ symmetry, points)) for symmetry in can.symmetries)
            for e, t in zip(estimated, true, strict=True)
        ]
    )


def pair_by_pair(estimated: np.ndarray, true: np.ndarray, can: EvaluationModel, distance: Distance) -> np.ndarray:
    points = can.points_mm
    poses = zip(estimated, true, strict=True)
    return np.array([distance(moved(e, points), moved(t @ can.symmetries, points)).min() for e, t in poses])


def trees(estimated: np.ndarray, true: np.ndarray, points: np.ndarray) -> np.ndarray:
    poses = zip(estimated, true, strict=True)
    return np.array([KDTree(moved(e, points)).query(moved(t, points))[0].mean() for e, t in poses])


def main() -> None:
    path = json_argument(__doc__)
    rng = np.random.default_rng(0)
    can = make_can(rng)
    estimated, true = make_poses(rng)
    cameras = np.tile(K, (PAIRS, 1, 1))
    cases: list[tuple[str, Callable[[], np.ndarray], dict[str, Callable[[], np.ndarray]], float]] = [
        (
            "MSSD",
            lambda: mssd_errors_mm(estimated, true, can),
            {
                "all symmetries": lambda: pair_by_pair(estimated, true, can, in_space),
                "one by one": lambda: one_by_one(estimated, true, can, in_space),
            },
            10,
        ),
        (
            "MSPD",
            lambda: mspd_errors_px(estimated, true, can, cameras),
            {
                "all symmetries": lambda: pair_by_pair(estimated, true, can, in_picture),
                "one by one": lambda: one_by_one(estimated, true, can, in_picture),
            },
            5,
        ),
        (
            "ADD-S",
            lambda: add_s_errors_mm(estimated, true, can.points_mm),
            {"a tree a pair": lambda: trees(estimated, true, can.points_mm)},
            1,
        ),
    ]
    results = []
    for name, ours, rivals, ratio in cases:
        for rival in rivals.values():
            np.testing.assert_allclose(ours(), rival(), rtol=1e-9, atol=1e-9)
        results.append(compare(f"{name}, {PAIRS} pairs", ours, dict(rivals), runs=5, target=Target(ratio=ratio)))
    report(results, path)


if __name__ == "__main__":
    main()
