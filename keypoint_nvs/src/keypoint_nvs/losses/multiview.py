"""A token marks the same point in space in all views (spec 8)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from keypoint_nvs.coordinates import rc_unit_from_xy_px, xy_px_from_rc_unit
from keypoint_nvs.gaussians import gaussian_maps
from keypoint_nvs.losses.settings import MultiviewSettings
from keypoint_nvs.losses.spread import safe_length
from keypoint_nvs.losses.view_cameras import ViewCameras
from keypoint_nvs.peaks import local_soft_argmax
from keypoint_nvs.triangulate import robust_points, view_weights
from posecore.cameras import MIN_DEPTH, transform


def multiview_point(
    projected_px: Float[Tensor, "*batch v 2"],
    observed_px: Float[Tensor, "*batch v 2"],
    weights: Float[Tensor, "*batch v"],
    width: float,
) -> Float[Tensor, "*batch"]:
    """Weighed mean over the views of Huber's function of the distance: e^2 / (2 width) up to `width`, then e - width / 2.

    All three lengths in one unit, which is also that of the result. 0 where no view has weight.
    """
    difference = projected_px - observed_px
    squares, lengths = difference.square().sum(-1), safe_length(difference)
    errors = torch.where(squares <= width**2, squares / (2 * width), lengths - width / 2)
    total = weights.sum(-1)
    has_weight = total > 0
    return torch.where(has_weight, (weights * errors).sum(-1) / torch.where(has_weight, total, 1), 0)


def multiview_heatmap(
    maps: Float[Tensor, "*batch h w"], projected_px: Float[Tensor, "*batch 2"], sigma: float
) -> Float[Tensor, "*batch"]:
    """Mean over pixels of (map - Gaussian at the projected point)^2; the point gets no gradient.

    A point beyond the frame leaves the tail of its Gaussian as the target.
    """
    size = (maps.shape[-2], maps.shape[-1])
    target = gaussian_maps(rc_unit_from_xy_px(projected_px.detach(), size), size, sigma)
    return (maps - target).square().mean((-2, -1))


@dataclass(frozen=True)
class PointsOfMaps:
    """The points in space that maps of all views agree on best."""

    positions_px: Float[Tensor, "b v k 2"]
    """Where each map is high, (x, y) in pixels of the map; with gradient."""
    points: Float[Tensor, "b k 3"]
    """In the rig's unit; with gradient."""
    counted: Bool[Tensor, "b k"]
    """Enough views agree, from directions that differ enough."""
    heard: Bool[Tensor, "b v k"]
    """Views that triangulate: camera known, peak not far below that of the token's best view."""
    weights: Float[Tensor, "b v k"]
    """After the robust rounds; no gradient."""
    projected_px: Float[Tensor, "b v k 2"]
    in_front: Bool[Tensor, "b v k"]
    """The view's camera is known and the point is before it; elsewhere its pixel means nothing."""


def positions_of_maps(maps: Float[Tensor, "*batch h w"], radius_px: float) -> Float[Tensor, "*batch 2"]:
    """(x, y) in pixels: centre of the squared map around its peak. A map of zeros is taken for a flat one."""
    is_empty = maps.detach().amax((-2, -1), keepdim=True) <= 0
    return xy_px_from_rc_unit(
        local_soft_argmax(torch.where(is_empty, 1, maps), radius_px), (maps.shape[-2], maps.shape[-1])
    )


def points_of_maps(maps: Float[Tensor, "b v k r r"], cameras: ViewCameras, settings: MultiviewSettings) -> PointsOfMaps:
    """Triangulate each token from the places where its maps are high, weighed by how high they are."""
    side = maps.shape[-1]
    positions = positions_of_maps(maps, settings.radius_px(side))
    confidence = view_weights(maps.detach().amax((-2, -1)) * cameras.known[..., None], settings.min_confidence)
    found = robust_points(
        positions,
        cameras.K,
        cameras.cam_from_world,
        confidence,
        width_px=float(side),
        robust_width=settings.robust_width,
        rounds=settings.rounds,
        min_views=settings.min_views,
        min_angle=settings.min_angle,
    )
    depth = transform(cameras.cam_from_world, found.points.detach()[:, None])[..., 2]
    return PointsOfMaps(
        positions_px=positions,
        points=found.points,
        counted=found.counted,
        heard=confidence > 0,
        weights=found.weights,
        projected_px=found.projected_px,
        in_front=(depth > MIN_DEPTH) & cameras.known[..., None],
    )
