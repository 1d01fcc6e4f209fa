"""Undistortion of points to the last digit, and an honest answer where there is none.

`cv2.undistortPoints` stops after five rounds and returns numbers of any size for pixels that no ray hits. Here
Newton's method runs on OpenCV's own forward model, so every one of its distortion models is covered.
"""

import cv2
import numpy as np
from jaxtyping import Float

ROUNDS = 30
ACCEPT_PX = 1e-3


def undistort_pinhole(
    pixels: Float[np.ndarray, "n 2"], K: Float[np.ndarray, "3 3"], distortion: Float[np.ndarray, " d"]
) -> Float[np.ndarray, "n 2"]:
    """Pixels of the pinhole camera K; NaN where the distortion cannot be inverted.

    From the distorted point outwards Newton converges to the inner of two solutions, the physical one; a Jacobian
    that neither folds nor turns over tells that it was that one.
    """
    rays = _to_plane(pixels, K)
    for _ in range(ROUNDS):
        missing, jacobian = _distort(rays, pixels, K, distortion)
        determinant = np.linalg.det(jacobian)
        # a vanishing Jacobian is the fold itself: standing still there fails the test below
        usable = np.abs(determinant) > 1e-9
        step = np.zeros_like(rays)
        step[usable] = np.linalg.solve(jacobian[usable], missing[usable, :, None])[..., 0]
        rays = rays + step
        if np.abs(step).max() < 1e-12:
            break
    missing, jacobian = _distort(rays, pixels, K, distortion)
    upright = (np.linalg.det(jacobian) > 0) & (np.trace(jacobian, axis1=1, axis2=2) > 0)
    solved = (np.linalg.norm(missing, axis=1) < ACCEPT_PX) & upright
    return np.where(solved[:, None], rays * K[[0, 1], [0, 1]] + _skewed_centre(rays, K), np.nan)


def undistort_fisheye(
    pixels: Float[np.ndarray, "n 2"], K: Float[np.ndarray, "3 3"], distortion: Float[np.ndarray, " 4"]
) -> Float[np.ndarray, "n 2"]:
    """The same for OpenCV's fisheye model; NaN at 90 degrees and more, which no plane shows."""
    straight = np.asarray(cv2.fisheye.undistortPoints(pixels[:, None], K, distortion, P=K))[:, 0]
    again = np.asarray(cv2.fisheye.distortPoints(_to_plane(straight, K)[:, None], K, distortion))[:, 0]
    solved = np.linalg.norm(again - pixels, axis=1) < ACCEPT_PX
    return np.where(solved[:, None], straight, np.nan)


def _distort(
    rays: Float[np.ndarray, "n 2"],
    pixels: Float[np.ndarray, "n 2"],
    K: Float[np.ndarray, "3 3"],
    distortion: Float[np.ndarray, " d"],
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2 2"]]:
    """What is missing to the wanted pixels, and the derivative of pixels by rays."""
    points = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
    found, jacobian = cv2.projectPoints(points[:, None], np.zeros(3), np.zeros(3), K, distortion)
    # columns 3 and 4 are the derivatives by the translation's x and y; at depth 1 those by the ray
    return pixels - found[:, 0], jacobian[:, 3:5].reshape(-1, 2, 2)


def _to_plane(pixels: Float[np.ndarray, "n 2"], K: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "n 2"]:
    homogeneous = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)
    return np.asarray(np.linalg.solve(K, homogeneous.T).T[:, :2])


def _skewed_centre(rays: Float[np.ndarray, "n 2"], K: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "n 2"]:
    return np.stack([K[0, 1] * rays[:, 1] + K[0, 2], np.full(len(rays), K[1, 2])], axis=1)
