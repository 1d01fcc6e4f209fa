"""MSSD and MSPD: largest distance of a point in space and in the picture, least over the object's symmetries.

Exact without looking at all points in all symmetries: the largest distance of a few points bounds that of all from below, so
symmetries are tried in the order of that bound until it exceeds the best found.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int64

from vpog.metrics.models import EvaluationModel
from vpog.metrics.pose_errors import angles_deg, finite_or_inf, inverted, row_blocks, to_pixels, transformed

Rows = Int64[np.ndarray, " m"]
LargestDistances = Callable[[Rows, Rows, Float[np.ndarray, "v 3"]], Float[np.ndarray, " m"]]
"""Of pairs (first) and symmetries (second), over the points given."""


def mssd_errors_mm(
    estimated: Float[np.ndarray, "n 4 4"], true: Float[np.ndarray, "n 4 4"], model: EvaluationModel
) -> Float[np.ndarray, " n"]:
    """Maximum symmetry-aware surface distance: min over S of max over x of |est(x) - gt(S x)|.

    Only corners of the convex hull can be farthest. Distances are taken in the frame of the true object.
    """
    relative = (inverted(true) @ estimated)[:, :3]
    symmetries = model.symmetries[:, :3]

    def largest(pairs: Rows, chosen: Rows, points: np.ndarray) -> np.ndarray:
        moved = transformed(relative[pairs] - symmetries[chosen], points)
        return np.asarray(np.sqrt(np.einsum("mcv,mcv->mv", moved, moved).max(-1)))

    return _least_over_symmetries(len(true), model, model.hull_points_mm, largest)


def mspd_errors_px(
    estimated: Float[np.ndarray, "n 4 4"],
    true: Float[np.ndarray, "n 4 4"],
    model: EvaluationModel,
    K: Float[np.ndarray, "n 3 3"],
) -> Float[np.ndarray, " n"]:
    """Maximum symmetry-aware projection distance; all points count, because perspective is not convex.

    Infinite where a point has no projection.
    """
    from_estimate = K @ estimated[:, :3]
    from_truth = K @ true[:, :3]

    def largest(pairs: Rows, chosen: Rows, points: np.ndarray) -> np.ndarray:
        apart = to_pixels(transformed(from_estimate[pairs], points))
        apart -= to_pixels(transformed(from_truth[pairs] @ model.symmetries[chosen], points))
        return finite_or_inf(np.sqrt(np.einsum("mcv,mcv->mv", apart, apart).max(-1)))

    return _least_over_symmetries(len(true), model, np.asarray(model.points_mm, np.float64), largest)


def symmetric_rotation_errors_deg(
    estimated: Float[np.ndarray, "n 4 4"], true: Float[np.ndarray, "n 4 4"], model: EvaluationModel
) -> Float[np.ndarray, " n"]:
    """Rotation error to the nearest of the poses that look the same, 0..180.

    Its symmetry is the one with the largest trace; the angle is then taken as precisely as without symmetries.
    """
    relative = np.swapaxes(true[:, :3, :3], -1, -2) @ estimated[:, :3, :3]
    rotations = model.symmetries[:, :3, :3]
    nearest = (relative.reshape(-1, 9) @ rotations.reshape(-1, 9).T).argmax(1)
    return angles_deg(np.swapaxes(rotations[nearest], -1, -2) @ relative)


def _least_over_symmetries(
    pairs: int, model: EvaluationModel, points: Float[np.ndarray, "v 3"], largest: LargestDistances
) -> Float[np.ndarray, " n"]:
    everything = np.arange(pairs)
    if not model.is_symmetric:
        return _in_blocks(largest, everything, np.zeros(pairs, np.int64), points)
    count = len(model.symmetries)
    bound = _in_blocks(largest, everything.repeat(count), np.tile(np.arange(count), pairs), model.probe_points_mm)
    bound = bound.reshape(pairs, count)
    order = bound.argsort(1)
    best = np.full(pairs, np.inf)
    active = everything
    for rank in range(count):
        chosen = order[active, rank]
        promising = bound[active, chosen] < best[active]
        active, chosen = active[promising], chosen[promising]
        if len(active) == 0:
            break
        best[active] = np.minimum(best[active], _in_blocks(largest, active, chosen, points))
    return best


def _in_blocks(largest: LargestDistances, pairs: Rows, chosen: Rows, points: np.ndarray) -> np.ndarray:
    parts = [largest(pairs[rows], chosen[rows], points) for rows in row_blocks(len(pairs), 3 * len(points))]
    return np.concatenate(parts) if parts else np.zeros(0)
