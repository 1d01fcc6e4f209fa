"""Losses of the pose one differentiable step after the optimum: they teach the derivative (EPro-PnP, section 5.1)."""

import torch
from jaxtyping import Float
from torch import Tensor

from vpog.pnp.cost import linearise
from vpog.pnp.lm import gauss_newton
from vpog.pnp.poses import moved
from vpog.pnp.records import Correspondences


def pose_after_step(
    correspondences: Correspondences, pose: Float[Tensor, "b 7"], delta: Float[Tensor, " b"], z_min: float
) -> Float[Tensor, "b 7"]:
    """One Gauss-Newton step from a pose, differentiable with regard to points, pixels and weights."""
    squared, gradient = linearise(correspondences, pose, delta, z_min).normal_equations()
    return moved(pose, gauss_newton(squared, gradient))


def translation_error(
    pose: Float[Tensor, "b 7"], target: Float[Tensor, "b 7"], beta: float = 1.0
) -> Float[Tensor, " b"]:
    """Smooth L1 of the distance: d^2 / (2 beta) up to beta, then d - beta / 2; in the points' unit."""
    squared = (pose[:, :3] - target[:, :3]).square().sum(-1)
    distance = squared.clamp_min(beta**2).sqrt()  # no root of 0, whose gradient is infinite
    return torch.where(squared < beta**2, squared / (2 * beta), distance - beta / 2)


def rotation_error(pose: Float[Tensor, "b 7"], target: Float[Tensor, "b 7"]) -> Float[Tensor, " b"]:
    """2 (1 - (q . q_true)^2): 2 sin^2 of half the angle between them."""
    return 2 * (1 - (pose[:, 3:] * target[:, 3:]).sum(-1).square())
