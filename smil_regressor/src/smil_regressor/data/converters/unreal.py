"""Unreal Engine's left-handed frames, as replicAnt writes them, to the project's.

Unreal's view matrix acts on row vectors: C = X M + t gives camera axes x right, y up, z forward, and the picture is
(W/2 + f Cx/Cz, H/2 - f Cy/Cz) from its corner. The one mirror needed is Y = diag(1, -1, 1): it turns Unreal's camera
into OpenCV's (y down), and each left-handed bone frame into the right-handed one of the body model. A rotation R
becomes Y R Y, of which the rotation vector is (-1, 1, -1) times the old one.

Convention: a quaternion of 90 degrees about +z turns (1, 0, 0) into (0, 1, 0) there; here the same joint turns
(1, 0, 0) into (0, -1, 0).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

MIRROR = np.diag([1.0, -1.0, 1.0])


class UnrealCamera(NamedTuple):
    """C = X M + t (centimetres), focal length and picture size in pixels."""

    M: Float[np.ndarray, "3 3"]
    t: Float[np.ndarray, " 3"]
    focal_px: float
    size_wh: tuple[int, int]

    @property
    def K(self) -> Float[np.ndarray, "3 3"]:
        """Pixel centres at integers: the middle of the picture is (W - 1) / 2."""
        width, height = self.size_wh
        return np.array([[self.focal_px, 0, (width - 1) / 2], [0, self.focal_px, (height - 1) / 2], [0, 0, 1]])


def focal_from_fov(fov_deg: float, width: int) -> float:
    """Unreal's field of view is horizontal; its pixels are square."""
    return float(width / 2 / np.tan(np.radians(fov_deg) / 2))


def cam_from_model(
    camera: UnrealCamera, root_quaternion_xyzw: Float[np.ndarray, " 4"], root: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "4 4"]:
    """OpenCV camera from the body model's frame: the mirrored frame of the root bone (centimetres)."""
    transform = np.eye(4)
    root_rotation = Rotation.from_quat(root_quaternion_xyzw).as_matrix()
    transform[:3, :3] = MIRROR @ camera.M.T @ root_rotation @ MIRROR
    transform[:3, 3] = MIRROR @ (camera.M.T @ root + camera.t)
    return transform


def points_in_model(
    points: Float[np.ndarray, "n 3"], root_quaternion_xyzw: Float[np.ndarray, " 4"], root: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "n 3"]:
    """Unreal world points in the mirrored frame of the root bone."""
    root_rotation = Rotation.from_quat(root_quaternion_xyzw).as_matrix()
    return np.asarray((points - root) @ root_rotation @ MIRROR)


def joint_rotations(quaternions_xyzw: Float[np.ndarray, "j 4"]) -> Float[np.ndarray, "j 3 3"]:
    """Local rotations of joints as the body model takes them."""
    return np.asarray(MIRROR @ Rotation.from_quat(quaternions_xyzw).as_matrix() @ MIRROR)
