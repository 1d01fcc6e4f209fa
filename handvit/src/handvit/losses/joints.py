"""Losses on joints and vertices in space (mm) and in pictures (px)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from handvit.data.sample import Batch
from handvit.joints import WRIST
from handvit.losses.distances import image_to_patch, project_mm, robust_l1
from handvit.losses.parameters import mano_weights, mean_term
from handvit.losses.scene import LossSettings, Scene, root_scale_weight
from posecore.losses import Term, masked_difference, weighed


def rel_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b t 21"]:
    """Joints with a label, in frames whose wrist has one."""
    return batch.joint_3d_valid * batch.joint_3d_valid[..., WRIST : WRIST + 1]


def rel(scene: Scene, settings: LossSettings) -> Term:
    """Joints minus the wrist."""
    weight = rel_weights(scene.batch, settings)
    return mean_term(scene.posed.joint_rel_mm, scene.batch.joint_rel_mm, weight, settings.joint_norm)


def cam_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b t 21"]:
    return batch.joint_3d_valid * root_scale_weight(batch, settings)[..., None]


def cam(scene: Scene, settings: LossSettings) -> Term:
    """Joints in the camera frame."""
    weight = cam_weights(scene.batch, settings)
    return mean_term(scene.posed.joint_cam_mm, scene.batch.joint_cam_mm, weight, settings.joint_norm)


def vertices(scene: Scene, settings: LossSettings) -> Term:
    """Vertices minus the wrist, against the mesh of the labelled parameters; this one teaches the shape too."""
    weight = mano_weights(scene.batch, settings)
    predicted = scene.posed_mesh.vertices_rel_mm
    assert predicted is not None
    return mean_term(predicted, scene.true_vertices_rel_mm, weight, settings.joint_norm)


def img_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b t 21"]:
    return cam_weights(batch, settings) * batch.has_intr[..., None]


def img(scene: Scene, settings: LossSettings) -> Term:
    """Between the projections of predicted and true joints."""
    batch = scene.batch
    return reprojection_term(
        scene.posed.joint_cam_mm,
        batch.joint_cam_mm,
        (batch.focal, batch.princpt),
        img_weights(batch, settings),
        settings.reprojection_norm,
        settings.reprojection_delta_px,
        (batch.patch_bbox, settings.patch_size) if settings.reprojection_space == "patch" else None,
    )


def reprojection_term(
    prediction_mm: Float[Tensor, "*batch j 3"],
    target_mm: Float[Tensor, "*batch j 3"],
    camera: tuple[Float[Tensor, "*batch 2"], Float[Tensor, "*batch 2"]],
    weight: Float[Tensor, "*batch j"],
    norm: Literal["l1", "robust"],
    delta_px: float,
    patch: tuple[Float[Tensor, "*batch 4"], int] | None,
) -> Term:
    """Difference of two projections, mean over x and y.

    Args:
        camera: Focal lengths and principal points, px.
        patch: Box and size of the patch whose pixels count; None: pixels of the image.
    """
    truth_mm = torch.where((weight > 0)[..., None], target_mm, 1)
    pixels = [project_mm(points, *camera) for points in (prediction_mm, truth_mm)]
    if patch is not None:
        pixels = [image_to_patch(points, *patch) for points in pixels]
    difference = masked_difference(pixels[0], pixels[1], weight)
    error = robust_l1(difference, delta_px) if norm == "robust" else difference.abs()
    return weighed(error.mean(-1), weight)


def img_2d_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b t 21"]:
    """2D joints of frames that have no 3D joint, but a camera to project with."""
    flat = (batch.joint_3d_valid <= 0).all(-1) & (batch.focal > 0).all(-1)
    return batch.joint_2d_valid * flat[..., None]


def img_2d(scene: Scene, settings: LossSettings) -> Term:
    """L1 in patch pixels."""
    weight = img_2d_weights(scene.batch, settings)
    predicted = image_to_patch(scene.pixels(scene.posed.joint_cam_mm), scene.batch.patch_bbox, settings.patch_size)
    return mean_term(predicted, scene.batch.joint_patch, weight, "l1")


def velocity_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b _ 21"]:
    return _in_a_row(cam_weights(batch, settings), 2)


def velocity(scene: Scene, settings: LossSettings) -> Term:
    """First difference of the joints in the camera frame."""
    return _motion(scene, settings, 1, velocity_weights(scene.batch, settings))


def acceleration_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b _ 21"]:
    return _in_a_row(cam_weights(batch, settings), 3)


def acceleration(scene: Scene, settings: LossSettings) -> Term:
    """Second difference of the joints in the camera frame."""
    return _motion(scene, settings, 2, acceleration_weights(scene.batch, settings))


def _motion(scene: Scene, settings: LossSettings, order: int, weight: Tensor) -> Term:
    known = cam_weights(scene.batch, settings)
    difference = masked_difference(scene.posed.joint_cam_mm, scene.batch.joint_cam_mm, known)
    changes = difference.diff(n=order, dim=1)
    return mean_term(changes, torch.zeros_like(changes), weight, settings.joint_norm)


def _in_a_row(weight: Tensor, length: int) -> Tensor:
    """Product over windows of frames; clips of fewer frames have none."""
    count = max(weight.shape[1] - length + 1, 0)
    windows = [weight[:, start : start + count] for start in range(length)]
    return torch.stack(windows).prod(0)
