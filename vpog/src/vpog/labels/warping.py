"""A template laid over the query by its labels: what shows at a glance whether labels are right."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from vpog.labels.dense_view import pixel_matches
from vpog.labels.records import FlowLabels


@dataclass(frozen=True)
class WarpedTemplate:
    """A template's pixels where they lie in the query."""

    rgb: UInt8[Tensor, "h w 3"]
    """Black where no pixel lies."""
    is_set: Bool[Tensor, "h w"]


def warp_template_to_query(
    template_rgb: UInt8[Tensor, "h w 3"], labels: FlowLabels, sample: int, template: int
) -> WarpedTemplate:
    """Move each visible pixel of the matched template patches to the nearest pixel of the query.

    Where the query shows the object larger than the template, pixels between stay empty; where several fall on one
    pixel, that of the lowest place in the template (row, then column) is taken.
    """
    height, width = template_rgb.shape[:2]
    matches = pixel_matches(labels, sample, template)
    column, row = torch.floor(matches.query_px + 0.5).long().unbind(-1)
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    target = (row * width + column)[inside]
    template_column, template_row = matches.template_px[inside].long().unbind(-1)
    source = torch.full((height * width,), -1, device=target.device, dtype=torch.int64)
    source.scatter_reduce_(0, target, template_row * width + template_column, "amax")
    is_set = source >= 0
    pixels = template_rgb.reshape(-1, 3)[source.clamp(min=0)]
    rgb = torch.where(is_set[:, None], pixels, 0).reshape(height, width, 3)
    return WarpedTemplate(rgb, is_set.reshape(height, width))
