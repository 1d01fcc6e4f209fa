"""Triangulation of recorded points, offline: homogeneous DLT by SVD, and RANSAC over pairs of views.

Unlike `posecore.cameras.triangulate` nothing here needs a gradient, so that outliers can be voted out.
Pixels are undistorted throughout; NaN or weight 0 means that a view does not see the point.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


class Triangulated(NamedTuple):
    """Points (NaN where fewer than two views agree), the views that each one rests on, and its residuals."""

    points: Float[np.ndarray, "n 3"]
    inliers: Bool[np.ndarray, "v n"]
    residuals_px: Float[np.ndarray, "v n"]
    """Distance between observed and reprojected pixel, NaN where not observed or no point."""


def dlt(
    pixels: Float[np.ndarray, "v n 2"],
    projections: Float[np.ndarray, "v 3 4"],
    weights: Float[np.ndarray, "v n"],
) -> Float[np.ndarray, "n 3"]:
    """Least squares of |A X| over unit homogeneous X (Hartley and Zisserman 12.2), rows weighted by `weights`.

    The residual of a row is its pixel error times depth; pass weights / depth to make it the pixel error.
    NaN where fewer than two views have weight and where the rays are parallel.
    """
    seen = (weights > 0) & np.isfinite(pixels).all(-1)
    xy = np.where(seen[..., None], pixels, 0.0)
    rows = xy[..., None] * projections[:, None, None, 2] - projections[:, None, :2]  # (v n 2 4)
    rows *= np.where(seen, weights, 0.0)[..., None, None]
    stacked = rows.transpose(1, 0, 2, 3).reshape(pixels.shape[1], -1, 4)
    homogeneous = np.linalg.svd(stacked)[2][:, -1]
    scale = homogeneous[:, 3:]
    solvable = (np.abs(scale) > 1e-12) & (seen.sum(0) >= 2)[:, None]
    return np.asarray(np.where(solvable, homogeneous[:, :3] / np.where(solvable, scale, 1.0), np.nan))


def reprojection_errors(
    points: Float[np.ndarray, "n 3"],
    pixels: Float[np.ndarray, "v n 2"],
    projections: Float[np.ndarray, "v 3 4"],
) -> Float[np.ndarray, "v n"]:
    """Pixel distances; NaN where a point is unknown, unobserved or not in front of the camera."""
    homogeneous = np.einsum("vij,nj->vni", projections[:, :, :3], points) + projections[:, None, :, 3]
    depth = np.where(homogeneous[..., 2:] > 0, homogeneous[..., 2:], np.nan)
    return np.asarray(np.linalg.norm(homogeneous[..., :2] / depth - pixels, axis=-1))


def ransac_triangulate(
    pixels: Float[np.ndarray, "v n 2"],
    projections: Float[np.ndarray, "v 3 4"],
    weights: Float[np.ndarray, "v n"],
    *,
    threshold_px: float = 15.0,
    max_pairs: int = 50,
    seed: int = 0,
) -> Triangulated:
    """Each point from the views that agree on it.

    Every pair of views (at most `max_pairs`, drawn with `seed`) proposes a point; views within `threshold_px`
    of its projection support it; the proposal with most support, then least error, is refitted to its supporters.
    """
    views, count = pixels.shape[:2]
    pairs = list(combinations(range(views), 2))
    if len(pairs) > max_pairs:
        chosen = np.random.default_rng(seed).choice(len(pairs), max_pairs, replace=False)
        pairs = [pairs[i] for i in np.sort(chosen)]
    seen = weights > 0
    inliers = np.zeros((views, count), dtype=bool)
    best_score = np.full(count, -np.inf)
    for pair in map(list, pairs):
        proposal = dlt(pixels[pair], projections[pair], weights[pair])
        errors = np.where(seen, reprojection_errors(proposal, pixels, projections), np.nan)
        agree = errors < threshold_px  # NaN agrees with nothing
        score = agree.sum(0) - np.where(agree, errors, 0.0).sum(0) / (threshold_px * (views + 1))
        better = (agree.sum(0) >= 2) & (score > best_score)
        inliers[:, better] = agree[:, better]
        best_score = np.where(better, score, best_score)
    points = _least_pixel_error(pixels, projections, weights * inliers)
    residuals = np.where(seen, reprojection_errors(points, pixels, projections), np.nan)
    return Triangulated(points, inliers, residuals)


def _least_pixel_error(
    pixels: Float[np.ndarray, "v n 2"], projections: Float[np.ndarray, "v 3 4"], weights: Float[np.ndarray, "v n"]
) -> Float[np.ndarray, "n 3"]:
    """DLT, then twice more with its rows divided by the depth found, so that near views do not count less."""
    points = dlt(pixels, projections, weights)
    for _ in range(2):
        depth = points @ projections[:, 2, :3].transpose(1, 0) + projections[:, 2, 3]  # (n v)
        usable = np.where(depth.T > 0, depth.T, np.nan)
        points = dlt(pixels, projections, np.nan_to_num(weights / usable))
    return points


def ray_angles(
    points: Float[np.ndarray, "n 3"], centre_a: Float[np.ndarray, " 3"], centre_b: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, " n"]:
    """Angle in degrees under which a point sees two camera centres; small angles leave the depth open."""
    to_a, to_b = points - centre_a, points - centre_b
    return np.asarray(np.degrees(np.arctan2(np.linalg.norm(np.cross(to_a, to_b), axis=-1), (to_a * to_b).sum(-1))))
