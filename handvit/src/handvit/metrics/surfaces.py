"""Agreement of two meshes as surfaces."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree


def f_scores(
    pred: Float[np.ndarray, "n p 3"], target: Float[np.ndarray, "n q 3"], thresholds: Sequence[float]
) -> Float[np.ndarray, "n k 3"]:
    """F, precision and recall at every threshold: shares of points whose nearest point of the other mesh is nearer (<).

    Named as in FreiHAND's script, which calls the share of the target's points `precision`, and of the prediction's `recall`.

    One search of the nearest points serves all thresholds: for meshes of 778 vertices and two thresholds 0.8 ms on one core,
    where distances of all pairs take 3 ms.
    """
    out = np.zeros((len(pred), len(thresholds), 3))
    limits = np.array(thresholds)[:, None]
    for row, (points, others) in enumerate(zip(pred, target, strict=True)):
        precision = (_nearest(others, points, limits.max()) < limits).mean(-1)
        recall = (_nearest(points, others, limits.max()) < limits).mean(-1)
        total = precision + recall
        harmonic = 2 * precision * recall / np.where(total > 0, total, 1.0)
        out[row] = np.stack([harmonic, precision, recall], -1)
    return out


def _nearest(points: Float[np.ndarray, "p 3"], others: Float[np.ndarray, "q 3"], limit: float) -> np.ndarray:
    """Distance to the nearest of the others; infinite from `limit` on."""
    distance, _ = KDTree(others, balanced_tree=False, compact_nodes=False).query(points, distance_upper_bound=limit)
    return np.asarray(distance)
