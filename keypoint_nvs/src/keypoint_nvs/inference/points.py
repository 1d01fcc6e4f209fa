"""Keypoints of an object's views as points in space."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from keypoint_nvs.triangulate import robust_points, view_weights


@dataclass(frozen=True)
class Points:
    """Of k keypoints in v views."""

    points_world: Float[Tensor, "*batch k 3"]
    counted: Bool[Tensor, "*batch k"]
    """Enough views agree, from directions that differ enough."""
    errors_px: Float[Tensor, "*batch v k"]
    """Distances of the projected points from the keypoints."""
    weights: Float[Tensor, "*batch v k"]
    """0: the view was not heard."""


@torch.no_grad()
def points_of_views(
    xy_px: Float[Tensor, "*batch v k 2"],
    confidence: Float[Tensor, "*batch v k"],
    K: Float[Tensor, "*batch v 3 3"],
    cam_from_world: Float[Tensor, "*batch v 4 4"],
    width_px: int,
    *,
    robust_width: float = 0.03,
    min_confidence: float = 0.1,
) -> Points:
    """Triangulate robustly, in float64; views whose keypoint is not confident are not heard."""
    weights = view_weights(confidence.double(), min_confidence)
    found = robust_points(xy_px.double(), K.double(), cam_from_world.double(), weights, width_px, robust_width)
    return Points(found.points, found.counted, found.errors_px, found.weights)
