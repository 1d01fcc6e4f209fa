"""Rigid cameras as NumPy arrays: from angles to matrices, and how far one is turned from another.

The world's z axis points up and the object is at the origin. Convention: azimuth 0 is on the x axis; growing azimuth
moves a camera that looks at the origin to its right.
"""

import numpy as np
from jaxtyping import Float, Float64


def camera_centres(
    azimuth_deg: Float[np.ndarray, " v"], elevation_deg: Float[np.ndarray, " v"], radius: float
) -> Float64[np.ndarray, "v 3"]:
    """`radius (cos e cos a, cos e sin a, sin e)`."""
    azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
    flat = np.cos(elevation)
    return radius * np.stack((flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)), -1)


def orbit_cameras(
    azimuth_deg: Float[np.ndarray, " v"], elevation_deg: Float[np.ndarray, " v"], radius: float
) -> Float64[np.ndarray, "v 4 4"]:
    """`cam_from_world` (OpenCV axes) of cameras that look at the origin, with the world's z axis up in the picture."""
    centres = camera_centres(azimuth_deg, elevation_deg, radius)
    azimuth = np.radians(azimuth_deg)
    right = np.stack((-np.sin(azimuth), np.cos(azimuth), np.zeros_like(azimuth)), -1)
    forward = -centres / radius
    cam_from_world = np.tile(np.eye(4), (len(centres), 1, 1))
    cam_from_world[:, :3, :3] = np.stack((right, np.cross(forward, right), forward), -2)
    cam_from_world[:, 2, 3] = radius
    return cam_from_world


def centres_of(cam_from_world: Float[np.ndarray, "*batch 4 4"]) -> Float64[np.ndarray, "*batch 3"]:
    """Where cameras are in the world."""
    matrix = np.asarray(cam_from_world, np.float64)
    centres: np.ndarray = -(np.swapaxes(matrix[..., :3, :3], -1, -2) @ matrix[..., :3, 3:])[..., 0]
    return centres


def azimuth_deg_of(cam_from_world: Float[np.ndarray, "*batch 4 4"]) -> Float64[np.ndarray, "*batch"]:
    """Azimuth of the cameras' places, in -180..180; without meaning for one straight above the origin."""
    centres = centres_of(cam_from_world)
    azimuth: np.ndarray = np.degrees(np.arctan2(centres[..., 1], centres[..., 0]))
    return azimuth


def turn_world(
    cam_from_world: Float[np.ndarray, "*#batch 4 4"], azimuth_deg: float | Float[np.ndarray, "*#batch"]
) -> Float64[np.ndarray, "*cameras_batch 4 4"]:
    """The same cameras in a world turned about its z axis so that what was at `azimuth_deg` is at 0."""
    angle = np.radians(np.asarray(azimuth_deg, np.float64))
    old_from_new = np.zeros((*angle.shape, 4, 4))
    old_from_new[..., 0, 0] = old_from_new[..., 1, 1] = np.cos(angle)
    old_from_new[..., 1, 0] = np.sin(angle)
    old_from_new[..., 0, 1] = -old_from_new[..., 1, 0]
    old_from_new[..., 2, 2] = old_from_new[..., 3, 3] = 1
    turned: np.ndarray = np.asarray(cam_from_world, np.float64) @ old_from_new
    return turned


def pose_difference_deg(
    cam_from_world_a: Float[np.ndarray, "*#batch 4 4"], cam_from_world_b: Float[np.ndarray, "*#batch 4 4"]
) -> Float64[np.ndarray, "*pairs"]:
    """How far a camera is turned from another about the origin; distances do not count.

    The larger of two angles: that of the rotation between the cameras' axes (where they look, and roll), and that
    between the directions in which they stand. For cameras that look at the origin the first is never the smaller one.
    """
    a, b = np.asarray(cam_from_world_a, np.float64), np.asarray(cam_from_world_b, np.float64)
    # |R - R'| = sqrt(8) sin(angle / 2): accurate at small angles, where the trace is not
    chord = np.linalg.norm(a[..., :3, :3] - b[..., :3, :3], axis=(-2, -1))
    turn = 2 * np.arcsin(np.minimum(chord / np.sqrt(8), 1))
    place_a, place_b = centres_of(a), centres_of(b)
    across = np.linalg.norm(np.cross(place_a, place_b), axis=-1)
    standing = np.arctan2(across, (place_a * place_b).sum(-1))
    larger: np.ndarray = np.degrees(np.maximum(turn, standing))
    return larger
