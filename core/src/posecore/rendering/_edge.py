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
    """Where n outline edges cross pixel rows (steep) or columns; all numbers run through the batch."""

    ends: Int64[Tensor, "2 n"]
    """Vertices of the edge."""
    steep: Bool[Tensor, " n"]
    line: Int64[Tensor, " n"]
    """Row of a steep edge, column of a flat one."""
    covered: Int64[Tensor, " n"]
    """The pixel of the pair that is covered, and the one that is not."""
    uncovered: Int64[Tensor, " n"]
    towards: Float[Tensor, " n"]
    """1 where the covered pixel is the left or upper one, else -1."""

    def take(self, index: Tensor) -> "Crossings":
        fields = (self.steep, self.line, self.covered, self.uncovered, self.towards)
        return Crossings(self.ends[:, index], *(field[index] for field in fields))


def edge_alpha(
    pixels: Float[Tensor, "b v 2"],
    depth: Float[Tensor, "b v"],
    faces: Int64[Tensor, "f 3"],
    covered: Bool[Tensor, "b h w"],
    z_near: float,
) -> Float[Tensor, "b h w"]:
    """Alpha from a hard mask; its gradient goes to the pixels of the outline's vertices."""
    crossings = _winners(pixels.detach(), _crossings(pixels.detach(), depth, faces, covered, z_near))
    reach = _reach(pixels, crossings)
    moved = torch.where(reach.detach() > 0.5, crossings.uncovered, crossings.covered)
    alpha = covered.to(pixels.dtype).reshape(-1).index_add(0, moved, reach - 0.5)
    return alpha.reshape(covered.shape)


def _reach(pixels: Tensor, crossings: Crossings) -> Tensor:
    """How far the foreground reaches from the covered pixel (0) to the uncovered one (1)."""
    place = _place(pixels, crossings)
    fraction = place - place.detach().floor()
    return torch.where(crossings.towards > 0, fraction, 1 - fraction)


def _place(pixels: Tensor, crossings: Crossings) -> Tensor:
    """Coordinate along the line, x for steep edges and y for flat ones, at which the edge crosses it."""
    start, end = pixels.reshape(-1, 2)[crossings.ends]
    minor_0, major_0 = _minor_major(start, crossings.steep)
    minor_1, major_1 = _minor_major(end, crossings.steep)
    return minor_0 + (crossings.line - major_0) / (major_1 - major_0) * (minor_1 - minor_0)


def _minor_major(point: Tensor, steep: Tensor) -> tuple[Tensor, Tensor]:
    x, y = point.unbind(-1)
    return torch.where(steep, x, y), torch.where(steep, y, x)


def _crossings(pixels: Tensor, depth: Tensor, faces: Tensor, covered: Tensor, z_near: float) -> Crossings:
    """Every crossing of an outline edge between a covered and an uncovered pixel."""
    _, height, width = covered.shape
    ends, image = _outline(pixels, depth, topology_of(faces, pixels.shape[1]).edges, z_near)
    start, end = pixels.reshape(-1, 2)[ends]
    steep = (end - start)[:, 1].abs() >= (end - start)[:, 0].abs()
    lines = torch.where(steep, height, width)
    major = torch.stack([_minor_major(start, steep)[1], _minor_major(end, steep)[1]])
    low = major.amin(0).clamp(min=0).minimum(lines.to(major.dtype)).ceil().long()
    high = major.amax(0).clamp(min=-1).minimum((lines - 1).to(major.dtype)).floor().long()
    counts = (high - low + 1).clamp(min=0)
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    line = low[owner] + torch.arange(len(owner), device=counts.device) - (counts.cumsum(0) - counts)[owner]
    nothing = torch.zeros_like(line)
    crossings = Crossings(ends[:, owner], steep[owner], line, nothing, nothing, nothing.to(pixels.dtype))
    return _at_the_border(crossings, _place(pixels, crossings), image[owner], covered)


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
    return edges[edge, :2].T + image * pixels.shape[1], image


def _at_the_border(crossings: Crossings, place: Tensor, image: Tensor, covered: Tensor) -> Crossings:
    """The crossings between a covered and an uncovered pixel, with these pixels filled in."""
    _, height, width = covered.shape
    across = torch.where(crossings.steep, width, height)
    keep = ((place >= 0) & (place.clamp(-1, max(height, width)).floor() + 1 < across)).nonzero()[:, 0]
    kept, lower = crossings.take(keep), place[keep].floor().long()
    x, y = torch.where(kept.steep, lower, kept.line), torch.where(kept.steep, kept.line, lower)
    first = (image[keep] * height + y) * width + x
    second = first + torch.where(kept.steep, 1, width)
    mask = covered.reshape(-1)
    border = (mask[first] != mask[second]).nonzero()[:, 0]
    first, second = first[border], second[border]
    first_is_covered = mask[first]
    kept = kept.take(border)
    return Crossings(
        kept.ends,
        kept.steep,
        kept.line,
        torch.where(first_is_covered, first, second),
        torch.where(first_is_covered, second, first),
        torch.where(first_is_covered, 1.0, -1.0).to(kept.towards.dtype),
    )


def _winners(pixels: Tensor, crossings: Crossings) -> Crossings:
    """For each pair of pixels the crossing with the largest reach."""
    pair = torch.stack([crossings.covered, crossings.uncovered], dim=1)
    _, pair_of_crossing = torch.unique(pair, dim=0, return_inverse=True)
    quantised = (_reach(pixels, crossings) * QUANTISED).long() + 1
    keys = (quantised << 32) | torch.arange(len(quantised), device=pixels.device)
    best = keys.new_zeros(len(quantised)).scatter_reduce_(0, pair_of_crossing, keys, "amax")
    return crossings.take(best[best > 0] & 0xFFFFFFFF)
