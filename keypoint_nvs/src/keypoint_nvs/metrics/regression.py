"""How far annotated points are from those that a linear map makes of unsupervised keypoints.

Coordinates are in 0..1 of the picture. Each protocol gives one number a picture (StableKeypoints, section 6.5 of ours);
pictures without a visible point give nan. NumPy, float64.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from keypoint_nvs.regression import apply_linear, fit_linear

PCK_PX, PIXEL_SIDE, HUMAN36M_SIDE = 6.0, 256, 128

Points = Float[np.ndarray, "m j 2"]
Visible = Bool[np.ndarray, "m j"]
PerPicture = Float[np.ndarray, " m"]


def inter_ocular_errors(estimate: Points, target: Points, eyes: tuple[int, int] = (0, 1)) -> PerPicture:
    """CelebA: mean distance in units of the distance between the eyes, which are the first two points."""
    between = np.linalg.norm(target[:, eyes[0]] - target[:, eyes[1]], axis=-1)
    result: PerPicture = _distances(estimate, target).mean(-1) / between
    return result


def visible_errors(estimate: Points, target: Points, visible: Visible | None = None) -> PerPicture:
    """CUB: mean distance of the visible points, in units of the picture's side."""
    distances, seen = _distances(estimate, target), _seen(target, visible)
    count = seen.sum(-1)
    total = np.where(seen, distances, 0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def summed_errors_px256(estimate: Points, target: Points, visible: Visible | None = None) -> PerPicture:
    """Tai-Chi-HD: sum of the distances of the visible points, in pixels of pictures 256 wide."""
    total: PerPicture = np.where(_seen(target, visible), _distances(estimate, target), 0).sum(-1) * PIXEL_SIDE
    return total


def correct_shares(estimate: Points, target: Points, visible: Visible | None = None) -> PerPicture:
    """DeepFashion: share of the (visible) points less than 6 pixels away, at 256; higher is better."""
    seen = _seen(target, visible)
    near = (_distances(estimate, target) * PIXEL_SIDE < PCK_PX) & seen
    count = seen.sum(-1)
    return np.where(count > 0, near.sum(-1) / np.maximum(count, 1), np.nan)


def orientation_free_errors_px128(estimate: Points, target: Points, permutation: Int[np.ndarray, " j"]) -> PerPicture:
    """Human3.6M: mean distance in pixels at 128, of the estimate or of it with left and right exchanged, the lesser one."""
    as_is = _distances(estimate, target).mean(-1)
    exchanged = _distances(estimate[:, permutation], target).mean(-1)
    least: PerPicture = np.minimum(as_is, exchanged) * HUMAN36M_SIDE
    return least


def mean_keypoints(target: Points, visible: Visible | None = None) -> Float[np.ndarray, "j 2"]:
    """Mean place of each point over the pictures that show it: the best answer that looks at no picture."""
    seen = _seen(target, visible)
    total: Float[np.ndarray, "j 2"] = np.where(seen[..., None], target, 0).sum(0) / seen.sum(0)[:, None]
    return total


def fit_visible(
    source: Float[np.ndarray, "m k 2"], target: Points, visible: Visible | None = None
) -> Float[np.ndarray, "k2 j2"]:
    """`regression.fit_linear`, for annotations that may be nan where a point is not visible."""
    known = target if visible is None else np.where(np.asarray(visible, bool)[..., None], target, 0.5)
    return fit_linear(source, known, visible)


def regression_errors(
    source_train: Float[np.ndarray, "n k 2"],
    target_train: Float[np.ndarray, "n j 2"],
    source_test: Float[np.ndarray, "m k 2"],
    target_test: Float[np.ndarray, "m j 2"],
    visible_train: Bool[np.ndarray, "n j"] | None = None,
    visible_test: Bool[np.ndarray, "m j"] | None = None,
) -> dict[str, float]:
    """Mean distance of visible points from where a linear map puts them (`error`), and from their mean (`mean_keypoint`).

    Fitted on the training pictures, measured on the others; mean over the points of a picture, then over pictures.

    Raises:
        InputError: A point is visible in no training picture.
    """
    W = fit_visible(source_train, target_train, visible_train)
    estimates = {
        "error": apply_linear(source_test, W),
        "mean_keypoint": np.broadcast_to(mean_keypoints(target_train, visible_train), target_test.shape),
    }
    return {
        name: float(np.nanmean(visible_errors(estimate, target_test, visible_test)))
        for name, estimate in estimates.items()
    }


def regression_errors_3d(
    source_train: Float[np.ndarray, "n k 3"],
    target_train: Float[np.ndarray, "n j 3"],
    source_test: Float[np.ndarray, "m k 3"],
    target_test: Float[np.ndarray, "m j 3"],
) -> dict[str, float]:
    """As `regression_errors` in space, in the world's unit: from triangulated keypoints, measured from the origin."""
    x = source_train.reshape(len(source_train), -1).astype(float)
    W = np.linalg.pinv(x.T @ x) @ x.T @ target_train.reshape(len(target_train), -1)
    estimate = (source_test.reshape(len(source_test), -1) @ W).reshape(target_test.shape)
    return {
        "error": float(_distances(estimate, target_test).mean()),
        "mean_keypoint": float(_distances(target_train.mean(0), target_test).mean()),
    }


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    distances: np.ndarray = np.linalg.norm(np.asarray(a, float) - b, axis=-1)
    return distances


def _seen(target: np.ndarray, visible: np.ndarray | None) -> np.ndarray:
    return np.ones(target.shape[:2], bool) if visible is None else np.asarray(visible, bool)
