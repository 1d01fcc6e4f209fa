"""The nearest face of each pixel in plain PyTorch, and the barycentrics of chosen faces with gradients."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from posecore.rendering._pairs import drawn_faces, edge_sides, face_boxes, pairs_in_boxes

BACKGROUND = -1


def nearest_faces(
    pixels: Float[Tensor, "b v 2"],
    depth: Float[Tensor, "b v"],
    faces: Int64[Tensor, "f 3"],
    size: tuple[int, int],
    z_near: float,
) -> Int64[Tensor, "b h w"]:
    """Face id, -1 in the background. Key: the bits of the float32 depth, then the face; the least one wins."""
    pixels, depth = pixels.detach(), depth.detach()
    no_face = torch.iinfo(torch.int64).max
    best = torch.full((pixels.shape[0] * size[0] * size[1],), no_face, dtype=torch.int64, device=pixels.device)
    boxes = face_boxes(pixels, faces, drawn_faces(pixels, depth, faces, size, z_near), size, reach=0.0)
    for pairs in pairs_in_boxes(boxes, size):
        vertices = faces[pairs.face]
        sides = edge_sides(pixels[pairs.image[:, None], vertices], torch.stack([pairs.x, pairs.y], 1).to(pixels.dtype))
        covered = ((sides >= 0).all(1) | (sides <= 0).all(1)).nonzero()[:, 0]
        weights = sides[covered].roll(-1, 1)  # the side of edge b c belongs to corner a
        corner_depth = depth[pairs.image[covered, None], vertices[covered]]
        z = (weights.sum(1) / (weights / corner_depth).sum(1)).to(torch.float32)
        keys = (z.view(torch.int32).long() << 32) | pairs.face[covered]
        best.scatter_reduce_(0, pairs.flat_pixel[covered], keys, "amin")
    face_ids = torch.where(best == no_face, BACKGROUND, best & 0xFFFFFFFF)
    return face_ids.reshape(pixels.shape[0], *size)


def barycentrics_of(
    pixels: Float[Tensor, "b v 2"],
    depth: Float[Tensor, "b v"],
    faces: Int64[Tensor, "f 3"],
    face_ids: Int64[Tensor, "b h w"],
) -> tuple[Float[Tensor, "b h w 3"], Float[Tensor, "b h w"]]:
    """Perspective-correct barycentrics and depth of the given faces at the pixel centres, -1 in the background.

    Inverse depth is linear on the screen. Gradients flow to the pixels and depths of the corners.
    """
    batch, height, width = face_ids.shape
    covered = face_ids >= 0
    if len(faces) == 0:
        return pixels.new_full((batch, height, width, 3), -1.0), pixels.new_full((batch, height, width), -1.0)
    image = torch.arange(batch, device=faces.device)[:, None, None, None]
    vertices = faces[face_ids.clamp(min=0)]  # (b h w 3)
    rows, columns = (torch.arange(n, device=pixels.device, dtype=pixels.dtype) for n in (height, width))
    points = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).expand(batch, -1, -1, -1)
    sides = edge_sides(pixels[image, vertices], points).roll(-1, -1)
    corner_depth = depth[image, vertices]
    # The background looks at face 0, of which nothing is known: plain numbers keep its unused gradient finite.
    sides = torch.where(covered[..., None], sides, torch.ones_like(sides))
    corner_depth = torch.where(covered[..., None], corner_depth, torch.ones_like(corner_depth))
    weights = sides / corner_depth
    weights = weights / weights.sum(-1, keepdim=True)
    pixel_depth = (weights * corner_depth).sum(-1)
    background = -torch.ones_like(pixel_depth)
    return torch.where(covered[..., None], weights, background[..., None]), torch.where(
        covered, pixel_depth, background
    )
