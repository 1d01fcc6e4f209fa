"""Every pixel of a matched template patch followed to the query."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from posecore.cameras import MIN_DEPTH
from vpog.labels.rules import LabelRules
from vpog.labels.surfaces import PixelMap, Surfaces, pixel_map

PIXELS_AT_ONCE = {"cpu": 2**17}
"""Pairs are worked on in pieces of so many pixels, each of 40 bytes beside the labels: on a CPU larger ones leave its caches."""
PIXELS_AT_ONCE_ELSEWHERE = 2**21
"""On a GPU, where small pieces cost time: each starts some 60 kernels."""


NUM_PICTURES = 9
"""That are worked on in place."""


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
    flow = query.depth.new_empty(len(pairs), size * size, 2)
    is_visible = torch.empty(len(pairs), size * size, dtype=torch.bool, device=pairs.device)
    pixels_in_patch = torch.empty_like(pairs[:, 0])
    step = max(1, PIXELS_AT_ONCE.get(pairs.device.type, PIXELS_AT_ONCE_ELSEWHERE) // size**2)
    work = query.depth.new_empty(NUM_PICTURES, min(step, len(pairs)), size * size)
    for start in range(0, len(pairs), step):
        piece = slice(start, start + step)
        x, y, visible = _flows_of(query, templates, to_query, pairs[piece], rules, work[:, : len(pairs) - start])
        torch.mul(x, visible, out=flow[piece, :, 0])
        torch.mul(y, visible, out=flow[piece, :, 1])
        is_visible[piece] = visible
        pixels_in_patch[piece] = torch.maximum(x.abs_(), y.abs_(), out=x).le_(0.5).mul_(visible).sum(-1)
    return DenseFlows(flow.view(-1, size, size, 2), is_visible.view(-1, size, size), pixels_in_patch)


def _flows_of(
    query: Surfaces,
    templates: Surfaces,
    to_query: PixelMap,
    pairs: Int64[Tensor, "m 4"],
    rules: LabelRules,
    work: Float[Tensor, "pictures m pixels"],
) -> tuple[Float[Tensor, "m pixels"], Float[Tensor, "m pixels"], Float[Tensor, "m pixels"]]:
    """x, y and visibility (1 or 0), in `work`.

    As `surfaces.dehomogenise`, `look_up` and `is_seen`, but in memory that is there already, because passes over
    memory cost more than the arithmetic, and in numbers: on a CPU truth values take three times as long.
    """
    size = rules.patch_size
    height, width = query.depth.shape[-2:]
    sample, _, query_patch, template_patch = pairs.unbind(-1)
    x, y, z, depth, visible, column, row, column_inside, row_inside = work.unbind(0)
    _patches_of(templates.depth, pairs, size, out=depth)
    _points(to_query, pairs, depth, _corners(template_patch, width, size), size, out=work[:3])
    torch.clamp(z, min=MIN_DEPTH, out=visible)
    x.div_(visible)
    y.div_(visible)
    visible.eq_(z)

    shift = 0.5 if rules.lookup == "nearest" else 0.0
    for px, place, inside, length in ((x, column, column_inside, width), (y, row, row_inside, height)):
        torch.add(px, shift, out=place)
        torch.clamp(place, shift, length * (1 - torch.finfo(px.dtype).eps / 2), out=inside)  # the next below `length`
        visible.mul_(place.eq_(inside))
    index = row_inside.floor_().mul_(width).add_(column_inside.floor_()).int()  # whole numbers: exact below 2**24
    index += (sample * (height * width)).int()[:, None]
    surface = torch.index_select(query.depth.flatten(), 0, index.view(-1), out=column.view(-1)).view_as(x)
    visible.mul_(depth.mul_(surface).gt_(0))
    if rules.compute_visibility:
        visible.mul_(z.le_(surface.add_(query.tolerance[sample, None])))
    centre = (_corners(query_patch, width, size) + size // 2).to(depth)
    return x.sub_(centre[:, :1]).mul_(1 / size), y.sub_(centre[:, 1:]).mul_(1 / size), visible


def _patches_of(
    pictures: Float[Tensor, "b v h w"], pairs: Int64[Tensor, "m 4"], size: int, out: Float[Tensor, "m pixels"]
) -> None:
    """Template patches, by their rows."""
    views, height, width = pictures.shape[1:]
    columns = width // size
    sample, view, _, patch = pairs.unbind(-1)
    first = ((sample * views + view) * height + patch // columns * size) * columns + patch % columns
    rows = first[:, None] + columns * torch.arange(size, device=pairs.device)
    torch.index_select(pictures.reshape(-1, size), 0, rows.view(-1), out=out.view(-1, size))


def _corners(patch: Int64[Tensor, " m"], width: int, size: int) -> Int64[Tensor, "m 2"]:
    """(x, y) of each patch's first pixel."""
    columns = width // size
    return torch.stack((patch % columns, patch // columns), -1) * size


def _points(
    to_query: PixelMap,
    pairs: Int64[Tensor, "m 4"],
    depth: Float[Tensor, "m pixels"],
    corner: Int64[Tensor, "m 2"],
    size: int,
    out: Float[Tensor, "3 m pixels"],
) -> None:
    """Homogeneous pixels of the query; rays are added up in rows of a whole patch, twice as fast as column and row."""
    steps = torch.arange(size, device=corner.device).to(depth)
    v, u = (axis.reshape(-1) for axis in torch.meshgrid(steps, steps, indexing="ij"))
    maps = to_query.of_pairs(*pairs[:, :2].unbind(-1))
    along_x, along_y, one = maps.ray_map.permute(2, 1, 0)  # (3 m)
    at_corner = along_x * corner[:, 0] + along_y * corner[:, 1] + one
    torch.mul(along_x[..., None], u, out=out)
    out.addcmul_(along_y[..., None], v).add_(at_corner[..., None]).mul_(depth).add_(maps.offset.T[..., None])
