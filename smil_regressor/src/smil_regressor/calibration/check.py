"""Is the calibration of a rig believable? Judged by the 2D tracks themselves.

Calibration files are often wrong in one camera: a snapshot of another session, a camera that was knocked, two
tables with the same numbers. Training on them cannot be mended afterwards. The check needs nothing but tracked points:
1. cameras with equal parameters (two pictures cannot come from one place and differ);
2. the residual that each pair of cameras leaves when it triangulates the same point;
3. a set of cameras that agree, grown from the best pair;
4. for every camera, the error of predicting its points from the other trusted ones.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float

from smil_regressor.calibration.report import CameraReport, PairReport, RigReport
from smil_regressor.calibration.rig import RigCamera
from smil_regressor.calibration.triangulation import dlt, ransac_triangulate, ray_angles, reprojection_errors

MAX_ERROR_PX = 15.0
"""Median error from which a camera counts as wrong: beyond the noise of 2D tracking, and RANSAC's threshold."""
SAME_PICTURE_PX = 3.0
"""Two cameras of equal parameters whose points lie closer than this are the same camera twice, which is harmless."""
ENOUGH_POINTS = 20
"""Fewer common points say nothing about a pair."""


def check_rig(
    cameras: Sequence[RigCamera],
    points2d: Float[np.ndarray, "v n 2"],
    points3d: Float[np.ndarray, "n 3"] | None = None,
    *,
    max_error_px: float = MAX_ERROR_PX,
) -> RigReport:
    """Check cameras against the points they recorded.

    points2d: recorded (distorted) pixels, NaN where a camera does not see a point; n runs over frames and joints.
    points3d: the session's own 3D points in the calibration's unit, NaN where missing.
    A camera is bad where its median error exceeds `max_error_px`.
    """
    if len(cameras) != len(points2d):
        raise ValueError(f"{len(cameras)} cameras, but points2d has shape {points2d.shape}")
    pixels = np.stack([camera.undistort_points(points2d[v]) for v, camera in enumerate(cameras)])
    projections = np.stack([camera.projection for camera in cameras])
    pairs = [_pair_report(cameras, pixels, projections, a, b) for a, b in combinations(range(len(cameras)), 2)]
    duplicates = [pair for pair in combinations(range(len(cameras)), 2) if _same_parameters(cameras, *pair)]
    trusted = _agreeing_cameras(cameras, pixels, projections, pairs, max_error_px)
    reports = []
    for v, camera in enumerate(cameras):
        others = [u for u in trusted if u != v]
        left_out = _error_from_others(pixels, projections, v, others)
        given = np.nan
        if points3d is not None:
            given = _median(reprojection_errors(points3d, pixels[[v]], projections[[v]]))
        reasons: list[str] = []
        if v not in trusted and np.isfinite(pixels[v]).all(-1).sum() >= ENOUGH_POINTS:
            reasons = _reasons(cameras, pixels, pairs, duplicates, v, left_out, given)
        reports.append(
            CameraReport(camera.name, int(np.isfinite(pixels[v]).all(-1).sum()), given, left_out, tuple(reasons))
        )
    names = tuple((cameras[a].name, cameras[b].name) for a, b in duplicates)
    return RigReport(tuple(reports), tuple(pairs), names)


def _pair_report(
    cameras: Sequence[RigCamera],
    pixels: Float[np.ndarray, "v n 2"],
    projections: Float[np.ndarray, "v 3 4"],
    a: int,
    b: int,
) -> PairReport:
    names = (cameras[a].name, cameras[b].name)
    common = np.isfinite(pixels[[a, b]]).all((0, 2))
    centres = cameras[a].centre_world, cameras[b].centre_world
    if not common.any() or np.allclose(*centres, rtol=1e-9):  # from one place there is nothing to triangulate
        return PairReport(names, int(common.sum()), (np.nan, np.nan), 0.0 if common.any() else np.nan)
    seen, matrices = pixels[[a, b]][:, common], projections[[a, b]]
    points = dlt(seen, matrices, np.ones(seen.shape[:2]))
    errors = reprojection_errors(points, seen, matrices)
    # a point behind a camera is as wrong as can be: it counts as infinite, else bad pairs would look good
    errors = np.where(np.isfinite(errors), errors, np.inf)
    residuals = float(np.median(errors[0])), float(np.median(errors[1]))
    return PairReport(names, int(common.sum()), residuals, _median(ray_angles(points, *centres)))


def _agreeing_cameras(
    cameras: Sequence[RigCamera],
    pixels: Float[np.ndarray, "v n 2"],
    projections: Float[np.ndarray, "v 3 4"],
    pairs: Sequence[PairReport],
    max_error_px: float,
) -> list[int]:
    """Indices of cameras that agree: the best pair, then again and again the camera that its points predict best."""
    index = {camera.name: v for v, camera in enumerate(cameras)}
    candidates = [p for p in pairs if p.num_points >= ENOUGH_POINTS and p.residual_px < max_error_px]
    if not candidates:
        return []
    trusted = [index[name] for name in min(candidates, key=lambda pair: pair.residual_px).names]
    while len(trusted) < len(cameras):
        errors = {
            v: _error_from_others(pixels, projections, v, trusted) for v in range(len(cameras)) if v not in trusted
        }
        measured = {v: error for v, error in errors.items() if error < max_error_px}  # drops NaN too
        if not measured:
            break
        trusted.append(min(measured, key=lambda v: measured[v]))
    return sorted(trusted)


def _error_from_others(
    pixels: Float[np.ndarray, "v n 2"], projections: Float[np.ndarray, "v 3 4"], view: int, others: list[int]
) -> float:
    """Median pixel distance between a view's points and those that the other views predict for it."""
    if len(others) < 2:
        return float("nan")
    found = ransac_triangulate(
        pixels[others], projections[others], np.isfinite(pixels[others]).all(-1).astype(np.float64)
    )
    errors = reprojection_errors(found.points, pixels[[view]], projections[[view]])
    behind = np.isfinite(found.points).all(-1) & np.isfinite(pixels[view]).all(-1) & ~np.isfinite(errors[0])
    return _median(np.where(behind, np.inf, errors[0]))


def _same_parameters(cameras: Sequence[RigCamera], a: int, b: int) -> bool:
    one, two = cameras[a], cameras[b]
    return np.allclose(one.K, two.K, rtol=1e-6) and np.allclose(one.cam_from_world, two.cam_from_world, rtol=1e-6)


def _reasons(
    cameras: Sequence[RigCamera],
    pixels: Float[np.ndarray, "v n 2"],
    pairs: Sequence[PairReport],
    duplicates: Sequence[tuple[int, int]],
    view: int,
    left_out: float,
    given: float,
) -> list[str]:
    reasons = []
    for pair in duplicates:
        if view in pair:
            other = pair[0] if pair[1] == view else pair[1]
            apart = _median(np.linalg.norm(pixels[view] - pixels[other], axis=-1))
            if apart > SAME_PICTURE_PX:
                reasons.append(
                    f"its parameters are identical to those of {cameras[other].name}, "
                    f"yet the two see the same points {apart:.0f} px apart"
                )
    name = cameras[view].name
    own = [pair for pair in pairs if name in pair.names and np.isfinite(pair.residual_px)]
    if own:
        low, high = min(p.residual_px for p in own), max(p.residual_px for p in own)
        best = min((p for p in pairs if np.isfinite(p.residual_px)), key=lambda pair: pair.residual_px)
        reasons.append(
            f"triangulating with any other camera leaves {low:.1f} to {high:.1f} px "
            f"(best pair of the rig, {' + '.join(best.names)}: {best.residual_px:.1f} px)"
        )
    if np.isfinite(left_out):
        reasons.append(f"its points lie {left_out:.0f} px from where the trusted cameras put them")
    if np.isfinite(given):
        reasons.append(f"the session's 3D points reproject {given:.0f} px off")
    return reasons or ["no other camera shares enough points with it and agrees with it"]


def _median(values: Float[np.ndarray, "..."]) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")
