"""The soft silhouette in plain PyTorch (SoftRas; Liu et al., ICCV 2019), for any float type.

With D the smallest squared distance (pixels) from a pixel to a face's edges, s NDC units a pixel, q = s^2 D and delta
= -q inside, +q outside, a face counts inside or where q < ln(1/1e-4 - 1) sigma, and adds -softplus(-delta / sigma) to
the pixel's log transparency. Sums do not depend on the order of faces: no sorting and no list a pixel.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils.checkpoint import checkpoint

from posecore.rendering._pairs import Pairs, drawn_faces, edge_sides, face_boxes, pairs_in_boxes
from posecore.rendering._screen import pixels_per_ndc

REACH_SIGMAS = math.log(1 / 1e-4 - 1)
"""A face reaches as far as its probability is above 1e-4."""
OPAQUE = 20.0
"""Log transparency is cut here: 1 - exp(-20) is 1 in float32."""


def soft_log_transparency(
    pixels: Float[Tensor, "b v 2"],
    depth: Float[Tensor, "b v"],
    faces: Int64[Tensor, "f 3"],
    size: tuple[int, int],
    sigma: float,
    z_near: float,
) -> Float[Tensor, "b h w"]:
    """Log of what passes through all faces. Pairs of face and pixel are worked off in pieces, so memory is bounded."""
    batch, scale = pixels.shape[0], pixels_per_ndc(size)
    reach = math.sqrt(REACH_SIGMAS * sigma) * scale
    drawn = drawn_faces(pixels.detach(), depth, faces, size, z_near)
    boxes = face_boxes(pixels.detach(), faces, drawn, size, reach)
    total = pixels.new_zeros(batch * size[0] * size[1])
    for pairs in pairs_in_boxes(boxes, size):
        near = _nearest_edges(pixels.detach(), faces, pairs, reach)
        term = partial(_log_term, inverse_sigma=1 / (sigma * scale**2))
        values = checkpoint(term, pixels, near.edge, near.points, near.sign, use_reentrant=False)
        total = total.index_add(0, near.flat_pixel, values)
    return total.clamp(min=-OPAQUE).reshape(batch, *size)


class NearestEdges(NamedTuple):
    """The edge of each face that is nearest to a pixel, for the n pairs that count."""

    edge: Int64[Tensor, "2 n"]
    """Its ends, as vertices numbered through the batch."""
    points: Float[Tensor, "n 2"]
    sign: Float[Tensor, " n"]
    """1 where the pixel is inside the face, -1 outside."""
    flat_pixel: Int64[Tensor, " n"]


def _nearest_edges(pixels: Tensor, faces: Tensor, pairs: Pairs, reach: float) -> NearestEdges:
    corners = pixels[pairs.image[:, None], faces[pairs.face]]  # (n 3 2)
    points = torch.stack([pairs.x, pairs.y], dim=1).to(pixels.dtype)
    squared = segment_offsets(corners, corners.roll(-1, 1), points[:, None]).square().sum(-1)
    sides = edge_sides(corners, points)
    inside = (sides > 0).all(1) | (sides < 0).all(1)
    keep = (inside | (squared.amin(1) < reach**2)).nonzero()[:, 0]
    image, face, nearest = pairs.image[keep], pairs.face[keep], squared.argmin(dim=1)[keep]
    edge = [image * pixels.shape[1] + faces[face, corner] for corner in (nearest, (nearest + 1) % 3)]
    sign = torch.where(inside[keep], 1.0, -1.0).to(pixels.dtype)
    return NearestEdges(torch.stack(edge), points[keep], sign, pairs.flat_pixel[keep])


def segment_offsets(start: Tensor, end: Tensor, points: Tensor) -> Tensor:
    """From the nearest point of each segment to the point."""
    direction = end - start
    along = ((points - start) * direction).sum(-1) / direction.square().sum(-1)
    return points - start - along.clamp(0, 1)[..., None] * direction


def _log_term(pixels: Tensor, edge: Tensor, points: Tensor, sign: Tensor, inverse_sigma: float) -> Tensor:
    start, end = pixels.reshape(-1, 2)[edge]
    squared = segment_offsets(start, end, points).square().sum(-1)
    return -softplus(sign * squared * inverse_sigma)
