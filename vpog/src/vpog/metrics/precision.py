"""Average precision of detected poses, as in BOP 2024 and COCO."""

import numpy as np
from jaxtyping import Bool, Float, Int64

from vpog.metrics.recall import NOBODY, Matches

RECALL_POINTS = np.linspace(0, 1, 101)


def average_precision(
    matches: Matches,
    score: Float[np.ndarray, " e"],
    estimate_obj_id: Int64[np.ndarray, " e"],
    truth_obj_id: Int64[np.ndarray, " t"],
    counts: Bool[np.ndarray, " t"],
) -> dict[int, Float[np.ndarray, " k"]]:
    """AP of each object at each threshold: precision at 101 recalls, each the best at that recall or beyond.

    Estimates that found nothing lower it, also those in pictures without their object; ignored ones are left out. An object
    without a truth that counts has none.
    """
    is_right = np.zeros(matches.is_ignored.shape, bool)
    thresholds, truths = np.nonzero((matches.estimate_of_truth != NOBODY) & counts)
    is_right[thresholds, matches.estimate_of_truth[thresholds, truths]] = True
    out = {}
    for obj_id in np.unique(truth_obj_id[counts]).tolist():
        mine = np.flatnonzero(estimate_obj_id == obj_id)
        mine = mine[np.argsort(-score[mine], kind="stable")]
        positives = int((truth_obj_id[counts] == obj_id).sum())
        out[obj_id] = interpolated_precision(is_right[:, mine], ~matches.is_ignored[:, mine], positives)
    return out


def interpolated_precision(
    is_right: Bool[np.ndarray, "k e"], is_judged: Bool[np.ndarray, "k e"], positives: int
) -> Float[np.ndarray, " k"]:
    """Area below the curve of precision over recall, of estimates in the order of falling score.

    Args:
        positives: How many there are to be found, at least one.
    """
    right = np.cumsum(is_right & is_judged, axis=1)
    judged = np.cumsum(is_judged, axis=1)
    precision = right / np.maximum(judged, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    beyond = np.concatenate([envelope, np.zeros((len(envelope), 1))], axis=1)
    at = np.stack([np.searchsorted(row / positives, RECALL_POINTS, "left") for row in right])
    return np.asarray(np.take_along_axis(beyond, at, axis=1).mean(1))
