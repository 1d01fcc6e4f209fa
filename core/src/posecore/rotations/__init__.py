"""Rotations: axis-angle, quaternions, 6D, Euler angles, matrices, distances and the nearest rotation.

Matrices act on column vectors; angles are radians; quaternions are wxyz; every 6D vector names its layout.
All closed forms here are finite with finite gradients everywhere, at the identity and at pi included.
"""

from posecore.rotations.axis_angle import axis_angle_to_matrix, matrix_to_axis_angle
from posecore.rotations.distance import geodesic_distance
from posecore.rotations.euler import euler_to_matrix, matrix_to_euler
from posecore.rotations.nearest import project_to_so3
from posecore.rotations.quaternion import matrix_to_quaternion_wxyz, quaternion_wxyz_to_matrix
from posecore.rotations.six_d import Layout, matrix_to_rotation_6d, rotation_6d_to_matrix

__all__ = [
    "Layout",
    "axis_angle_to_matrix",
    "euler_to_matrix",
    "geodesic_distance",
    "matrix_to_axis_angle",
    "matrix_to_euler",
    "matrix_to_quaternion_wxyz",
    "matrix_to_rotation_6d",
    "project_to_so3",
    "quaternion_wxyz_to_matrix",
    "rotation_6d_to_matrix",
]
