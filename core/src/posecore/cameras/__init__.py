"""Cameras: OpenCV axes (x right, y down, z forward), pixel centres at integers, column vectors.

A camera is an intrinsic matrix `K` (pixels) and a rigid `cam_from_world`. Conversions from and to other conventions
live here and nowhere else.
"""

from posecore.cameras.conventions import opencv_to_pytorch3d, opengl_to_opencv, pytorch3d_to_opencv
from posecore.cameras.distortion import LensModel, distort_pixels, undistort_pixels
from posecore.cameras.intrinsics import (
    crop_intrinsics,
    fov_to_intrinsics,
    intrinsics_to_fov,
    pytorch3d_fov_to_intrinsics,
)
from posecore.cameras.projection import MIN_DEPTH, project, unproject
from posecore.cameras.transforms import invert, look_at, transform
from posecore.cameras.triangulation import triangulate

__all__ = [
    "MIN_DEPTH",
    "LensModel",
    "crop_intrinsics",
    "distort_pixels",
    "fov_to_intrinsics",
    "intrinsics_to_fov",
    "invert",
    "look_at",
    "opencv_to_pytorch3d",
    "opengl_to_opencv",
    "project",
    "pytorch3d_fov_to_intrinsics",
    "pytorch3d_to_opencv",
    "transform",
    "triangulate",
    "undistort_pixels",
    "unproject",
]
