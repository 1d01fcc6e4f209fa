"""Poses in spite of wrong pairs: OpenCV's RANSAC for each object, then one weighed solve of all their inliers."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posecore.rotations import axis_angle_to_matrix, matrix_to_quaternion_wxyz
from vpog.pnp.cost import used
from vpog.pnp.lm import solve_lm
from vpog.pnp.records import Correspondences, Failure, Poses
from vpog.pnp.settings import LmSettings, RansacSettings
from vpog.pnp.soundness import failures

MINIMAL_SOLVERS = {"epnp": cv2.SOLVEPNP_EPNP, "sqpnp": cv2.SOLVEPNP_SQPNP, "p3p": cv2.SOLVEPNP_P3P}


@dataclass(frozen=True)
class RansacPoses:
    """Poses, and which pairs agree with them."""

    poses: Poses
    inliers: Bool[Tensor, "b n"]


def ransac(
    correspondences: Correspondences,
    settings: RansacSettings,
    lm: LmSettings,
    threshold_px: Float[Tensor, " b"] | None = None,
) -> RansacPoses:
    """A pose for each object, or why there is none: too few pairs, points on a line, no consensus, or no numbers.

    Args:
        threshold_px: Of each object, in the pixels of the correspondences; None: that of the settings for all.
    """
    failure = failures(correspondences, max(lm.min_points, settings.min_inliers))
    arrays = [
        values.detach().double().cpu().numpy()
        for values in (correspondences.points_obj, correspondences.pixels, correspondences.K)
    ]
    is_used, codes = used(correspondences).cpu().numpy(), failure.cpu().numpy()
    limits = np.full(len(codes), settings.threshold_px) if threshold_px is None else threshold_px.double().cpu().numpy()
    starts = np.full((len(codes), 7), np.nan)
    inliers = np.zeros_like(is_used)
    for index in np.flatnonzero(codes == Failure.NONE):
        points, pixels, K = (values[index] for values in arrays)
        found = _consensus(points[is_used[index]], pixels[is_used[index]], K, float(limits[index]), settings)
        if found is None:
            codes[index] = Failure.NO_CONSENSUS
            continue
        starts[index], inliers[index, is_used[index]] = found
    return _refined(correspondences, torch.from_numpy(starts), inliers, codes, lm)


def _refined(
    correspondences: Correspondences,
    starts: Tensor,
    inliers: Bool[np.ndarray, "b n"],
    codes: np.ndarray,
    lm: LmSettings,
) -> RansacPoses:
    """The inliers' weighed optimum, for all objects at once."""
    device = correspondences.points_obj.device
    agreeing = torch.from_numpy(inliers).to(device)
    chosen = replace(correspondences, weights=correspondences.weights * agreeing[..., None])
    solved = solve_lm(chosen, starts.to(correspondences.points_obj), lm)
    judged = torch.from_numpy(codes).to(device)
    failure = torch.where(judged == Failure.NONE, solved.failure, judged)
    is_solved = failure == Failure.NONE
    poses = replace(solved, pose=torch.where(is_solved[:, None], solved.pose, torch.nan), failure=failure)
    return RansacPoses(poses, agreeing & is_solved[:, None])


def _consensus(
    points: np.ndarray, pixels: np.ndarray, K: np.ndarray, threshold_px: float, settings: RansacSettings
) -> tuple[Float[np.ndarray, "7"], Bool[np.ndarray, " n"]] | None:
    """OpenCV's pose and inliers; None where it finds none, or fewer than are asked for."""
    try:
        found, rotation, translation, rows = cv2.solvePnPRansac(
            points,
            pixels,
            K,
            None,
            iterationsCount=settings.max_iterations,
            reprojectionError=threshold_px,
            confidence=settings.confidence,
            flags=MINIMAL_SOLVERS[settings.minimal_solver],
        )
    except cv2.error:  # what OpenCV says of samples that its minimal solver cannot take
        return None
    is_pose = found and rows is not None and np.isfinite(rotation).all() and np.isfinite(translation).all()
    if not is_pose or len(rows) < settings.min_inliers:
        return None
    agrees = np.zeros(len(points), dtype=bool)
    agrees[rows.ravel()] = True
    quat = matrix_to_quaternion_wxyz(axis_angle_to_matrix(torch.from_numpy(rotation.ravel()))).numpy()
    return np.concatenate([translation.ravel(), quat]), agrees
