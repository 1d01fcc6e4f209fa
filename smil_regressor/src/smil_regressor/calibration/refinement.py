"""Refinement of a rig by bundle adjustment on tracked points (Triggs et al., 1999), with SciPy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import least_squares
from scipy.sparse import coo_matrix
from scipy.spatial.transform import Rotation

from posecore.errors import InputError
from smil_regressor.calibration.rig import RigCamera
from smil_regressor.calibration.triangulation import ransac_triangulate

POSE = 6
"""Unknowns of a pose: a rotation vector in front of the old rotation, and the translation."""
FOCAL_SIGMA = 0.02
"""How far (relative) a calibrated focal length is expected to be off; without this prior it drifts on flat scenes."""


@dataclass(frozen=True)
class RefinedRig:
    """Cameras after bundle adjustment and the median reprojection error (pixels) of each, before and after."""

    cameras: tuple[RigCamera, ...]
    before_px: Float[np.ndarray, " v"]
    after_px: Float[np.ndarray, " v"]
    num_points: int


def refine_cameras(
    cameras: Sequence[RigCamera],
    points2d: Float[np.ndarray, "v n 2"],
    *,
    refine_focal: bool = False,
    robust_px: float = 2.0,
    max_points: int = 400,
    threshold_px: float = 50.0,
    seed: int = 0,
) -> RefinedRig:
    """Poses (and, on request, focal lengths) of the cameras such that the tracked points agree better.

    points2d: recorded pixels, NaN where unseen. The first camera stays where it is and the mean distance of the
    others from it is kept, because pixels fix neither frame nor scale. Residuals beyond `robust_px` count linearly (soft L1).
    `threshold_px` is RANSAC's for the start values: wide, since the cameras are not yet right.
    Raises InputError where fewer than 20 points are seen by two cameras that agree.
    """
    pixels = np.stack([camera.undistort_points(points2d[v]) for v, camera in enumerate(cameras)])
    pixels, points = _start(cameras, pixels, max_points, threshold_px, seed)
    seen = np.isfinite(pixels).all(-1)
    view, point = np.nonzero(seen)
    problem = _Problem(tuple(cameras), pixels[view, point], view, point, len(points), refine_focal)
    start = problem.pack(points)
    before = problem.residuals(start)
    found = least_squares(
        problem.residuals,
        start,
        jac_sparsity=problem.sparsity(),
        loss="soft_l1",
        f_scale=robust_px,
        x_scale="jac",
        method="trf",
        max_nfev=100,
    )
    rig, _ = problem.unpack(found.x)
    after = problem.residuals(found.x)
    return RefinedRig(
        _keep_size(cameras, rig), _medians(before, view, len(cameras)), _medians(after, view, len(cameras)), len(points)
    )


@dataclass(frozen=True)
class _Problem:
    """Layout of the unknowns: a block for each camera but the first's pose, then the points."""

    cameras: tuple[RigCamera, ...]
    pixels: Float[np.ndarray, "m 2"]
    view: np.ndarray
    point: np.ndarray
    num_points: int
    refine_focal: bool

    @property
    def block(self) -> int:
        return POSE + int(self.refine_focal)

    def pack(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " u"]:
        """Unknowns of the rig as it is."""
        blocks = np.zeros((len(self.cameras), self.block))
        blocks[:, 3:6] = [camera.cam_from_world[:3, 3] for camera in self.cameras]
        return np.concatenate([blocks.ravel(), points.ravel()])

    def unpack(self, unknowns: Float[np.ndarray, " u"]) -> tuple[tuple[RigCamera, ...], Float[np.ndarray, "n 3"]]:
        """Cameras and points that a vector of unknowns stands for."""
        cut = len(self.cameras) * self.block
        rig = []
        for v, (camera, values) in enumerate(zip(self.cameras, unknowns[:cut].reshape(-1, self.block), strict=True)):
            cam_from_world, K = camera.cam_from_world.copy(), camera.K.copy()
            if v > 0:
                cam_from_world[:3, :3] = Rotation.from_rotvec(values[:3]).as_matrix() @ cam_from_world[:3, :3]
                cam_from_world[:3, 3] = values[3:6]
            if self.refine_focal:
                K[[0, 1], [0, 1]] *= np.exp(values[6])
            rig.append(replace(camera, K=K, cam_from_world=cam_from_world))
        return tuple(rig), unknowns[cut:].reshape(-1, 3)

    def residuals(self, unknowns: Float[np.ndarray, " u"]) -> Float[np.ndarray, " r"]:
        """Pixel differences, x and y of each observation in turn; then the prior on each focal length, if free."""
        rig, points = self.unpack(unknowns)
        projections = np.stack([camera.projection for camera in rig])[self.view]
        homogeneous = np.einsum("mij,mj->mi", projections[:, :, :3], points[self.point]) + projections[:, :, 3]
        differences = (homogeneous[:, :2] / homogeneous[:, 2:] - self.pixels).ravel()
        if not self.refine_focal:
            return np.asarray(differences)
        log_focals = unknowns[: len(self.cameras) * self.block].reshape(-1, self.block)[:, POSE]
        # worth as much as a hundred observations that are one pixel off
        return np.concatenate([differences, 10 * log_focals / FOCAL_SIGMA])

    def sparsity(self) -> coo_matrix:
        """Which unknowns an observation depends on: its camera's block and its point."""
        cut = len(self.cameras) * self.block
        columns = np.concatenate(
            [
                self.view[:, None] * self.block + np.arange(self.block),
                cut + self.point[:, None] * 3 + np.arange(3),
            ],
            axis=1,
        )
        rows = np.repeat(np.arange(2 * len(self.view)), columns.shape[1])
        columns = np.repeat(columns, 2, axis=0).ravel()
        if self.refine_focal:
            rows = np.concatenate([rows, 2 * len(self.view) + np.arange(len(self.cameras))])
            columns = np.concatenate([columns, np.arange(len(self.cameras)) * self.block + POSE])
        shape = (2 * len(self.view) + len(self.cameras) * self.refine_focal, cut + 3 * self.num_points)
        return coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=shape)


def _start(
    cameras: Sequence[RigCamera], pixels: Float[np.ndarray, "v n 2"], max_points: int, threshold_px: float, seed: int
) -> tuple[Float[np.ndarray, "v m 2"], Float[np.ndarray, "m 3"]]:
    """Points that at least two cameras agree on, and their inlier pixels (NaN elsewhere)."""
    projections = np.stack([camera.projection for camera in cameras])
    weights = np.isfinite(pixels).all(-1).astype(np.float64)
    found = ransac_triangulate(pixels, projections, weights, threshold_px=threshold_px, seed=seed)
    usable = _in_front(found.points, projections, found.inliers)
    if len(usable) < 20:
        raise InputError(
            f"camera refinement: {len(usable)} points are seen by two cameras that agree within {threshold_px:g} px; "
            "at least 20 are needed"
        )
    if len(usable) > max_points:
        usable = np.sort(np.random.default_rng(seed).choice(usable, max_points, replace=False))
    inlier_pixels = np.where(found.inliers[..., None], pixels, np.nan)
    return inlier_pixels[:, usable], found.points[usable]


def _in_front(
    points: Float[np.ndarray, "n 3"], projections: Float[np.ndarray, "v 3 4"], inliers: Bool[np.ndarray, "v n"]
) -> np.ndarray:
    depth = np.einsum("vj,nj->vn", projections[:, 2, :3], points) + projections[:, 2, 3:]
    behind = (inliers & ~(depth > 0)).any(0)
    return np.flatnonzero(np.isfinite(points).all(-1) & ~behind)


def _keep_size(before: Sequence[RigCamera], after: Sequence[RigCamera]) -> tuple[RigCamera, ...]:
    """Scale the rig about its first camera so that the cameras are as far apart as they were."""
    origin = after[0].centre_world
    sizes = [
        np.mean([np.linalg.norm(camera.centre_world - rig[0].centre_world) for camera in rig[1:]])
        for rig in (before, after)
    ]
    factor = sizes[0] / sizes[1]
    rig = []
    for camera in after:
        centre = origin + factor * (camera.centre_world - origin)
        cam_from_world = camera.cam_from_world.copy()
        cam_from_world[:3, 3] = -cam_from_world[:3, :3] @ centre
        rig.append(replace(camera, cam_from_world=cam_from_world))
    return tuple(rig)


def _medians(residuals: Float[np.ndarray, " r"], view: np.ndarray, num_views: int) -> Float[np.ndarray, " v"]:
    errors = np.linalg.norm(residuals[: 2 * len(view)].reshape(-1, 2), axis=-1)
    return np.array([np.median(errors[view == v]) if (view == v).any() else np.nan for v in range(num_views)])
