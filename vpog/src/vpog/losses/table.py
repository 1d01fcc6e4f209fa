"""All loss terms by name, the denominators of a batch, and what is measured besides."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from posecore.losses import Term
from vpog.data.sample import PoseBatch
from vpog.labels.records import FlowLabels
from vpog.losses.centre import centre_count, centre_targets, centre_term
from vpog.losses.classification import (
    accuracy_sums,
    background_as_unmatched,
    classification_count,
    classification_term,
)
from vpog.losses.dense import dense_term, flow_error_sums, invisible_count, invisible_term, visible_count
from vpog.losses.pose import PoseTargets, PoseTerm, pose_count, pose_term
from vpog.losses.settings import LossSettings
from vpog.losses.weight_regulariser import l2_term
from vpog.model.prediction import Prediction
from vpog.pnp.wiring import TemplateGeometry


@dataclass(frozen=True)
class Targets:
    """What a prediction is compared with."""

    labels: FlowLabels
    poses: PoseTargets

    @classmethod
    def of(cls, batch: PoseBatch, labels: FlowLabels, settings: LossSettings, *, training: bool) -> "Targets":
        """In training some background counts as unmatched, by the samples' seeds."""
        probability = settings.bg_as_unmatched if training else 0.0
        patch_cls = background_as_unmatched(labels.patch_cls, batch.seed, probability)
        templates = TemplateGeometry(batch.depth_mm[:, 1:], batch.K[:, 1:], batch.cam_from_obj_mm[:, 1:])
        poses = PoseTargets(batch.cam_from_obj_mm[:, 0], batch.K[:, 0], batch.diameter_mm, templates, batch.seed)
        return cls(replace(labels, patch_cls=patch_cls), poses)


@dataclass(frozen=True)
class Losses:
    """Terms for `posecore.losses.total_loss`, and details of the pose term where it was computed."""

    terms: dict[str, Term]
    pose: PoseTerm | None


def loss_terms(
    prediction: Prediction,
    targets: Targets,
    names: Iterable[str],
    settings: LossSettings,
    *,
    norm: Float[Tensor, ""] | None = None,
    model: nn.Module | None = None,
) -> Losses:
    """The named terms (ask only for those with a weight: the others need not be computed), in float32.

    Args:
        prediction: Its dense part belongs to `targets.labels.pairs`.
        norm: For `pnp`: what `RunningScale.add` gave.
        model: For `l2`.

    Raises:
        ValueError: The dense prediction is of other pairs; or norm or model is missing.
    """
    labels = targets.labels
    if len(prediction.dense.flow) != len(labels.pairs):
        raise ValueError(f"dense flow of {len(prediction.dense.flow)} pairs, labels of {len(labels.pairs)}")
    with torch.autocast(device_type=prediction.matching.logits.device.type, enabled=False):
        terms, pose = {}, None
        for name in names:
            if name == "pnp":
                if norm is None:
                    raise ValueError("the term pnp needs the norm of a RunningScale")
                pose = pose_term(prediction, labels, targets.poses, settings.solver, norm)
                terms[name] = pose.term
            elif name == "l2":
                if model is None:
                    raise ValueError("the term l2 needs the model")
                terms[name] = l2_term(model, len(labels.patch_cls))
            else:
                terms[name] = _match_term(name, prediction, labels, settings)
        return Losses(terms, pose)


def denominators(targets: Targets, names: Iterable[str]) -> dict[str, Tensor]:
    """Counts that the named terms divide by; they depend on the targets alone, so they need no prediction."""
    labels = targets.labels
    counts = {
        "classification": lambda: classification_count(labels.patch_cls),
        "dense": lambda: visible_count(labels.dense_visibility),
        "invisible": lambda: invisible_count(labels.dense_visibility),
        "centre": lambda: centre_count(labels),
        "pnp": lambda: pose_count(labels),
        "l2": lambda: torch.tensor(float(len(labels.patch_cls)), device=labels.patch_cls.device),
    }
    return {name: counts[name]() for name in names}


def untaught(prediction: Prediction) -> Float[Tensor, ""]:
    """0, with gradients of 0 for all outputs: added to a loss, terms that do not count yet leave no parameter without a
    gradient, which processes that train together would wait for."""
    dense, matching = prediction.dense, prediction.matching
    outputs = (matching.pnp_scale, matching.logits, dense.flow, dense.scale, dense.centre_flow)
    return torch.stack([(output.float() * 0).sum() for output in outputs]).sum()


def match_sums(prediction: Prediction, labels: FlowLabels) -> dict[str, tuple[Tensor, Tensor]]:
    """Measures as (sum, count): accuracies, the error of the flow in pixels, and matched pairs of a sample."""
    dense = prediction.dense
    centres, weight = centre_targets(labels)
    error = torch.where(weight > 0, (dense.centre_flow - centres).norm(dim=-1), 0) * dense.flow.shape[1]
    samples = torch.tensor(float(len(labels.patch_cls)), dtype=torch.float64, device=error.device)
    measures = {
        "flow_px": flow_error_sums(dense, labels.dense_flow, labels.dense_visibility),
        "centre_px": (error.double().sum(), weight.double().sum()),
        "pairs": (samples.new_tensor(float(len(labels.pairs))), samples),
    }
    return accuracy_sums(prediction.matching.logits, labels.patch_cls) | measures


def _match_term(name: str, prediction: Prediction, labels: FlowLabels, settings: LossSettings) -> Term:
    if name == "classification":
        return classification_term(
            prediction.matching.logits,
            labels.patch_cls,
            settings.tau,
            settings.unmatched_weight,
            settings.label_smoothing,
        )
    if name == "dense":
        return dense_term(
            prediction.dense, labels.dense_flow, labels.dense_visibility, settings.dense_kind, settings.dense_delta
        )
    if name == "invisible":
        return invisible_term(prediction.dense, labels.dense_visibility)
    if name == "centre":
        flows, weight = centre_targets(labels)
        return centre_term(prediction.dense.centre_flow, flows, weight, settings.centre_kind, settings.centre_delta)
    raise ValueError(f"no loss term is called {name!r}")
