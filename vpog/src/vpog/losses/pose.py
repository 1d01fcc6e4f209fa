"""The poses that matches imply: L_mc + 0.1 L_t + 0.1 L_r of EPro-PnP."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from posecore.losses import Term
from vpog.labels.records import FlowLabels
from vpog.model.prediction import Prediction
from vpog.pnp.cost import adaptive_delta, pose_costs
from vpog.pnp.derivative import pose_after_step, rotation_error, translation_error
from vpog.pnp.lm import solve_lm
from vpog.pnp.monte_carlo import monte_carlo_loss, pose_distribution
from vpog.pnp.poses import pose_from_matrix
from vpog.pnp.records import Correspondences
from vpog.pnp.settings import PnpSettings
from vpog.pnp.soundness import sound
from vpog.pnp.wiring import TemplateGeometry, matched_correspondences


@dataclass(frozen=True)
class PoseTargets:
    """True poses of the queries, and the templates that their points come from."""

    cam_from_obj_mm: Float[Tensor, "b 4 4"]
    K: Float[Tensor, "b 3 3"]
    """Of the query crops."""
    diameter_mm: Float[Tensor, " b"]
    templates: TemplateGeometry
    seeds: Int64[Tensor, " b"]


@dataclass(frozen=True)
class PoseTerm:
    """Term `pnp`, and what is worth knowing of it: sums over the objects that have a pose."""

    term: Term
    parts: dict[str, Term]
    """monte_carlo, translation, rotation: before weighing."""
    num_failures: Int64[Tensor, ""]
    """Objects with matches that gave no pose: they add nothing to the sum, but count."""
    num_fallbacks: Int64[Tensor, ""]
    """Matrices of proposals that were not positive definite."""


def pose_term(
    prediction: Prediction, labels: FlowLabels, targets: PoseTargets, settings: PnpSettings, norm: Float[Tensor, ""]
) -> PoseTerm:
    """Over the queries that have a matched pair.

    Args:
        prediction: Its dense part belongs to the labels' pairs.
        norm: What the Monte Carlo loss is divided by, see `RunningScale`.
    """
    scores = pair_probabilities(prediction.matching.logits, labels.pairs)
    pairs = matched_correspondences(
        labels.pairs,
        prediction.dense,
        scores,
        targets.templates,
        targets.K,
        targets.diameter_mm,
        prediction.matching.pnp_scale,
        settings.wiring,
    )
    true_pose = pose_from_matrix(targets.cam_from_obj_mm, targets.diameter_mm)
    return distribution_term(pairs, true_pose, targets.seeds, settings, norm, _has_pairs(labels))


def distribution_term(
    correspondences: Correspondences,
    true_pose: Float[Tensor, "b 7"],
    seeds: Int64[Tensor, " b"],
    settings: PnpSettings,
    norm: Float[Tensor, ""],
    counts: Float[Tensor, " b"],
) -> PoseTerm:
    """Of correspondences in the unit of the true poses; the solver starts at the truth, or training would go astray early."""
    optimum = solve_lm(_detached(correspondences), true_pose, settings.lm)
    given = sound(correspondences, settings.lm.min_points).correspondences
    is_solved = optimum.is_solved
    delta, z_min = adaptive_delta(given, settings.lm.relative_delta), settings.lm.z_min
    pose = torch.where(is_solved[:, None], optimum.pose, true_pose)
    eye = torch.eye(6, dtype=pose.dtype, device=pose.device)
    covariance = torch.where(is_solved[:, None, None], optimum.covariance, eye)
    distribution = pose_distribution(given, delta, z_min, pose, covariance, seeds, settings.monte_carlo)
    true_cost = pose_costs(given, true_pose[:, None], delta, z_min)[:, 0]
    after = pose_after_step(given, pose, delta, z_min)
    errors = {
        "monte_carlo": monte_carlo_loss(true_cost, distribution) / norm,
        "translation": translation_error(after, true_pose, settings.translation_beta),
        "rotation": rotation_error(after, true_pose),
    }
    share = settings.derivative_weight
    total = errors["monte_carlo"] + share * errors["translation"] + share * errors["rotation"]
    parts = {name: _over(error, is_solved, counts) for name, error in errors.items()}
    failures = ((counts > 0) & ~is_solved).sum()
    return PoseTerm(_over(total, is_solved, counts), parts, failures, distribution.num_fallbacks)


def pose_count(labels: FlowLabels) -> Float[Tensor, ""]:
    """Queries that have a matched pair."""
    return _has_pairs(labels).sum()


@torch.no_grad()
def pair_probabilities(logits: Float[Tensor, "b s p p1"], pairs: Int64[Tensor, "m 4"]) -> Float[Tensor, " m"]:
    """Of the pairs, by classification."""
    sample, template, query, cell = pairs.unbind(-1)
    rows = logits[sample, template, query]
    return rows.gather(-1, cell[:, None])[:, 0].float().sub(rows.float().logsumexp(-1)).exp()


def _has_pairs(labels: FlowLabels) -> Float[Tensor, " b"]:
    counts = torch.zeros(len(labels.patch_cls), device=labels.pairs.device)
    return counts.index_fill(0, labels.pairs[:, 0], 1.0)


def _over(error: Tensor, is_solved: Tensor, counts: Tensor) -> Term:
    keep = is_solved & (counts > 0)
    return Term(torch.where(keep, error, 0).sum(), counts.sum())


def _detached(c: Correspondences) -> Correspondences:
    return Correspondences(c.points_obj.detach(), c.pixels.detach(), c.weights.detach(), c.K)
