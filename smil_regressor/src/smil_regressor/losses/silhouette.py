"""Silhouette losses: rendered against labelled masks, in every view that has one."""

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.losses import Term
from posecore.rendering import edge_silhouette, soft_silhouette
from smil_regressor.data.sample import Batch
from smil_regressor.losses.scene import LossSettings, Scene

BCE_FLOOR = 1e-6


def silhouette_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b v"]:
    return (batch.has_mask & batch.view_mask).float()


def silhouette(scene: Scene, settings: LossSettings) -> Term:
    """Mean over views with a mask; only those are rendered."""
    weight = silhouette_weights(scene.batch, settings)
    sample, view = torch.nonzero(weight, as_tuple=True)
    if not len(sample):
        return Term(weight.sum(), weight.sum())
    alpha = _render(scene, (sample, view), settings)
    mask = scene.batch.masks[sample, view].to(alpha.dtype)
    return Term(silhouette_error(alpha, mask, settings).sum(), weight.sum())


def _render(scene: Scene, chosen: tuple[Tensor, Tensor], settings: LossSettings) -> Float[Tensor, "n h w"]:
    h, w = scene.batch.masks.shape[2:]
    vertices_cam, K = scene.vertices_cam(chosen), scene.cameras.K[chosen]
    with torch.autocast(vertices_cam.device.type, enabled=False):
        faces = scene.model.model.faces
        if settings.silhouette_sigma is None:
            return edge_silhouette(vertices_cam, faces, K, (h, w), backend=settings.renderer)
        return soft_silhouette(
            vertices_cam, faces, K, (h, w), sigma=settings.silhouette_sigma, backend=settings.renderer
        )


def silhouette_error(
    alpha: Float[Tensor, "n h w"], mask: Float[Tensor, "n h w"], settings: LossSettings
) -> Float[Tensor, " n"]:
    """Per view. bce: mean binary cross-entropy. l1: mean difference. soft_iou: 1 - intersection over union."""
    if settings.silhouette == "bce":
        # The floor belongs to the loss: without it, one wrong pixel of alpha 0 would cost infinitely much.
        alpha = alpha.clamp(BCE_FLOOR, 1 - BCE_FLOOR)
        return -(mask * alpha.log() + (1 - mask) * (1 - alpha).log()).mean((1, 2))
    if settings.silhouette == "l1":
        return (alpha - mask).abs().mean((1, 2))
    intersection = (alpha * mask).sum((1, 2))
    union = (alpha + mask - alpha * mask).sum((1, 2))
    return 1 - torch.where(union > 0, intersection / torch.where(union > 0, union, 1), 1)
