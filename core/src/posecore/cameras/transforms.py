"""Rigid transforms as 4x4 matrices: `b_from_a` maps points of frame a to frame b."""

import torch
from jaxtyping import Float
from torch import Tensor


def transform(
    b_from_a: Float[Tensor, "*#batch 4 4"], points_a: Float[Tensor, "*#batch n 3"]
) -> Float[Tensor, "*points_batch n 3"]:
    """Points of frame a in frame b: `R x + t` for each."""
    return points_a @ b_from_a[..., :3, :3].mT + b_from_a[..., None, :3, 3]


def invert(b_from_a: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """`a_from_b` of a rigid transform (rotation and translation, no scale): `R^T`, `-R^T t`."""
    rotation = b_from_a[..., :3, :3].mT
    return rigid(rotation, -(rotation @ b_from_a[..., :3, 3:])[..., 0])


def rigid(rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4 4"]:
    """The 4x4 matrix of `R x + t`."""
    last = rotation.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*rotation.shape[:-2], 1, 4)
    return torch.cat((torch.cat((rotation, translation[..., None]), -1), last), -2)


def look_at(
    eye: Float[Tensor, "*batch 3"], target: Float[Tensor, "*batch 3"], up: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """`cam_from_world` of a camera at `eye` whose z axis points at `target` and whose image has `up` at the top.

    Convention: from eye (0, 0, -2) to the origin with up (0, -1, 0) the world's axes are the camera's: R = I and
    t = (0, 0, 2).
    Raises ValueError where eye and target coincide or up is along the line of sight.
    """
    forward = _direction(target - eye, "eye and target coincide")
    right = _direction(torch.linalg.cross(forward, up), "up is along the line of sight")
    rotation = torch.stack((right, torch.linalg.cross(forward, right), forward), -2)
    return rigid(rotation, -(rotation @ eye[..., None])[..., 0])


def _direction(v: Tensor, problem: str) -> Tensor:
    length = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    if not bool((length > 1e-6).all()):
        entries = (~(length[..., 0] > 1e-6)).nonzero().tolist()
        raise ValueError(f"look_at: {problem} (batch entries {entries[:5]})" if v.ndim > 1 else f"look_at: {problem}")
    unit: Tensor = v / length
    return unit
