"""Every pixel of a matched template patch followed to the query."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vpog.labels.rules import LabelRules
from vpog.labels.surfaces import PixelMap, Surfaces, dehomogenise, is_seen, look_up, pixel_map

PIXELS_AT_ONCE = {"cpu": 2**16}
"""Pairs are worked on in pieces of so many pixels, each of about 100 bytes beside the labels: on a CPU they fit caches."""
PIXELS_AT_ONCE_ELSEWHERE = 2**21
"""On a GPU, where small pieces cost time: each starts some 60 kernels."""


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
    flow = query.depth.new_empty(len(pairs), size, size, 2)
    is_visible = torch.empty(len(pairs), size, size, dtype=torch.bool, device=pairs.device)
    pixels_in_patch = torch.empty_like(pairs[:, 0])
    step = max(1, PIXELS_AT_ONCE.get(pairs.device.type, PIXELS_AT_ONCE_ELSEWHERE) // size**2)
    for start in range(0, len(pairs), step):
        piece = slice(start, start + step)
        x, y, visible = _flows_of(query, templates, to_query, pairs[piece], rules)
        flow[piece, ..., 0], flow[piece, ..., 1] = x.view(-1, size, size), y.view(-1, size, size)
        is_visible[piece] = visible.view(-1, size, size)
        pixels_in_patch[piece] = (visible & (torch.maximum(x.abs(), y.abs()) <= 0.5)).sum(-1)
    return DenseFlows(flow, is_visible, pixels_in_patch)


def _flows_of(
    query: Surfaces, templates: Surfaces, to_query: PixelMap, pairs: Int64[Tensor, "m 4"], rules: LabelRules
) -> tuple[Float[Tensor, "m pixels"], Float[Tensor, "m pixels"], Bool[Tensor, "m pixels"]]:
    """x, y and visibility; in place, because passes over memory cost more than the arithmetic."""
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
    centre = (_corners(query_patch, width, size) + size // 2).to(depth)
    scale = visible.to(depth).div_(size)
    x, y = (px.sub_(at[:, None]).mul_(scale) for px, at in zip((landing.x, landing.y), centre.unbind(-1), strict=True))
    return x, y, visible


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
