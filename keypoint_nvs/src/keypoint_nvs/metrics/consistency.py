"""Does a keypoint mark one point in space in all views of an object? Reprojection errors, in px of views 320 wide.

A training learns from the nearest point of the rays (`triangulate.robust_points`); what is reported is the point with the
least squared error in the pictures (`posecore.cameras.triangulate`) of the views which that one trusts.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from keypoint_nvs.metrics.keypoints import REPORT_PX
from keypoint_nvs.triangulate import robust_points, view_weights
from posecore.cameras import project, transform, triangulate

GOAL_PX320 = 5.0
"""Upstream's goal for the error."""
MIN_VIEWS = 3
"""Two views agree about nearly anything."""


@dataclass(frozen=True)
class Consistency:
    """Of k keypoints in v views of b objects."""

    points_world: Float[Tensor, "b k 3"]
    """In the world's unit."""
    counted: Bool[Tensor, "b k"]
    """Three views or more agree about the point, along rays that differ enough in direction."""
    errors_px320: Float[Tensor, "b v k"]
    """From the projected point to the keypoint, for every view that is confident, those that were not trusted included;
    nan where the view is not confident, the point has fewer than three confident views, or it lies behind the camera."""
    weights: Float[Tensor, "b v k"]
    """How far each view was trusted, in the unit of its confidence."""

    def summary(self) -> dict[str, float]:
        """Over all objects; nan where there is nothing to average.

        `spread3d` is the mean distance between two counted points of one object, in the world's unit: it tells points that
        agree because they all lie in one place.
        """
        errors = self.errors_px320[~self.errors_px320.isnan()]
        return {
            "median_px320": float(errors.nanmedian()),
            "mean_px320": float(errors.mean()),
            "share_below_5px": float((errors < GOAL_PX320).double().mean()),
            "counted_share": float(self.counted.double().mean()),
            "spread3d": float(mean_spread(self.points_world, self.counted).nanmean()),
        }


@torch.no_grad()
def consistency(
    xy_px: Float[Tensor, "b v k 2"],
    confidence: Float[Tensor, "b v k"],
    K: Float[Tensor, "b v 3 3"],
    cam_from_world: Float[Tensor, "b v 4 4"],
    width_px: float,
    robust_width: float = 0.03,
    min_confidence: float = 0.1,
) -> Consistency:
    """Triangulate each keypoint and compare with where the views see it; in float64.

    Args:
        xy_px: Keypoints in pixels of views `width_px` wide, to which K belongs too.
        confidence: Heights of the maps at the keypoints.
        K: Intrinsics.
        cam_from_world: OpenCV.
        width_px: Of the views.
        robust_width: Error, in widths, at which a view has half its weight.
        min_confidence: Views below this share of the keypoint's best view are not heard.
    """
    seen, cameras, K = xy_px.double(), cam_from_world.double(), K.double()
    heard = view_weights(confidence.double(), min_confidence)
    trusted = robust_points(seen, K, cameras, heard, width_px, robust_width)
    solved, solvable = triangulate(seen, K @ cameras[..., :3, :], trusted.weights)
    points = torch.where(solvable[..., None], solved, trusted.points)
    projected, in_front = project(transform(cameras, points[:, None]), K)
    errors = torch.linalg.vector_norm(projected - seen, dim=-1) * (REPORT_PX / width_px)
    confident = heard > 0
    measured = confident & in_front & (confident.sum(1, keepdim=True) >= MIN_VIEWS)
    return Consistency(points, trusted.counted & solvable, torch.where(measured, errors, torch.nan), trusted.weights)


def mean_spread(points: Float[Tensor, "b k 3"], counted: Bool[Tensor, "b k"]) -> Float[Tensor, " b"]:
    """Mean distance between two counted points of each object; nan where fewer than two count."""
    apart = torch.linalg.vector_norm(points[:, :, None] - points[:, None], dim=-1)
    both = counted[:, :, None] & counted[:, None]
    both = both & ~torch.eye(points.shape[1], dtype=torch.bool, device=points.device)
    return torch.where(both, apart, 0).sum((1, 2)) / both.sum((1, 2))
