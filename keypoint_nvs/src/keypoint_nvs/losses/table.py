"""All terms of the keypoint pass by name, and what is measured besides.

Every term and measure is a mean within each object first, and then counts objects: how many points an object has that
count depends on the prediction, but how many objects there are is known before. So an accumulated or distributed step
equals the step on the whole batch.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from keypoint_nvs.losses.equivariance import equivariance_errors
from keypoint_nvs.losses.foreground import foreground
from keypoint_nvs.losses.multiview import (
    PointsOfMaps,
    multiview_heatmap,
    multiview_point,
    points_of_maps,
    positions_of_maps,
)
from keypoint_nvs.losses.settings import KeypointLossSettings, MultiviewSettings
from keypoint_nvs.losses.sharpening import sharpening_errors
from keypoint_nvs.losses.spread import safe_length, spread, spread_3d
from keypoint_nvs.losses.temporal import follows_previous, temporal_errors
from keypoint_nvs.losses.view_cameras import ViewCameras
from keypoint_nvs.model.records import KeypointOutput
from posecore.losses import Term

RAMPED = ("point", "spread")
"""Terms whose weight grows over the ramp; localisation's own mixture does it for the heat maps."""
KEYPOINT_TERMS = ("localisation", "equivariance", "point", "spread", "foreground", "temporal")
REPORT_PX = 320
"""Reprojection errors are told in pixels of views of this side."""

Terms = dict[str, Term]


def keypoint_terms(
    output: KeypointOutput,
    cameras: ViewCameras | None,
    alpha: Float[Tensor, "b v h w"] | None,
    settings: KeypointLossSettings,
    ramp: float,
    names: Collection[str],
    *,
    sample_ids: Sequence[str] | None = None,
    frames: int | None = None,
) -> tuple[Terms, Terms]:
    """The named terms and what is logged beside them, in float32.

    Args:
        cameras: Of the views of `output`; needed where settings have multiview, None without.
        alpha: Of the same views, in any size; for `foreground`.
        ramp: 0..1, how much the multi-view terms count by now (`settings.ramp_at`). At 0 they are not computed. It
            mixes localisation's two parts here; the weights of `point` and `spread` are the caller's (`ramped`).
        names: Those with a weight; names of other passes are passed over.
        sample_ids, frames: For `temporal`, see `follows_previous`.

    Returns:
        Terms, and measures: `sharpening` and `peak` of the maps; with cameras also `heatmap`, `reprojection_px` (of views
        320 wide; all tokens and the views that are heard), `counted` (share of points) and `spread_3d`.

    Raises:
        ValueError: Something that a term needs is missing.
    """
    multiview = settings.multiview
    if (multiview is None) != (cameras is None):
        raise ValueError("multi-view terms need both their settings and cameras; one of them is None")
    maps = output.maps
    with torch.autocast(device_type=maps.device.type, enabled=False):
        sharp = sharpening_errors(maps, settings.sigma, settings.subjects)
        errors: dict[str, Tensor] = {}
        measures = {"sharpening": sharp.mean((1, 2)), "peak": maps.amax((-2, -1)).mean((1, 2))}
        localisation = sharp
        if multiview is not None and cameras is not None:
            points = _points(maps, cameras, multiview, needs_gradient=ramp > 0 and bool(set(RAMPED) & set(names)))
            share = multiview.heat_share * ramp
            heat, has_target = _heat(maps if share > 0 else maps.detach(), points, settings.sigma)
            localisation = torch.where(has_target, (1 - share) * sharp + share * heat, sharp) if share > 0 else sharp
            measures |= {"heatmap": _masked_mean(heat, has_target)} | _point_measures(points, maps.shape[-1])
            if ramp > 0:
                errors |= _point_errors(points, multiview, maps.shape[-1], names)
        errors["localisation"] = localisation.mean((1, 2))
        if "equivariance" in names:
            errors["equivariance"] = _equivariance(output, settings.mask_outside)
        if "foreground" in names:
            errors["foreground"] = _foreground(maps, alpha, multiview or MultiviewSettings())
        if "temporal" in names:
            errors["temporal"] = _temporal(output, sample_ids, frames, settings)
        return (
            {name: _term(errors[name]) for name in KEYPOINT_TERMS if name in errors and name in names},
            {name: _term(values.detach()) for name, values in measures.items()},
        )


def ramped(weights: Mapping[str, float], ramp: float) -> dict[str, float]:
    """Weights with the ramp on those terms that it holds back."""
    return {name: weight * (ramp if name in RAMPED else 1.0) for name, weight in weights.items()}


def _term(per_object: Tensor) -> Term:
    return Term(per_object.sum(), per_object.new_tensor(float(len(per_object))))


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Of each object (b ...) -> (b); 0 where nothing is in the mask."""
    kept = torch.where(mask, values, 0).flatten(1).sum(1)
    return kept / mask.flatten(1).sum(1).clamp_min(1)


def _points(maps: Tensor, cameras: ViewCameras, settings: MultiviewSettings, needs_gradient: bool) -> PointsOfMaps:
    with torch.set_grad_enabled(needs_gradient and torch.is_grad_enabled()):
        return points_of_maps(maps, cameras, settings)


def _heat(maps: Tensor, points: PointsOfMaps, sigma: float) -> tuple[Tensor, Tensor]:
    """Errors (b v k), and which of them have a target: a point that counts, before a known camera.

    Hidden and mirrored views have one too: it is where their map should be. The others keep their own peak as target.
    """
    return multiview_heatmap(maps, points.projected_px, sigma), points.counted[:, None] & points.in_front


def _point_errors(
    points: PointsOfMaps, settings: MultiviewSettings, side: int, names: Collection[str]
) -> dict[str, Tensor]:
    """Mean over the points of an object that count; `point` in widths of a view."""
    errors = {}
    if "point" in names:
        places = (points.projected_px.transpose(1, 2) / side, points.positions_px.transpose(1, 2) / side)
        per_point = multiview_point(*places, points.weights.transpose(1, 2), settings.robust_width)
        errors["point"] = _masked_mean(per_point, points.counted)
    if "spread" in names:
        errors["spread"] = spread(points.points, settings.least_distance, points.counted)
    return errors


@torch.no_grad()
def _point_measures(points: PointsOfMaps, side: int) -> dict[str, Tensor]:
    errors = safe_length(points.projected_px - points.positions_px) * REPORT_PX / side
    return {
        "reprojection_px": _masked_mean(errors, points.heard & points.in_front),
        "counted": points.counted.to(errors).mean(1),
        "spread_3d": spread_3d(points.points, points.counted),
    }


def _equivariance(output: KeypointOutput, mask_outside: bool) -> Tensor:
    objects, views = output.maps.shape[:2]
    maps, warped_maps, theta = (values.flatten(0, 1) for values in (output.maps, output.warped_maps, output.theta))
    return equivariance_errors(maps, warped_maps, theta, mask_outside).reshape(objects, views).mean(1)


def _foreground(maps: Tensor, alpha: Tensor | None, settings: MultiviewSettings) -> Tensor:
    if alpha is None:
        raise ValueError("the term foreground needs alpha, which these data do not have")
    side = maps.shape[-1]
    positions = positions_of_maps(maps, settings.radius_px(side)).flatten(0, 1)
    return foreground(positions, alpha.flatten(0, 1), side).reshape(len(maps), -1).mean(1)


def _temporal(
    output: KeypointOutput, sample_ids: Sequence[str] | None, frames: int | None, settings: KeypointLossSettings
) -> Tensor:
    if sample_ids is None:
        raise ValueError("the term temporal needs the samples' ids")
    follows = torch.tensor(follows_previous(sample_ids, frames), device=output.maps.device)
    return temporal_errors(output.maps, output.selected, follows, settings.temporal_kind)
