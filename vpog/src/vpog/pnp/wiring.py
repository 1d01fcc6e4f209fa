"""From matched patches to the correspondences of a pose solver, for a whole batch at once."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vpog.model.prediction import DenseMatches
from vpog.pnp.records import Correspondences
from vpog.pnp.settings import WiringSettings


@dataclass(frozen=True)
class TemplateGeometry:
    """What is known of the templates exactly."""

    depth_mm: Float[Tensor, "b s h w"]
    """0 outside the object."""
    K: Float[Tensor, "b s 3 3"]
    cam_from_obj_mm: Float[Tensor, "b s 4 4"]


def matched_correspondences(
    pairs: Int64[Tensor, "m 4"],
    dense: DenseMatches,
    pair_scores: Float[Tensor, " m"],
    templates: TemplateGeometry,
    query_K: Float[Tensor, "b 3 3"],
    unit_mm: Float[Tensor, " b"],
    pnp_scale: Float[Tensor, "b 2"],
    settings: WiringSettings,
) -> Correspondences:
    """Points of the object from templates' depth, pixels of the query from the flow, weights from its scale.

    Weights are the softmax of log w over an object's points (or w itself, see the settings), times `pnp_scale`. Of each
    object the patches with the highest score are taken, and of each patch every `stride`-th pixel. Pixels without depth
    are padding.

    Args:
        pairs: Sample, template, query patch, template patch, in any order.
        pair_scores: Which pairs matter most where there are more than fit.
        unit_mm: Of the points: each object's diameter.
    """
    b, size = len(query_K), dense.flow.shape[1]
    capacity = patches_per_object(size, settings)
    slot = _slots(pairs[:, 0], pair_scores, b, capacity)
    offsets = torch.arange(settings.stride // 2, size, settings.stride, device=pairs.device)
    flow, confidence = (values[:, offsets][:, :, offsets].flatten(1, 2) for values in (dense.flow, dense.weight))
    points, has_depth = _template_points(pairs, templates, size, offsets)
    points = points / unit_mm[pairs[:, 0], None, None]
    columns = templates.depth_mm.shape[-1] // size
    pixels = patch_centres(pairs[:, 2], columns, size)[:, None] + size * flow
    is_point = has_depth & ~(confidence < settings.min_weight)  # one that is not a number must show
    log_weight = torch.where(is_point, torch.where(is_point, confidence, 1.0).log(), -torch.inf)[..., None]
    points, pixels = (
        _into_slots(values, slot, b * capacity).reshape(b, -1, values.shape[-1]) for values in (points, pixels)
    )
    log_weight = _into_slots(log_weight, slot, b * capacity, -torch.inf).reshape(b, -1)
    weights = _shares(log_weight) if settings.normalised else log_weight.exp()
    return Correspondences(points, pixels, weights[..., None] * pnp_scale[:, None], query_K)


def patches_per_object(patch_size: int, settings: WiringSettings) -> int:
    """How many pairs fit; at least one.

    Raises:
        ValueError: A patch has more points than an object may have, or the stride skips all of them.
    """
    per_patch = len(range(settings.stride // 2, patch_size, settings.stride)) ** 2
    if per_patch == 0 or per_patch > settings.max_points:
        raise ValueError(
            f"pnp.wiring.stride {settings.stride} gives {per_patch} points of a patch of {patch_size} px; "
            f"pnp.wiring.max_points {settings.max_points} must hold at least one patch"
        )
    return settings.max_points // per_patch


def patch_centres(patch: Int64[Tensor, " m"], columns: int, size: int) -> Float[Tensor, "m 2"]:
    """Pixels (x, y) of c(n) = (col ps + ps // 2, row ps + ps // 2)."""
    return torch.stack([patch % columns, patch // columns], -1).float() * size + size // 2


def _slots(sample: Tensor, scores: Tensor, num_samples: int, capacity: int) -> Int64[Tensor, " m"]:
    """Place of each pair among `capacity` of its sample, best first; one past the last for those that do not fit."""
    by_score = scores.detach().argsort(descending=True, stable=True)
    order = by_score[sample[by_score].argsort(stable=True)]
    ordered = sample[order]
    first = torch.searchsorted(ordered, torch.arange(num_samples, device=sample.device))
    rank = torch.empty_like(sample)
    rank[order] = torch.arange(len(sample), device=sample.device) - first[ordered]
    return torch.where(rank < capacity, sample * capacity + rank, num_samples * capacity)


def _into_slots(values: Tensor, slot: Tensor, count: int, fill: float = 0.0) -> Tensor:
    """The pairs' values in their slots; what does not fit lands in an extra slot that is cut off."""
    slots = torch.full((count + 1, *values.shape[1:]), fill, dtype=values.dtype, device=values.device)
    return slots.index_put((slot,), values)[:count]


def _template_points(
    pairs: Tensor, templates: TemplateGeometry, size: int, offsets: Tensor
) -> tuple[Float[Tensor, "m k 3"], Tensor]:
    """Points of the object (mm) at pixels of the template patches, row by row, and where there is depth."""
    sample, template, cell = pairs[:, 0], pairs[:, 1], pairs[:, 3]
    columns = templates.depth_mm.shape[-1] // size
    rows = ((cell // columns * size)[:, None] + offsets)[:, :, None].expand(-1, -1, len(offsets)).flatten(1)
    cols = ((cell % columns * size)[:, None] + offsets)[:, None, :].expand(-1, len(offsets), -1).flatten(1)
    depth = templates.depth_mm[sample[:, None], template[:, None], rows, cols]
    K, pose = templates.K[sample, template], templates.cam_from_obj_mm[sample, template]
    rays, _ = torch.linalg.solve_ex(K, torch.stack([cols.to(K), rows.to(K), torch.ones_like(cols).to(K)], 1))
    points_cam = (rays * depth[:, None]).mT - pose[:, None, :3, 3]
    return points_cam @ pose[:, :3, :3], depth > 0


def _shares(log_weight: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Softmax over the points, of which padding is -inf; all 0 where an object has none."""
    has_points = (log_weight > -torch.inf).any(-1, keepdim=True)
    return torch.where(has_points, torch.where(has_points, log_weight, 0).softmax(-1), 0)
