"""Keypoints in the true views of held-out objects: do they follow a warp, mark one point in space, and tell the parts?"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from keypoint_nvs.affine import warp
from keypoint_nvs.held_out import held_out_batches
from keypoint_nvs.loading import LoadedNetwork
from keypoint_nvs.metrics.consistency import Consistency, consistency
from keypoint_nvs.metrics.keypoints import REPORT_PX, equivariance_errors_px320, token_stability
from keypoint_nvs.metrics.regression import regression_errors, regression_errors_3d
from keypoint_nvs.model.keypoint_model import KeypointModel
from keypoint_nvs.model.system import KeypointNvsNetwork
from keypoint_nvs.predictor import Predictor
from keypoint_nvs.selection import map_entropy
from posecore.cameras import project, transform
from posecore.errors import InputError
from posecore.training import SampleSource

SEED = 0


@dataclass(frozen=True)
class FoundKeypoints:
    """In v views of n objects."""

    views: Float[Tensor, "n v 3 h w"]
    xy_px: Float[Tensor, "n v k 2"]
    confidence: Float[Tensor, "n v k"]
    """Height of the maps."""
    entropy: Float[Tensor, "n v k"]
    """Of the softmax over the maps' pixels, in nats."""
    cam_from_world: Float[Tensor, "n v 4 4"] | None
    K: Float[Tensor, "n v 3 3"] | None
    truth_px: Float[Tensor, "n v j 2"] | None
    """Ground truth, projected."""
    visible: Bool[Tensor, "n v j"] | None
    truth_world: Float[Tensor, "n j 3"] | None


@dataclass(frozen=True)
class KeypointReport:
    """Of one set of tokens on held-out objects."""

    found: FoundKeypoints
    consistency: Consistency | None
    """None: the views have no cameras."""
    numbers: dict[str, float]

    def summary(self) -> dict[str, float]:
        """All numbers; px are those of views 320 wide."""
        return self.numbers


def measure_keypoints(predictor: Predictor, held_out: SampleSource, training: SampleSource) -> KeypointReport:
    """Find the kept tokens in the stored views of all objects.

    Args:
        training: Objects on which the regression to ground truth is fitted, where there is any.
    """
    found = find_keypoints(predictor, held_out)
    numbers = _equivariance(predictor, held_out, found) | _stability(predictor, held_out)
    numbers |= {"mean_confidence": float(found.confidence.mean()), "mean_entropy": float(found.entropy.mean())}
    agreement = None
    if found.cam_from_world is not None and found.K is not None:
        agreement = _agreement(predictor, found)
        numbers |= agreement.summary()
    if found.truth_px is not None:
        fitted = find_keypoints(predictor, training)
        numbers |= _regression(fitted, found)
        if agreement is not None and fitted.truth_world is not None and found.truth_world is not None:
            points = (_agreement(predictor, fitted), agreement)
            numbers |= _regression_3d(*points, fitted.truth_world, found.truth_world)
    return KeypointReport(found, agreement, numbers)


def _agreement(predictor: Predictor, found: FoundKeypoints) -> Consistency:
    assert found.K is not None
    assert found.cam_from_world is not None
    return consistency(
        found.xy_px,
        found.confidence,
        found.K,
        found.cam_from_world,
        found.views.shape[-1],
        predictor.inference.triangulation_width,
        predictor.inference.min_confidence,
    )


def find_keypoints(predictor: Predictor, source: SampleSource) -> FoundKeypoints:
    """In the stored views."""
    columns: dict[str, list[Any]] = {}
    for batch in held_out_batches(source, predictor.loaded.config.data, 16):
        stored = batch.stored
        results = list(predictor.batches(batch.target_imgs.flatten(0, 1)))
        shape = batch.target_imgs.shape[:2]
        row = {
            "views": batch.target_imgs,
            "xy_px": torch.cat([r.xy_px.cpu() for r in results]).reshape(*shape, -1, 2),
            "confidence": torch.cat([r.confidence.cpu() for r in results]).reshape(*shape, -1),
            "entropy": torch.cat([map_entropy(r.maps).cpu() for r in results]).reshape(*shape, -1),
            "cam_from_world": stored.target_cam_from_world,
            "K": stored.target_K,
            "truth_world": stored.keypoints_world,
            "visible": None if stored.keypoints_visible is None else stored.keypoints_visible[:, 1:],
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    joined = {name: None if values[0] is None else torch.cat(values) for name, values in columns.items()}
    truth_px = None
    world, cameras, K = joined["truth_world"], joined["cam_from_world"], joined["K"]
    if world is not None and cameras is not None and K is not None:
        truth_px, _ = project(transform(cameras, world[:, None]), K)
    return FoundKeypoints(truth_px=truth_px, **joined)  # type: ignore[arg-type]


def untrained_tokens(predictor: Predictor, training: SampleSource) -> Predictor:
    """The same networks with random tokens, of which those are kept that training samples choose most often."""
    loaded = predictor.loaded
    model = loaded.network.keypoints
    assert model is not None
    generator = torch.Generator().manual_seed(SEED)
    tokens = torch.randn(model.tokens.shape, generator=generator)
    fresh = _with_tokens(model, nn.Parameter(tokens.to(model.tokens), requires_grad=False))
    other = KeypointNvsNetwork(zero123=loaded.network.zero123, keypoints=fresh)
    beside = Predictor(replace(loaded, network=other), predictor.inference)
    beside.use_tokens(_voted(fresh, training, loaded))
    return beside


def _with_tokens(model: KeypointModel, tokens: nn.Parameter) -> KeypointModel:
    """A model that shares everything with another but its tokens."""
    fresh = object.__new__(KeypointModel)
    fresh.__dict__ = dict(model.__dict__)
    fresh._parameters = {**model._parameters, "tokens": tokens}
    return fresh


def _voted(model: KeypointModel, training: SampleSource, loaded: LoadedNetwork) -> Int64[Tensor, " k"]:
    votes = torch.zeros(model.tokens.shape[1])
    for batch in held_out_batches(training, loaded.config.data, 8):
        chosen = model.choose(batch.target_imgs.to(loaded.device), batch.stored.seed.to(loaded.device)).cpu()
        votes += torch.bincount(chosen.flatten(), minlength=len(votes))
    return votes.argsort(descending=True, stable=True)[: model.choice.num_keypoints]


def _equivariance(predictor: Predictor, source: SampleSource, found: FoundKeypoints) -> dict[str, float]:
    """Median distance between where a keypoint should be in a warped view and where it is found."""
    model = predictor.loaded.network.keypoints
    assert model is not None
    views = found.views.flatten(0, 1)
    seeds = torch.arange(len(views))
    theta = model.warps.draw(seeds, 1)[:, 0]
    results = list(predictor.batches(warp(views, theta)))
    warped = torch.cat([r.xy_px.cpu() for r in results])
    errors = equivariance_errors_px320(found.xy_px.flatten(0, 1), warped, theta, views.shape[-1])
    return {"equivariance_median_px320": float(errors.nanmedian()), "equivariance_mean_px320": float(errors.nanmean())}


def _stability(predictor: Predictor, source: SampleSource) -> dict[str, float]:
    """How often the kept tokens are those that an object would choose for itself."""
    model, device = predictor.loaded.network.keypoints, predictor.device
    assert model is not None
    chosen = [
        model.choose(batch.target_imgs.to(device), batch.stored.seed.to(device)).cpu()
        for batch in held_out_batches(source, predictor.loaded.config.data, 8)
    ]
    return {"token_stability": float(token_stability(torch.cat(chosen), predictor.tokens.cpu()))}


def _regression(training: FoundKeypoints, held_out: FoundKeypoints) -> dict[str, float]:
    """Linear, from tokens to ground truth in the same view (px at 320), and from triangulated tokens to points in space."""
    if training.truth_px is None or training.visible is None:
        raise InputError("--train-data: has no keypoints, but --data has; regression needs them in both")
    assert held_out.truth_px is not None
    assert held_out.visible is not None
    scale = 1 / held_out.views.shape[-1]

    def unit(px: Tensor) -> np.ndarray:
        return ((px.flatten(0, 1).double() + 0.5) * scale).numpy()

    errors = regression_errors(
        unit(training.xy_px),
        unit(training.truth_px),
        unit(held_out.xy_px),
        unit(held_out.truth_px),
        training.visible.flatten(0, 1).numpy(),
        held_out.visible.flatten(0, 1).numpy(),
    )
    return {f"regression_{name}_px320": value * REPORT_PX for name, value in errors.items()}


def _regression_3d(
    training: Consistency, held_out: Consistency, truth_train: Tensor, truth_test: Tensor
) -> dict[str, float]:
    """Linear, from triangulated tokens to ground truth in space (the world's unit).

    A point on which the views do not agree lies anywhere; the token's mean place in the training objects stands for it.
    """
    counted = training.counted[..., None]
    mean = torch.where(counted, training.points_world, 0).sum(0) / counted.sum(0).clamp_min(1)

    def filled(points: Consistency) -> np.ndarray:
        return torch.where(points.counted[..., None], points.points_world, mean).numpy()

    errors = regression_errors_3d(filled(training), truth_train.numpy(), filled(held_out), truth_test.numpy())
    return {f"regression_3d_{name}": value for name, value in errors.items()}
