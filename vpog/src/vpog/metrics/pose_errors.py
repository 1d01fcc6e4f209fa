"""Distances between estimated and true poses of one object: ADD, ADD-S, projection, rotation, translation.

All take n pairs of poses (object to camera, mm) and give n numbers, in float64.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

VALUES_AT_ONCE = 2**17
"""Numbers of a temporary array: few enough for the processor's cache."""
LEAF_SIZE = 24
"""Points of a leaf of the tree: a third faster than SciPy's 10."""


def add_errors_mm(
    estimated: Float[np.ndarray, "n 4 4"], true: Float[np.ndarray, "n 4 4"], points_mm: Float[np.ndarray, "v 3"]
) -> Float[np.ndarray, " n"]:
    """Mean distance between the model's points in both poses (Hinterstoisser et al. 2012)."""
    difference = (estimated - true)[:, :3]
    return _per_pair(len(difference), len(points_mm), lambda rows: _lengths(difference[rows], points_mm).mean(-1))


def add_s_errors_mm(
    estimated: Float[np.ndarray, "n 4 4"],
    true: Float[np.ndarray, "n 4 4"],
    points_mm: Float[np.ndarray, "v 3"],
    workers: int = 1,
) -> Float[np.ndarray, " n"]:
    """Mean distance from each point in the true pose to the nearest point in the estimated pose.

    One tree of the model serves all pairs: true points are brought into the estimate's object frame.

    Args:
        workers: Threads that search; -1: one for each core.
    """
    tree = KDTree(points_mm, leafsize=LEAF_SIZE)
    relative = (inverted(estimated) @ true)[:, :3]

    def nearest(rows: slice) -> np.ndarray:
        moved = np.moveaxis(transformed(relative[rows], points_mm), 1, -1)
        distances, _ = tree.query(moved, workers=workers)
        return np.asarray(np.mean(distances, axis=-1))

    return _per_pair(len(relative), len(points_mm), nearest)


def projection_errors_px(
    estimated: Float[np.ndarray, "n 4 4"],
    true: Float[np.ndarray, "n 4 4"],
    points_mm: Float[np.ndarray, "v 3"],
    K: Float[np.ndarray, "n 3 3"],
) -> Float[np.ndarray, " n"]:
    """Mean distance between the projections of the model's points; infinite where one of them has no projection."""
    sides = K @ estimated[:, :3], K @ true[:, :3]

    def apart(rows: slice) -> np.ndarray:
        a, b = (to_pixels(transformed(side[rows], points_mm)) for side in sides)
        return finite_or_inf(np.hypot(*np.moveaxis(a - b, -2, 0)).mean(-1))

    return _per_pair(len(K), len(points_mm), apart)


def rotation_errors_deg(
    estimated: Float[np.ndarray, "n 4 4"], true: Float[np.ndarray, "n 4 4"]
) -> Float[np.ndarray, " n"]:
    """Angle of the rotation from one to the other, 0..180; right to 1e-13 near 0, where acos of the trace is not."""
    relative = np.swapaxes(true[:, :3, :3], -1, -2) @ estimated[:, :3, :3]
    return angles_deg(relative)


def translation_errors_mm(
    estimated: Float[np.ndarray, "n 4 4"], true: Float[np.ndarray, "n 4 4"]
) -> Float[np.ndarray, " n"]:
    """Distance of the object's origins."""
    return np.asarray(np.linalg.norm(estimated[:, :3, 3] - true[:, :3, 3], axis=-1))


def angles_deg(rotations: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch"]:
    """Angle of each rotation, 0..180.

    Convention: of |R - 1| = sqrt(8) sin(angle / 2) and tr R = 1 + 2 cos(angle), each where it is steep.
    """
    half_sine = np.linalg.norm(rotations - np.eye(3), axis=(-2, -1)) / np.sqrt(8)
    half_cosine = np.sqrt(np.clip(1 + np.trace(rotations, axis1=-2, axis2=-1), 0, None)) / 2
    return np.asarray(np.degrees(2 * np.arctan2(half_sine, half_cosine)))


def inverted(poses: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n 4 4"]:
    """Of rigid transforms."""
    out = np.tile(np.eye(4), (len(poses), 1, 1))
    out[:, :3, :3] = np.swapaxes(poses[:, :3, :3], -1, -2)
    out[:, :3, 3] = -(out[:, :3, :3] @ poses[:, :3, 3:])[..., 0]
    return out


def transformed(
    matrices: Float[np.ndarray, "*batch 3 4"], points: Float[np.ndarray, "v 3"]
) -> Float[np.ndarray, "*batch 3 v"]:
    """One matrix product for all matrices; coordinates come before points, so that each lies in one piece."""
    homogeneous = np.concatenate([points.T, np.ones((1, len(points)))])
    flat = matrices.reshape(-1, 4) @ homogeneous
    return np.asarray(flat.reshape(*matrices.shape[:-1], len(points)))


def to_pixels(homogeneous: Float[np.ndarray, "*batch 3 v"]) -> Float[np.ndarray, "*batch 2 v"]:
    """Also of points behind the camera, as the BOP toolkit does: such an estimate is far off in any case."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(homogeneous[..., :2, :] / homogeneous[..., 2:, :])


def finite_or_inf(errors: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
    """A point in the camera's plane has no pixel, its error no bound."""
    return np.where(np.isnan(errors), np.inf, errors)


def row_blocks(rows: int, values_per_row: int) -> Iterator[slice]:
    """All rows, in pieces whose temporary arrays stay small."""
    step = max(1, VALUES_AT_ONCE // max(1, values_per_row))
    return (slice(first, min(first + step, rows)) for first in range(0, rows, step))


def _per_pair(pairs: int, points: int, error: Callable[[slice], np.ndarray]) -> Float[np.ndarray, " n"]:
    parts = [error(rows) for rows in row_blocks(pairs, 3 * points)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _lengths(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
    moved = transformed(matrices, points)
    return np.asarray(np.sqrt(np.einsum("...cv,...cv->...v", moved, moved)))
