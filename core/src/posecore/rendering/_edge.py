"""The edge-antialiased silhouette in plain PyTorch: the hard mask, its border moved to where the outline is.

An edge counts if it has one face or if both faces lie on its same side on the screen. Steep edges are intersected
with pixel rows, flat ones with columns, so that each piece of the outline counts once. Between a covered and an
uncovered neighbour the crossing lies e of the way from the covered one (the largest e of several edges): if e > 0.5
the uncovered pixel gets e - 0.5, else the covered one loses 0.5 - e. So d alpha / d e = 1, and e follows the edge's
ends.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from posecore.rendering._topology import topology_of

QUANTISED = float(1 << 30)


@dataclass(frozen=True)
class Crossings:
    """n crossings of an edge and a row (steep edges) or column (flat ones) of pixels; numbers run through the batch."""

    ends: Int64[Tensor, "n 2"]
    """Vertices of the edge."""
    steep: Bool[Tensor, " n"]
    line: Int64[Tensor, " n"]
    """The row or column."""

    def take(self, index: Tensor) -> "Crossings":
        return Crossings(self.ends[index], self.steep[index], self.line[index])


@dataclass(frozen=True)
class Border:
    """Crossings between a covered and an uncovered pixel."""

    crossings: Crossings
    lower: Int64[Tensor, " n"]
    """Column (or row) of the pair's left (or upper) pixel."""
    lower_is_covered: Bool[Tensor, " n"]
    covered: Int64[Tensor, " n"]
    """The covered pixel of the pair and the other one, numbered row by row through the batch."""
    uncovered: Int64[Tensor, " n"]

    def take(self, index: Tensor) -> "Border":
        fields = (self.lower, self.lower_is_covered, self.covered, self.uncovered)
        return Border(self.crossings.take(index), *(field[index] for field in fields))


def edge_alpha(
    pixels: Float[Tensor, "b v 2"],
    depth: Float[Tensor, "b v"],
    faces: Int64[Tensor, "f 3"],
    covered: Bool[Tensor, "b h w"],
    z_near: float,
) -> Float[Tensor, "b h w"]:
    """Alpha from a hard mask; its gradient goes to the pixels of the outline's vertices."""
    crossings, image = _crossings(pixels.detach(), depth, faces, (covered.shape[1], covered.shape[2]), z_near)
    border = _winners(pixels.detach(), _border(pixels.detach(), crossings, image, covered))
    reach = _reach(pixels, border)
    moved = torch.where(reach.detach() > 0.5, border.uncovered, border.covered)
    alpha = covered.to(pixels.dtype).reshape(-1).index_add(0, moved, reach - 0.5)
    return alpha.reshape(covered.shape)


def _reach(pixels: Tensor, border: Border) -> Tensor:
    """How far the foreground reaches from the covered pixel (0) to the uncovered one (1)."""
    fraction = _place(pixels, border.crossings) - border.lower
    return torch.where(border.lower_is_covered, fraction, 1 - fraction)


def _place(pixels: Tensor, crossings: Crossings) -> Tensor:
    """Coordinate along the line, x for steep edges and y for flat ones, at which the edge crosses it."""
    start, end = pixels.reshape(-1, 2)[crossings.ends].unbind(1)
    minor_0, major_0 = _minor_major(start, crossings.steep)
    minor_1, major_1 = _minor_major(end, crossings.steep)
    return minor_0 + (crossings.line - major_0) / (major_1 - major_0) * (minor_1 - minor_0)


def _minor_major(point: Tensor, steep: Tensor) -> tuple[Tensor, Tensor]:
    x, y = point.unbind(-1)
    return torch.where(steep, x, y), torch.where(steep, y, x)


def _crossings(
    pixels: Tensor, depth: Tensor, faces: Tensor, size: tuple[int, int], z_near: float
) -> tuple[Crossings, Tensor]:
    """Every crossing of an outline edge with a line of the picture, and its image."""
    ends, image = _outline(pixels, depth, topology_of(faces, pixels.shape[1]).edges, z_near)
    start, end = pixels.reshape(-1, 2)[ends].unbind(1)
    steep = (end - start)[:, 1].abs() >= (end - start)[:, 0].abs()
    lines = torch.where(steep, size[0], size[1])
    major = torch.stack([_minor_major(start, steep)[1], _minor_major(end, steep)[1]])
    low = major.amin(0).clamp(min=0).minimum(lines.to(major.dtype)).ceil().long()
    high = major.amax(0).clamp(min=-1).minimum((lines - 1).to(major.dtype)).floor().long()
    counts = (high - low + 1).clamp(min=0)
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    line = low[owner] + torch.arange(len(owner), device=counts.device) - (counts.cumsum(0) - counts)[owner]
    return Crossings(ends[owner], steep[owner], line), image[owner]


def _outline(pixels: Tensor, depth: Tensor, edges: Tensor, z_near: float) -> tuple[Tensor, Tensor]:
    """Ends (numbered through the batch) and image of each outline edge in front of the camera."""
    start, end = pixels[:, edges[:, 0]], pixels[:, edges[:, 1]]
    ahead = depth >= z_near
    third = edges[:, 2:].clamp(min=0)
    has_two = (edges[:, 2:] >= 0).all(1) & ahead[:, third].all(-1)
    direction, offset = (end - start)[:, :, None], pixels[:, third] - start[:, :, None]
    side = torch.sign(direction[..., 0] * offset[..., 1] - direction[..., 1] * offset[..., 0])
    folded = side[..., 0] * side[..., 1] >= 0
    counts = (~has_two | folded) & ahead[:, edges[:, :2]].all(-1) & (start != end).any(-1)
    image, edge = counts.nonzero().unbind(1)
    return edges[edge, :2] + image[:, None] * pixels.shape[1], image


def _border(pixels: Tensor, crossings: Crossings, image: Tensor, covered: Tensor) -> Border:
    """The crossings between a covered and an uncovered pixel.

    One on a pixel's centre is tried with both neighbours: the pixel may be the upper one of the border's pair.
    """
    _, height, width = covered.shape
    place = _place(pixels, crossings).clamp(-2, max(height, width))
    floor = place.floor().long()
    on_centre = (place == floor).nonzero()[:, 0]
    index = torch.cat([torch.arange(len(place), device=place.device), on_centre])
    lower = torch.cat([floor, floor[on_centre] - 1])
    inside = ((lower >= 0) & (lower + 1 < torch.where(crossings.steep, width, height)[index])).nonzero()[:, 0]
    index, lower = index[inside], lower[inside]
    steep, line = crossings.steep[index], crossings.line[index]
    first = (image[index] * height + torch.where(steep, line, lower)) * width + torch.where(steep, lower, line)
    second = first + torch.where(steep, 1, width)
    mask = covered.reshape(-1)
    pair = torch.where(mask[first], first, second), torch.where(mask[first], second, first)
    return Border(crossings.take(index), lower, mask[first], *pair).take((mask[first] != mask[second]).nonzero()[:, 0])


def _winners(pixels: Tensor, border: Border) -> Border:
    """For each pair of pixels the crossing with the largest reach."""
    pair = torch.stack([border.covered, border.uncovered], dim=1)
    _, pair_of_crossing = torch.unique(pair, dim=0, return_inverse=True)
    quantised = (_reach(pixels, border) * QUANTISED).long() + 1
    keys = (quantised << 32) | torch.arange(len(quantised), device=pixels.device)
    best = keys.new_zeros(len(quantised)).scatter_reduce_(0, pair_of_crossing, keys, "amax")
    return border.take(best[best > 0] & 0xFFFFFFFF)
