"""VSD: how much of what is visible lies at the wrong depth, as BOP measures it (2019 visibility)."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

VSD_DELTA_MM = 15.0
"""BOP's tolerance of visibility; ITODD takes 5."""

DepthRenderer = Callable[
    [int, Float[np.ndarray, "b 4 4"], Float[np.ndarray, "b 3 3"], tuple[int, int]], Float[np.ndarray, "b h w"]
]
"""Object, poses (mm), intrinsics and picture size (height, width) to z in mm, 0 where nothing is."""


def distances_of_depth(
    depth_mm: Float[np.ndarray, "*batch h w"], K: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "*batch h w"]:
    """Distance from the camera's centre instead of along its axis; 0 stays 0."""
    height, width = depth_mm.shape[-2:]
    from_pixel = np.linalg.inv(np.asarray(K, np.float64))
    along_columns, along_rows = (
        np.arange(width)[:, None] * from_pixel[:, 0],
        np.arange(height)[:, None] * from_pixel[:, 1],
    )
    rays = along_rows[:, None] + along_columns + from_pixel[:, 2]
    return np.asarray(depth_mm * np.sqrt(np.einsum("hwc,hwc->hw", rays, rays)))


def visible_truth(
    test_mm: Float[np.ndarray, "h w"], true_mm: Float[np.ndarray, "*batch h w"], delta_mm: float = VSD_DELTA_MM
) -> Bool[np.ndarray, "*batch h w"]:
    """Where a model that has been rendered to distances is not hidden by the scene; no measurement hides nothing."""
    in_front = true_mm.astype(np.float32) - test_mm.astype(np.float32) <= delta_mm
    return np.asarray((true_mm > 0) & (in_front | (test_mm == 0)))


def visible_estimate(
    test_mm: Float[np.ndarray, "h w"],
    estimated_mm: Float[np.ndarray, "*batch h w"],
    truth_is_visible: Bool[np.ndarray, "*batch h w"],
    delta_mm: float = VSD_DELTA_MM,
) -> Bool[np.ndarray, "*batch h w"]:
    """As for the truth; besides, where the truth is visible the estimate is, too."""
    return np.asarray(visible_truth(test_mm, estimated_mm, delta_mm) | (truth_is_visible & (estimated_mm > 0)))


def vsd_errors(
    test_mm: Float[np.ndarray, "h w"],
    estimated_mm: Float[np.ndarray, "h w"],
    true_mm: Float[np.ndarray, "h w"],
    taus: Float[np.ndarray, " k"],
    diameter_mm: float | None,
    delta_mm: float = VSD_DELTA_MM,
) -> Float[np.ndarray, " k"]:
    """Share of the visible pixels of either that only one shows, or at distances tau or more apart; 1 where none is visible.

    Args:
        test_mm, estimated_mm, true_mm: Distance images, not depth: see `distances_of_depth`.
        taus: In diameters, or in mm where `diameter_mm` is None.
    """
    truth_seen = visible_truth(test_mm, true_mm, delta_mm)
    estimate_seen = visible_estimate(test_mm, estimated_mm, truth_seen, delta_mm)
    shared = truth_seen & estimate_seen
    union = np.count_nonzero(truth_seen | estimate_seen)
    if union == 0:
        return np.ones(len(taus))
    apart = np.sort(np.abs(true_mm[shared] - estimated_mm[shared]))
    wrong = len(apart) - np.searchsorted(apart / (diameter_mm or 1.0), taus, side="left")
    return np.asarray((wrong + union - len(apart)) / union)
