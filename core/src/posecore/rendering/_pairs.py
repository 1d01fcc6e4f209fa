"""Pairs of a face and a pixel inside its box, in pieces of bounded size: what the PyTorch forms work on."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from posecore.rendering._screen import MIN_AREA_NDC, pixels_per_ndc

MAX_PAIRS = 1 << 19
"""Pairs worked off at once; about 150 bytes each."""


@dataclass(frozen=True)
class Pairs:
    """n pairs; `flat_pixel` numbers the pixels of the whole batch row by row."""

    image: Int64[Tensor, " n"]
    face: Int64[Tensor, " n"]
    x: Int64[Tensor, " n"]
    y: Int64[Tensor, " n"]
    flat_pixel: Int64[Tensor, " n"]


@dataclass(frozen=True)
class Boxes:
    """First pixel and extent of each face's box; the extent is 0 where nothing is drawn."""

    x: Int64[Tensor, "b f"]
    y: Int64[Tensor, "b f"]
    width: Int64[Tensor, "b f"]
    height: Int64[Tensor, "b f"]


def edge_sides(corners: Float[Tensor, "*n 3 2"], points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 3"]:
    """Doubled signed area of each edge (a b, b c, c a) with the point.

    The ends are taken in one fixed order: two faces round their common edge alike, and no pixel falls between them.
    """
    start, end = corners, corners.roll(-1, -2)
    swap = (end[..., 0] < start[..., 0]) | ((end[..., 0] == start[..., 0]) & (end[..., 1] < start[..., 1]))
    origin = torch.where(swap[..., None], end, start)
    direction = torch.where(swap[..., None], start, end) - origin
    offset = points[..., None, :] - origin
    cross = direction[..., 0] * offset[..., 1] - direction[..., 1] * offset[..., 0]
    return torch.where(swap, -cross, cross)


def drawn_faces(
    pixels: Float[Tensor, "b v 2"],
    depth: Float[Tensor, "b v"],
    faces: Int64[Tensor, "f 3"],
    size: tuple[int, int],
    z_near: float,
) -> Bool[Tensor, "b f"]:
    """Faces with all corners in front and an area: the others are left out, as in every backend."""
    corners = pixels[:, faces]
    area = edge_sides(corners, corners[..., 2, :])[..., 0].abs()
    return (depth[:, faces] >= z_near).all(-1) & (area > MIN_AREA_NDC * pixels_per_ndc(size) ** 2)


def face_boxes(
    pixels: Float[Tensor, "b v 2"],
    faces: Int64[Tensor, "f 3"],
    drawn: Bool[Tensor, "b f"],
    size: tuple[int, int],
    reach: float,
) -> Boxes:
    """Boxes widened by `reach` pixels and cut at the image."""
    corners = torch.where(drawn[..., None, None], pixels[:, faces], torch.zeros_like(pixels[:, faces]))
    ends = torch.tensor([size[1], size[0]], dtype=corners.dtype, device=corners.device)
    low = (corners.amin(-2) - reach).clamp(min=0).minimum(ends).ceil().long()
    high = (corners.amax(-2) + reach).clamp(min=-1).minimum(ends - 1).floor().long()
    extent = (high - low + 1).clamp(min=0) * drawn[..., None]
    return Boxes(low[..., 0], low[..., 1], extent[..., 0], extent[..., 1])


def pairs_in_boxes(boxes: Boxes, size: tuple[int, int]) -> Iterator[Pairs]:
    """All pairs, at most `MAX_PAIRS` at a time, images and faces in order."""
    x, y, width = boxes.x.reshape(-1), boxes.y.reshape(-1), boxes.width.reshape(-1)
    ends = (width * boxes.height.reshape(-1)).cumsum(0)
    num_faces = boxes.x.shape[1]
    total = int(ends[-1]) if len(ends) else 0
    for begin in range(0, total, MAX_PAIRS):
        index = torch.arange(begin, min(begin + MAX_PAIRS, total), device=ends.device)
        owner = torch.searchsorted(ends, index, right=True)
        within = index - torch.where(owner > 0, ends[owner - 1], 0)
        column, row = x[owner] + within % width[owner], y[owner] + within // width[owner]
        image = owner // num_faces
        yield Pairs(image, owner % num_faces, column, row, (image * size[0] + row) * size[1] + column)
