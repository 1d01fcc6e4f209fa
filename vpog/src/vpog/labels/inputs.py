"""Tensors of a batch as surfaces, checked."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vpog.labels.checks import check_surfaces
from vpog.labels.rules import LabelRules
from vpog.labels.surfaces import Surfaces


def checked_surfaces(
    query_depth_mm: Float[Tensor, "b h w"],
    query_mask: Bool[Tensor, "b h w"],
    query_K: Float[Tensor, "b 3 3"],
    query_cam_from_obj_mm: Float[Tensor, "b 4 4"],
    template_depth: Float[Tensor, "b s h w"],
    template_K: Float[Tensor, "b s 3 3"],
    template_cam_from_obj: Float[Tensor, "b s 4 4"],
    rules: LabelRules,
    diameter_mm: Float[Tensor, " b"] | None,
    sigma: float,
    names: Sequence[str] | None,
) -> tuple[Surfaces, Surfaces]:
    """Query and templates; arguments and errors as in `flow_labels`."""
    if not 0 < sigma < float("inf"):
        raise ValueError(f"sigma: {sigma} is no positive scale of the templates' mesh")
    tolerance_mm = torch.full_like(query_depth_mm[:, 0, 0], rules.tol_mm)
    if diameter_mm is not None:
        tolerance_mm = tolerance_mm.maximum(rules.tol_diameter * diameter_mm.to(tolerance_mm))
    template_tolerance = sigma * tolerance_mm
    if rules.tol_template_units is not None:
        template_tolerance = torch.full_like(tolerance_mm, rules.tol_template_units)
    seen_depth = query_depth_mm.masked_fill(~query_mask, 0)
    query = Surfaces(seen_depth[:, None], query_K[:, None], query_cam_from_obj_mm[:, None], 1.0, tolerance_mm)
    templates = Surfaces(template_depth, template_K, template_cam_from_obj, sigma, template_tolerance)
    check_surfaces(query, templates, query_mask, rules.patch_size, names)
    return query, templates
