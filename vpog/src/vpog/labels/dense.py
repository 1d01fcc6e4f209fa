"""Every pixel of a matched template patch followed to the query."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vpog.labels.rules import LabelRules
from vpog.labels.surfaces import PixelMap, Surfaces, dehomogenise, is_seen, look_up, pixel_map

PIXELS_AT_ONCE = 2**16
"""Pairs are worked on in pieces of so many pixels, which bounds what is needed beside the labels to about 100 MB."""


@dataclass(frozen=True)
class DenseFlows:
    """Of m pairs of a query patch and a template patch, in patches, order (x, y)."""

    flow: Float[Tensor, "m ps ps 2"]
    """Where each pixel of the template patch lies in the query, from the query patch's centre; 0 where not visible."""
    is_visible: Bool[Tensor, "m ps ps"]
    pixels_in_patch: Int64[Tensor, " m"]
    """How many pixels of the template patch are visible within the query patch."""


def dense_flows(query: Surfaces, templates: Surfaces, pairs: Int64[Tensor, "m 4"], rules: LabelRules) -> DenseFlows:
    """`pairs`: sample, template, query patch, template patch. Memory grows with the pairs, not with all patches."""
    size = rules.patch_size
    to_query = pixel_map(templates, query)
    flow = query.depth.new_zeros(len(pairs), size, size, 2)
    is_visible = torch.zeros(len(pairs), size, size, dtype=torch.bool, device=pairs.device)
    pixels_in_patch = torch.zeros_like(pairs[:, 0])
    step = max(1, PIXELS_AT_ONCE // size**2)
    for start in range(0, len(pairs), step):
        piece = slice(start, start + step)
        planes, visible = _flows_of(query, templates, to_query, pairs[piece], rules)
        flow[piece] = planes.permute(0, 2, 3, 1)
        is_visible[piece] = visible
        pixels_in_patch[piece] = (visible & (planes.abs().amax(1) <= 0.5)).sum((-2, -1))
    return DenseFlows(flow, is_visible, pixels_in_patch)


def _flows_of(
    query: Surfaces, templates: Surfaces, to_query: PixelMap, pairs: Int64[Tensor, "m 4"], rules: LabelRules
) -> tuple[Float[Tensor, "m 2 ps ps"], Bool[Tensor, "m ps ps"]]:
    """x and y apart: half the time of (x, y) side by side."""
    size = rules.patch_size
    height, width = size_hw = (query.depth.shape[-2], query.depth.shape[-1])
    sample, view, query_patch, template_patch = pairs.unbind(-1)
    depth = _patches_of(templates.depth, sample, view, template_patch, size).flatten(1)
    maps = to_query.of_pairs(sample, view)
    rays = _rays_of_patches(maps.ray_map, _corners(template_patch, width, size), size)
    landing = dehomogenise(rays.mul_(depth[:, None]).add_(maps.offset[..., None]))

    index, inside = look_up(landing, size_hw, rules.lookup)
    index += (sample * (height * width))[:, None]
    surface = query.depth.flatten().take(index)
    seen = is_seen(landing.depth, surface, query.tolerance[sample, None], rules.compute_visibility)
    visible = (depth > 0) & inside & seen
    x, y = (_corners(query_patch, width, size) + size // 2)[:, None].unbind(-1)
    planes = torch.stack((landing.x - x, landing.y - y), 1) * (visible[:, None] / size)
    return planes.reshape(-1, 2, size, size), visible.reshape(-1, size, size)


def _patches_of(
    pictures: Float[Tensor, "b v h w"],
    sample: Int64[Tensor, " m"],
    view: Int64[Tensor, " m"],
    patch: Int64[Tensor, " m"],
    size: int,
) -> Float[Tensor, "m ps ps"]:
    columns = pictures.shape[-1] // size
    grid = pictures.reshape(*pictures.shape[:2], -1, size, columns, size)  # (b v hp ps wp ps)
    return grid[sample, view, patch // columns, :, patch % columns]


def _corners(patch: Int64[Tensor, " m"], width: int, size: int) -> Int64[Tensor, "m 2"]:
    """(x, y) of each patch's first pixel."""
    columns = width // size
    return torch.stack((patch % columns, patch // columns), -1) * size


def _rays_of_patches(
    ray_map: Float[Tensor, "m 3 3"], corner: Int64[Tensor, "m 2"], size: int
) -> Float[Tensor, "m 3 pixels"]:
    """Added up in rows of a whole patch: twice as fast as the sum of a column and a row."""
    steps = torch.arange(size, device=corner.device).to(ray_map)
    y, x = (axis.reshape(-1) for axis in torch.meshgrid(steps, steps, indexing="ij"))
    along_x, along_y, one = ray_map.unbind(-1)
    at_corner = along_x * corner[:, :1] + along_y * corner[:, 1:] + one
    return (along_x[..., None] * x).addcmul_(along_y[..., None], y).add_(at_corner[..., None])
