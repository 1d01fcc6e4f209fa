"""Losses of the translation heads: heat maps of the root, bins of its depth, its place in the patch."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from handvit.data.sample import Batch
from handvit.joints import WRIST
from handvit.losses.distances import MIN_DEPTH_MM, heatmap_cross_entropy, heatmap_cross_entropy_2d
from handvit.losses.scene import LossSettings, Scene, root_scale_weight
from handvit.model.depth_prior import encode_depth
from handvit.model.prediction import DepthBins
from posecore.losses import Term, weighed


def root_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b t"]:
    """The wrist has a label, and the hand a size where the root is told in sizes."""
    return batch.joint_3d_valid[..., WRIST] * root_scale_weight(batch, settings)


def trans(scene: Scene, settings: LossSettings) -> Term:
    """Cross entropy of the root's heat maps, summed over the axes that have one."""
    weight = root_weights(scene.batch, settings)
    maps = scene.prediction.translation.heatmaps
    if not maps:
        raise ValueError("the term trans needs heat maps of the root, which this translation head does not give")
    target = _root(scene, weight)
    if settings.norm_by_hand:
        target = target / torch.where(weight > 0, scene.true_size_mm, 1)[..., None]
    error = torch.zeros_like(weight)
    for axis, heatmap in enumerate(maps):
        log_probabilities = heatmap.log_probabilities.to(target.dtype)
        centers = heatmap.centers.to(target.dtype)
        error = error + heatmap_cross_entropy(
            log_probabilities, centers, target[..., axis], settings.heatmap_sigma, settings.heatmap_target
        )
    return weighed(error, weight)


def depth_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b t"]:
    """As `root_weights`, with a camera to compute the prior from and the root in front of it."""
    in_front = batch.joint_cam_mm[..., WRIST, 2] >= MIN_DEPTH_MM
    return root_weights(batch, settings) * batch.has_intr * in_front


def bins(scene: Scene, settings: LossSettings) -> Term:
    """Cross entropy of the bin that holds the true log depth or distance over its prior."""
    weight = depth_weights(scene.batch, settings)
    predicted = _bins(scene)
    index, _ = _true_bins(scene, predicted, weight)
    error = F.cross_entropy(predicted.logits.to(weight).flatten(0, 1), index.flatten(), reduction="none")
    return weighed(error.reshape(weight.shape), weight)


def residual(scene: Scene, settings: LossSettings) -> Term:
    """Smooth L1 of the true bin's residual, in bin widths."""
    weight = depth_weights(scene.batch, settings)
    predicted = _bins(scene)
    index, target = _true_bins(scene, predicted, weight)
    chosen = predicted.residuals.to(target).gather(-1, index[..., None])[..., 0]
    error = F.smooth_l1_loss(chosen, target, reduction="none", beta=settings.residual_beta)
    return weighed(error, weight)


def log_depth(scene: Scene, settings: LossSettings) -> Term:
    """Smooth L1 of the log distance over its prior."""
    weight = depth_weights(scene.batch, settings)
    translation = scene.prediction.translation
    if translation.log_depth is None or translation.log_prior is None:
        raise ValueError("the term log_depth needs a regressed log distance, which this translation head does not give")
    length = _true_length(scene, weight, is_distance=True)
    target = length.log() - translation.log_prior.to(length)
    predicted = translation.log_depth.to(target.dtype)
    return weighed(F.smooth_l1_loss(predicted, target, reduction="none", beta=settings.residual_beta), weight)


def uv_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b t"]:
    """The wrist's place in the picture has a label, 3D or not."""
    return batch.joint_2d_valid[..., WRIST]


def uv(scene: Scene, settings: LossSettings) -> Term:
    """Cross entropy of the wrist's heat map over the patch; sigma in cells."""
    weight = uv_weights(scene.batch, settings)
    log_probabilities = scene.prediction.translation.uv_log_probabilities
    if log_probabilities is None:
        raise ValueError("the term uv needs a heat map over the patch, which this translation head does not give")
    cells = log_probabilities.shape[-1]
    centers = torch.arange(cells, device=weight.device, dtype=weight.dtype) + 0.5
    wrist = torch.where((weight > 0)[..., None], scene.batch.joint_patch[..., WRIST, :], 0)
    target = (wrist + 0.5) * (cells / settings.patch_size)
    error = heatmap_cross_entropy_2d(
        log_probabilities.to(weight.dtype), centers, centers, target, settings.uv_sigma_cells, settings.heatmap_target
    )
    return weighed(error, weight)


def _bins(scene: Scene) -> DepthBins:
    found = scene.prediction.translation.bins
    if found is None:
        raise ValueError("the terms bins and residual need depth bins, which this translation head does not give")
    return found


def _root(scene: Scene, weight: Float[Tensor, "b t"]) -> Float[Tensor, "b t 3"]:
    """The true root in mm; (0, 0, 1) where it has no weight."""
    nowhere = torch.tensor([0.0, 0.0, 1.0], dtype=weight.dtype, device=weight.device)
    return torch.where((weight > 0)[..., None], scene.batch.joint_cam_mm[..., WRIST, :], nowhere)


def _true_bins(scene: Scene, predicted: DepthBins, weight: Float[Tensor, "b t"]) -> tuple[Tensor, Tensor]:
    """Index of the bin and residual."""
    length = _true_length(scene, weight, predicted.is_distance)
    return encode_depth(length, predicted.log_prior.to(length), predicted.logits.shape[-1])


def _true_length(scene: Scene, weight: Float[Tensor, "b t"], is_distance: bool) -> Float[Tensor, "b t"]:
    """Distance from the camera, or depth, in mm."""
    root = _root(scene, weight)
    return torch.linalg.vector_norm(root, dim=-1) if is_distance else root[..., 2]
