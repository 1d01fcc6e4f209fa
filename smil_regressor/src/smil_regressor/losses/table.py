"""All loss terms by name, and the denominators of a batch."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from posecore.losses import Term
from smil_regressor.data.sample import Batch
from smil_regressor.losses import consistency, keypoints, parameters, regularisers, silhouette
from smil_regressor.losses.scene import LossSettings, Scene
from smil_regressor.model.body import Body
from smil_regressor.model.prediction import Prediction

Weights = Callable[[Batch, LossSettings], Tensor]
Loss = Callable[[Scene, LossSettings], Term]

TERMS: dict[str, tuple[Weights, Loss]] = {
    "global_rot": (parameters.global_rot_weights, parameters.global_rot),
    "joint_rot": (parameters.joint_rot_weights, parameters.joint_rot),
    "betas": (parameters.betas_weights, parameters.betas),
    "trans": (parameters.trans_weights, parameters.trans),
    "log_beta_scales": (parameters.log_beta_scales_weights, parameters.log_beta_scales),
    "betas_trans": (parameters.betas_trans_weights, parameters.betas_trans),
    "fov": (parameters.camera_weights, parameters.fov),
    "cam_rot": (parameters.camera_weights, parameters.cam_rot),
    "cam_trans": (parameters.camera_weights, parameters.cam_trans),
    "keypoint_2d": (keypoints.keypoint_2d_weights, keypoints.keypoint_2d),
    "keypoint_3d": (keypoints.keypoint_3d_weights, keypoints.keypoint_3d),
    "silhouette": (silhouette.silhouette_weights, silhouette.silhouette),
    "triangulation_consistency": (
        consistency.triangulation_consistency_weights,
        consistency.triangulation_consistency,
    ),
    "joint_angle_regularization": (regularisers.sample_weights, regularisers.joint_angle_regularization),
    "limb_scale_regularization": (regularisers.sample_weights, regularisers.limb_scale_regularization),
    "limb_trans_regularization": (regularisers.sample_weights, regularisers.limb_trans_regularization),
}
PER_VIEW = ("fov", "cam_rot", "cam_trans")
IEF = "ief_intermediate"
IEF_TERMS = ("keypoint_3d", "keypoint_2d", "joint_rot", "betas", "trans")


def loss_terms(
    prediction: Prediction, batch: Batch, body: Body, names: Iterable[str], settings: LossSettings
) -> dict[str, Term]:
    """The named terms (ask only for those with a weight: the others need not be computed)."""
    scene = Scene(prediction, prediction, batch, body)
    terms: dict[str, Term] = {}
    for name in names:
        if name == IEF:
            terms |= ief_intermediate(scene, settings)
        else:
            terms[name] = TERMS[name][1](scene, settings)
    return terms


def ief_intermediate(scene: Scene, settings: LossSettings) -> dict[str, Term]:
    """Losses of the iterations before the last, iteration i of n weighed (i + 1)/n, in the final cameras."""
    history = scene.cameras.history
    terms: dict[str, Term] = {}
    for i, body in enumerate(history[:-1]):
        earlier = replace(scene, body=body)
        for name in IEF_TERMS:
            term = TERMS[name][1](earlier, settings)
            share = Term((i + 1) / len(history) * term.total, term.count)
            previous = terms.get(f"{IEF}/{name}")
            terms[f"{IEF}/{name}"] = share if previous is None else replace(share, total=previous.total + share.total)
    return terms


def denominators(batch: Batch, names: Iterable[str], settings: LossSettings) -> dict[str, Tensor]:
    """Counts that the named terms divide by; they depend on the targets alone, so they need no prediction.

    Scalars, to be added over the micro-batches and processes of a global batch and given to `total_loss`.
    """
    asked = list(names)
    counts: dict[str, Tensor] = {}
    for name in dict.fromkeys([n for n in asked if n != IEF] + list(IEF_TERMS if IEF in asked else ())):
        weight = TERMS[name][0](batch, settings)
        count = weight.sum(0) if name in PER_VIEW else weight.sum()
        counts |= Term(torch.zeros_like(count), count).counts(name)
    return counts
