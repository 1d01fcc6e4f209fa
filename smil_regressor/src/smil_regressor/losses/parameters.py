"""Losses on the parameters themselves, where a dataset gives them."""

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.cameras import intrinsics_to_fov
from posecore.losses import Term, masked_difference, weighed
from smil_regressor.data.sample import Batch
from smil_regressor.losses.keypoints import labelled
from smil_regressor.losses.scene import LossSettings, Scene


def global_rot_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, " b"]:
    return batch.has_root_rotation.float()


def global_rot(scene: Scene, settings: LossSettings) -> Term:
    """Root rotation."""
    weight = global_rot_weights(scene.batch, settings)
    difference = masked_difference(scene.body.rotations[:, 0], scene.batch.rotations[:, 0], weight)
    return weighed(_matrix_error(difference, settings), weight)


def joint_rot_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b i"]:
    """One for each joint but the root."""
    weight = batch.has_joint_rotations[:, None].float().expand(-1, batch.rotations.shape[1] - 1)
    return weight * labelled(batch).any(1)[:, 1:] if settings.visible_only else weight


def joint_rot(scene: Scene, settings: LossSettings) -> Term:
    """Rotations of all joints but the root."""
    weight = joint_rot_weights(scene.batch, settings)
    difference = masked_difference(scene.body.rotations[:, 1:], scene.batch.rotations[:, 1:], weight)
    return weighed(_matrix_error(difference, settings), weight)


def betas_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, " b"]:
    return batch.has_betas.float()


def betas(scene: Scene, settings: LossSettings) -> Term:
    return _mean_square(scene.body.betas, scene.batch.betas, betas_weights(scene.batch, settings))


def trans_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, " b"]:
    return batch.has_translation.float()


def trans(scene: Scene, settings: LossSettings) -> Term:
    scale = settings.length_scale
    weight = trans_weights(scene.batch, settings)
    return _mean_square(scene.body.translation / scale, scene.batch.translation / scale, weight)


def log_beta_scales_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, " b"]:
    return batch.has_log_scales.float()


def log_beta_scales(scene: Scene, settings: LossSettings) -> Term:
    """Limb scales (log); a network without them is taken to predict 0."""
    predicted = scene.body.log_scales
    target = scene.batch.log_scales
    weight = log_beta_scales_weights(scene.batch, settings)
    return _mean_square(torch.zeros_like(target) if predicted is None else predicted, target, weight)


def betas_trans_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, " b"]:
    return batch.has_joint_offsets.float()


def betas_trans(scene: Scene, settings: LossSettings) -> Term:
    """Joint offsets; a network without them is taken to predict 0."""
    predicted = scene.body.joint_offsets
    target = scene.batch.joint_offsets
    weight = betas_trans_weights(scene.batch, settings)
    return _mean_square(torch.zeros_like(target) if predicted is None else predicted, target, weight)


def camera_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b v"]:
    return (batch.has_camera & batch.view_mask).float()


def fov(scene: Scene, settings: LossSettings) -> Term:
    """Vertical field of view, square degrees; as all camera losses, mean over views of each view's mean."""
    size = (scene.batch.images.shape[2], scene.batch.images.shape[3])
    target, _ = intrinsics_to_fov(scene.batch.K, size)
    return _mean_square(scene.cameras.fov_deg, target, camera_weights(scene.batch, settings), groups=True)


def cam_rot(scene: Scene, settings: LossSettings) -> Term:
    """Entries of the rotation."""
    predicted, target = (cameras.cam_from_world[..., :3, :3] for cameras in (scene.cameras, scene.batch))
    return _mean_square(predicted, target, camera_weights(scene.batch, settings), groups=True)


def cam_trans(scene: Scene, settings: LossSettings) -> Term:
    both = (scene.cameras.cam_from_world, scene.batch.cam_from_world)
    predicted, target = (cam_from_world[..., :3, 3] / settings.length_scale for cam_from_world in both)
    return _mean_square(predicted, target, camera_weights(scene.batch, settings), groups=True)


def _mean_square(predicted: Tensor, target: Tensor, weight: Tensor, groups: bool = False) -> Term:
    """Over the entries of each element that has a weight."""
    square = masked_difference(predicted, target, weight).square()
    extra = tuple(range(weight.ndim, square.ndim))
    return weighed(square.mean(extra) if extra else square, weight, groups)


def _matrix_error(difference: Float[Tensor, "*batch 3 3"], settings: LossSettings) -> Float[Tensor, "*batch"]:
    if settings.rotation_error == "squared":
        return difference.square().mean((-2, -1))
    norm: Tensor = torch.linalg.matrix_norm(difference)
    return norm
