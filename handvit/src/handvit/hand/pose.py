"""Hand poses: absolute and relative to the mean, principal components, matrices.

A pose of 48 numbers is the axis-angle (radians) of the root and of 15 joints in MANO's order. Absolute: a flat hand is 0.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.rotations import axis_angle_to_matrix, matrix_to_axis_angle


def to_absolute(pose: Float[Tensor, "*b 48"], hands_mean: Float[Tensor, "45"]) -> Float[Tensor, "*b 48"]:
    """A pose whose fingers are offsets from the mean, as smplx and InterHand, FreiHAND, DexYCB, HOT3D have it."""
    return torch.cat([pose[..., :3], pose[..., 3:] + hands_mean], -1)


def to_relative(pose: Float[Tensor, "*b 48"], hands_mean: Float[Tensor, "45"]) -> Float[Tensor, "*b 48"]:
    """Undoes `to_absolute`."""
    return torch.cat([pose[..., :3], pose[..., 3:] - hands_mean], -1)


def pca_to_axis_angle(
    coefficients: Float[Tensor, "*b n"],
    components: Float[Tensor, "m 45"],
    mean: Float[Tensor, "45"] | None = None,
) -> Float[Tensor, "*b 45"]:
    """Axis-angles of the 15 joints from the first n principal components (plus the mean, if it is given).

    45 coefficients are still coefficients; smplx takes them for axis-angles.

    Raises:
        ValueError: More coefficients than components.
    """
    n = coefficients.shape[-1]
    if n > len(components):
        raise ValueError(f"{n} coefficients, but the hand model has {len(components)} components")
    fingers = coefficients @ components[:n]
    return fingers if mean is None else fingers + mean


def pose_to_rotations(pose: Float[Tensor, "*b 48"]) -> Float[Tensor, "*b 16 3 3"]:
    """Local rotations, the root's first. Half precision is computed in float32: near 0 it would lose the angle."""
    wide = pose if pose.dtype == torch.float64 else pose.float()
    return axis_angle_to_matrix(wide.reshape(*pose.shape[:-1], 16, 3))


def rotations_to_pose(rotations: Float[Tensor, "*b 16 3 3"]) -> Float[Tensor, "*b 48"]:
    """Angles in [0, pi]."""
    return matrix_to_axis_angle(rotations).flatten(-2)
