"""From unsupervised keypoints to annotated ones: a linear map without bias, how such keypoints are judged.

Coordinates are in 0..1 of the picture, in any order that both sides share; 0.5 is taken off, so that the map needs no
bias. NumPy, float64.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from posecore.errors import InputError, RunError

HUMAN36M_SWAP = (
    *(0, 6, 7, 8, 9, 10, 1, 2, 3, 4, 5, 11, 12, 13, 14, 15, 16),
    *(25, 26, 27, 28, 29, 30, 31, 24, 17, 18, 19, 20, 21, 22, 23),
)
"""Left and right of the 32 joints exchanged: joint i becomes joint HUMAN36M_SWAP[i]."""
HUMAN36M_SWAP_UPSTREAM = (*HUMAN36M_SWAP[:21], 28, *HUMAN36M_SWAP[22:28], 21, 29, *HUMAN36M_SWAP[30:])
"""The original's, with its slip: 28 stands twice and 29 stays where it is. For comparing with published numbers."""


def fit_linear(
    source: Float[np.ndarray, "m k 2"],
    target: Float[np.ndarray, "m j 2"],
    visible: Bool[np.ndarray, "m j"] | Float[np.ndarray, "m j"] | None = None,
) -> Float[np.ndarray, "k2 j2"]:
    """W that takes keypoints to landmarks: `pinv(X'X) X'Y`; each landmark from the pictures that show it."""
    x, y = _centred(source), _centred(target)
    if visible is None:
        solution: np.ndarray = np.linalg.pinv(x.T @ x) @ x.T @ y
        return solution
    seen = np.asarray(visible, bool)
    never = np.flatnonzero(~seen.any(0))
    if len(never):
        raise InputError(
            f"regression: landmark {never[0]} is visible in none of the {len(seen)} pictures; leave it out"
        )
    weighted = np.einsum("mj,ma->jma", seen.astype(float), x)
    columns = weighted.mT @ y.reshape(len(y), -1, 2).transpose(1, 0, 2)  # (j k2 2)
    each = np.linalg.pinv(weighted.mT @ x) @ columns
    joined: np.ndarray = each.transpose(1, 0, 2).reshape(x.shape[1], -1)
    return joined


def apply_linear(source: Float[np.ndarray, "m k 2"], W: Float[np.ndarray, "k2 j2"]) -> Float[np.ndarray, "m j 2"]:
    """Landmarks, in 0..1, from keypoints."""
    landmarks: np.ndarray = (_centred(source) @ W + 0.5).reshape(len(source), -1, 2)
    return landmarks


def fit_linear_swapped(
    source: Float[np.ndarray, "m k 2"],
    target: Float[np.ndarray, "m j 2"],
    permutation: Int[np.ndarray, " j"],
    max_changed: int = 10,
    max_rounds: int = 100,
) -> Float[np.ndarray, "k2 j2"]:
    """As `fit_linear` where left and right cannot be told apart (people from behind).

    Fits, exchanges left and right of the pictures whose exchanged landmarks are nearer to the estimate, and fits again,
    until at most `max_changed` pictures change.
    """
    labels = np.asarray(target, float)
    for _ in range(max_rounds):
        W = fit_linear(source, labels)
        estimate = apply_linear(source, W)
        swapped = labels[:, permutation]
        nearer = _mean_distance(estimate, swapped) < _mean_distance(estimate, labels)
        if nearer.sum() <= max_changed:
            return W
        labels = np.where(nearer[:, None, None], swapped, labels)
    raise RunError(f"regression: still {nearer.sum()} pictures exchange left and right after {max_rounds} rounds")


def _centred(points: np.ndarray) -> np.ndarray:
    flat: np.ndarray = np.asarray(points, float).reshape(len(points), -1) - 0.5
    return flat


def _mean_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    mean: np.ndarray = np.linalg.norm(a - b, axis=-1).mean(-1)
    return mean
