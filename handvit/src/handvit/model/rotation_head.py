"""Rotations as the decoder gives them: 6D, axis-angle or quaternions, absolute or as offsets from the mean pose."""

import torch
from jaxtyping import Float
from torch import Tensor

from handvit.config.model import JointType
from posecore.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion_wxyz,
    matrix_to_rotation_6d,
    quaternion_wxyz_to_matrix,
    rotation_6d_to_matrix,
)

NUM_ROTATIONS = 16
PARAMETERS: dict[JointType, int] = {"6d": 6, "axis_angle": 3, "quaternion": 4}
"""Numbers of one rotation."""


def pose_to_rotations(
    pose: Float[Tensor, "*batch k"], joint_type: JointType, mean: Float[Tensor, "48"] | None = None
) -> Float[Tensor, "*batch 16 3 3"]:
    """Absolute rotation matrices, root first.

    `mean`: axis-angles (the root's are zero) that the pose is relative to. The sum is taken of axis-angles, which is
    how upstream's hand model adds its mean; None: the pose is absolute.
    """
    parts = pose.reshape(*pose.shape[:-1], NUM_ROTATIONS, PARAMETERS[joint_type])
    if mean is not None:
        angles = parts if joint_type == "axis_angle" else matrix_to_axis_angle(_to_matrix(parts, joint_type))
        return axis_angle_to_matrix(angles + mean.reshape(NUM_ROTATIONS, 3))
    return _to_matrix(parts, joint_type)


def rotations_to_pose(rotations: Float[Tensor, "*batch 16 3 3"], joint_type: JointType) -> Float[Tensor, "*batch k"]:
    """Absolute pose parameters of rotation matrices."""
    if joint_type == "6d":
        return matrix_to_rotation_6d(rotations, "columns").flatten(-2)
    if joint_type == "axis_angle":
        return matrix_to_axis_angle(rotations).flatten(-2)
    return matrix_to_quaternion_wxyz(rotations).flatten(-2)


def mean_axis_angle(mean_rotations: Float[Tensor, "15 3 3"]) -> Float[Tensor, "48"]:
    """The fingers' mean pose as axis-angles (below pi), with an unturned root before them."""
    fingers = matrix_to_axis_angle(mean_rotations.detach().double().cpu())
    return torch.cat((fingers.new_zeros(3), fingers.flatten())).to(torch.get_default_dtype())


def first_pose(joint_type: JointType, mean: Float[Tensor, "48"] | None) -> Float[Tensor, " k"]:
    """Parameters of the pose that a new network predicts: the root unturned, the fingers as in the mean, or flat."""
    angles = torch.zeros(48) if mean is None else mean
    if joint_type == "axis_angle":
        return angles.clone()
    return rotations_to_pose(axis_angle_to_matrix(angles.reshape(NUM_ROTATIONS, 3)), joint_type)


def _to_matrix(parts: Tensor, joint_type: JointType) -> Tensor:
    if joint_type == "6d":
        return rotation_6d_to_matrix(parts, "columns")
    return axis_angle_to_matrix(parts) if joint_type == "axis_angle" else quaternion_wxyz_to_matrix(parts)
