"""Losses that need no target."""

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.losses import Term, weighed
from posecore.rotations import geodesic_distance
from smil_regressor.data.sample import Batch
from smil_regressor.losses.scene import LossSettings, Scene


def sample_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, " b"]:
    return torch.ones(len(batch), device=batch.images.device)


def joint_angle_regularization(scene: Scene, settings: LossSettings) -> Term:
    """Mean square angle (rad^2) of all joints but the root."""
    rotations = scene.body.rotations[:, 1:]
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    squared = geodesic_distance(rotations, identity.expand_as(rotations)).square()
    return weighed(squared.mean(-1), sample_weights(scene.batch, settings))


def limb_scale_regularization(scene: Scene, settings: LossSettings) -> Term:
    """Mean square log scale of each joint and axis; 0 for a network without limb scales."""
    return _mean_square(scene.body.log_scales, scene, settings)


def limb_trans_regularization(scene: Scene, settings: LossSettings) -> Term:
    """Mean square joint offset of each joint and axis; 0 for a network without offsets."""
    return _mean_square(scene.body.joint_offsets, scene, settings)


def _mean_square(values: Tensor | None, scene: Scene, settings: LossSettings) -> Term:
    weight = sample_weights(scene.batch, settings)
    error = torch.zeros_like(weight) if values is None else values.square().mean((-2, -1))
    return weighed(error, weight)
