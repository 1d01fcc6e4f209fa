"""Errors of single elements; how they are averaged is the terms' matter."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Norm = Literal["l1", "l2"]

UPSTREAM_EPSILON = 1e-9
MIN_DEPTH_MM = 1.0
"""Points nearer to the camera project as if they were here."""


def elementwise(difference: Float[Tensor, "*shape"], norm: Norm) -> Float[Tensor, "*shape"]:
    return difference.abs() if norm == "l1" else difference.square()


def robust_l1(difference: Float[Tensor, "*shape"], delta: float) -> Float[Tensor, "*shape"]:
    """|x| below delta, else delta (1 + ln(1 + (|x| - delta) / delta)). Its gradient at 0 is 0."""
    size = difference.abs()
    excess = (size - delta).clamp_min(0)  # inside the logarithm: the unused branch of `where` must be finite too
    return torch.where(size <= delta, size, delta * (1 + torch.log1p(excess / delta)))


def nearest_axis_angle(
    target: Float[Tensor, "*batch 3"], prediction: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3"]:
    """The target's rotation written as the vector nearest to the prediction: its angle changes by full turns.

    Convention: target (0, 0, 3.1) and prediction (0, 0, -3.1) give (0, 0, -3.183), 0.083 away instead of 6.2.
    The target moves and not the prediction, so that the gradient is that of a plain difference.
    """
    with torch.no_grad():
        angle = torch.linalg.vector_norm(target, dim=-1, keepdim=True)
        axis = torch.where(angle > 0, target / torch.where(angle > 0, angle, 1), 0)
        along = (prediction * axis).sum(-1, keepdim=True)
        turns = torch.round((along - angle) / (2 * math.pi))
        return target + 2 * math.pi * turns * axis


def heatmap_cross_entropy(
    log_probabilities: Float[Tensor, "*batch n"],
    centers: Float[Tensor, " n"],
    target: Float[Tensor, "*batch"],
    sigma: float,
    kind: Literal["normalised", "upstream"] = "normalised",
) -> Float[Tensor, "*batch"]:
    """-sum q log p, with q = exp(-(c - g)^2 / (2 sigma^2)) normalised over the bins.

    `normalised`: q sums to 1 for every target; one outside of the bins is taken to their end. `upstream` divides by the
    sum + 1e-9, so that q vanishes, and with it what is learned, between coarse bins and outside of them.
    """
    exponent = -((centers - _into(target, centers, kind)[..., None]) ** 2) / (2 * sigma**2)
    return -(_normalised(exponent, kind, 1) * log_probabilities).sum(-1)


def heatmap_cross_entropy_2d(
    log_probabilities: Float[Tensor, "*batch rows columns"],
    centers_x: Float[Tensor, " columns"],
    centers_y: Float[Tensor, " rows"],
    target_xy: Float[Tensor, "*batch 2"],
    sigma: float,
    kind: Literal["normalised", "upstream"] = "normalised",
) -> Float[Tensor, "*batch"]:
    """The same over a picture: rows y, columns x; sigma, centres and target in one unit."""
    across = (centers_x - _into(target_xy[..., 0], centers_x, kind)[..., None]) ** 2
    down = (centers_y - _into(target_xy[..., 1], centers_y, kind)[..., None]) ** 2
    exponent = -(across[..., None, :] + down[..., :, None]) / (2 * sigma**2)
    return -(_normalised(exponent, kind, 2) * log_probabilities).sum((-2, -1))


def project_mm(
    points_mm: Float[Tensor, "*batch n 3"], focal: Float[Tensor, "*batch 2"], princpt: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch n 2"]:
    """Pixels; depths below MIN_DEPTH_MM (also behind the camera) count as MIN_DEPTH_MM."""
    depth = points_mm[..., 2:].clamp_min(MIN_DEPTH_MM)
    return points_mm[..., :2] / depth * focal[..., None, :] + princpt[..., None, :]


def image_to_patch(
    points_px: Float[Tensor, "*batch n 2"], patch_bbox: Float[Tensor, "*batch 4"], patch_size: int
) -> Float[Tensor, "*batch n 2"]:
    """Pixels of the network's image to pixels of the patch; both have their centres at integers."""
    corner, opposite = patch_bbox[..., None, :2], patch_bbox[..., None, 2:]
    return (points_px - corner) * (patch_size / (opposite - corner)) - 0.5


def _into(target: Tensor, centers: Tensor, kind: str) -> Tensor:
    if kind == "upstream":
        return target
    return torch.minimum(torch.maximum(target, centers.min()), centers.max())


def _normalised(exponent: Tensor, kind: str, axes: int) -> Tensor:
    if kind == "normalised":
        flat = exponent.flatten(-axes).softmax(-1)
        return flat.reshape(exponent.shape)
    weights = exponent.exp()
    return weights / (weights.sum(tuple(range(-axes, 0)), keepdim=True) + UPSTREAM_EPSILON)
