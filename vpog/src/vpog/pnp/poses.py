"""Poses as seven numbers, and steps in their six local coordinates."""

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.rotations import matrix_to_quaternion_wxyz, quaternion_wxyz_to_matrix


def pose_from_matrix(cam_from_obj_mm: Float[Tensor, "*b 4 4"], unit_mm: Float[Tensor, "*b"]) -> Float[Tensor, "*b 7"]:
    """x, y, z in units of `unit_mm` (an object's diameter), then the unit quaternion wxyz."""
    quat_wxyz = matrix_to_quaternion_wxyz(cam_from_obj_mm[..., :3, :3])
    return torch.cat([cam_from_obj_mm[..., :3, 3] / unit_mm[..., None], quat_wxyz], -1)


def pose_to_matrix(pose: Float[Tensor, "*b 7"], unit_mm: Float[Tensor, "*b"]) -> Float[Tensor, "*b 4 4"]:
    """Back to millimetres. A pose of NaN gives a matrix of NaN."""
    top = torch.cat([quaternion_wxyz_to_matrix(pose[..., 3:]), (pose[..., :3] * unit_mm[..., None])[..., None]], -1)
    is_number = pose.isfinite().all(-1)[..., None, None]
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=pose.dtype, device=pose.device).expand_as(top[..., :1, :])
    return torch.where(is_number, torch.cat([top, bottom], -2), torch.nan)


def quaternion_tangent(quat_wxyz: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4 3"]:
    """T(q): how the quaternion moves with the three local coordinates of rotation."""
    w, i, j, k = quat_wxyz.unbind(-1)
    return torch.stack([i, j, k, -w, -k, j, k, -w, -i, -j, i, -w], -1).reshape(*quat_wxyz.shape[:-1], 4, 3)


def moved(pose: Float[Tensor, "*b 7"], step: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 7"]:
    """The pose after a step: t + dt, and q + T(q) dw normalised.

    Convention: q = (1, 0, 0, 0) moved by dw = (0, 0, e) becomes (1, 0, 0, -e): a turn by -2 e about the camera's z.
    """
    quat = pose[..., 3:] + (quaternion_tangent(pose[..., 3:]) @ step[..., 3:, None])[..., 0]
    return torch.cat([pose[..., :3] + step[..., :3], torch.nn.functional.normalize(quat, dim=-1)], -1)
