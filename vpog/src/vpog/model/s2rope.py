"""S2RoPE: rotary embedding of where a template token lies in its picture, and of where its template looks from.

Channel pairs of a head: px for x, py for y, and ps for each of six faces of a cube around the object whose first face
looks along the group's reference direction. A face sees the template's direction at a polar angle (the first ps // 2
pairs) and an azimuth (the others).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vpog.model.rope import Rotary, grid_positions

Azimuth = Literal["integer", "reference"]
"""integer: azimuth * (i + 1), which goes on smoothly at +-pi; reference: azimuth * 10000^(-i / na), which jumps there."""

BASE = 10000.0
FACES = 6
SMALLEST_TANGENT = 1e-6
"""A direction this close to a face's axis has no azimuth: 0 is taken."""


@dataclass(frozen=True)
class ChannelSplit:
    """Pairs of channels for x, for y, and for each face."""

    px: int
    py: int
    ps: int

    @property
    def head_dim(self) -> int:
        return 2 * (self.px + self.py + FACES * self.ps)


def tangent_frame(normal: Float[Tensor, "*batch 3"]) -> tuple[Float[Tensor, "*batch 3"], Float[Tensor, "*batch 3"]]:
    """Two unit vectors across a unit vector; the first as close to z as can be (to y where the normal is near z)."""
    z, y = normal.new_tensor([0.0, 0.0, 1.0]), normal.new_tensor([0.0, 1.0, 0.0])
    guide = torch.where(normal[..., 2:].abs() < 0.9, z, y)
    across = guide - (guide * normal).sum(-1, keepdim=True) * normal
    first = across / torch.linalg.vector_norm(across, dim=-1, keepdim=True)
    return first, torch.linalg.cross(normal, first)


def sphere_faces(d_ref: Float[Tensor, "b 3"]) -> Float[Tensor, "b 6 3"]:
    """Axes of the six faces: the reference direction and its opposite, then two pairs across it."""
    first, second = tangent_frame(d_ref)
    return torch.stack((d_ref, -d_ref, first, -first, second, -second), 1)


def planar_angles(position: Float[Tensor, " n"], num: int) -> Float[Tensor, "n num"]:
    """position * 10000^(-i / num)."""
    steps = torch.arange(num, device=position.device, dtype=torch.float32)
    return position[:, None] * BASE ** (-steps / max(num, 1))


def sphere_angles(
    directions: Float[Tensor, "b s 3"], d_ref: Float[Tensor, "b 3"], num: int, azimuth: Azimuth
) -> Float[Tensor, "b s 6 num"]:
    """Where each face sees each direction: num // 2 multiples of the polar angle, then of the azimuth; radians.

    Args:
        directions: Unit vectors.
        d_ref: Unit vectors.
    """
    faces = sphere_faces(d_ref)
    first, second = tangent_frame(faces)
    along = torch.einsum("bsi,bfi->bsf", directions, faces)
    tangent = directions[:, :, None] - along[..., None] * faces[:, None]
    length = torch.linalg.vector_norm(tangent, dim=-1)
    polar = torch.atan2(length, along)  # acos(along), without its loss of digits near 0 and pi
    turn = torch.atan2((tangent * second[:, None]).sum(-1), (tangent * first[:, None]).sum(-1))
    turn = torch.where(length > SMALLEST_TANGENT, turn, torch.zeros_like(turn))
    return torch.cat(
        (polar[..., None] * _polar_factors(num, polar), turn[..., None] * _factors(num, azimuth, turn)), -1
    )


def s2rope(
    directions: Float[Tensor, "b s 3"],
    d_ref: Float[Tensor, "b 3"],
    grid: tuple[int, int],
    split: ChannelSplit,
    azimuth: Azimuth = "integer",
    is_valid: Bool[Tensor, "b s"] | None = None,
    num_special: int = 0,
) -> Rotary:
    """Of the tokens of s templates one after the other, each its patches row by row and then `num_special` others.

    Special tokens do not turn at all; templates that are not valid (padding) turn by x and y alone.
    """
    with torch.autocast(directions.device.type, enabled=False):
        sphere = sphere_angles(directions.float(), d_ref.float(), split.ps, azimuth).flatten(2)
        if is_valid is not None:
            sphere = torch.where(is_valid[..., None], sphere, torch.zeros_like(sphere))
        rows, columns = grid_positions(grid, directions.device).unbind(-1)
        plane = torch.cat((planar_angles(columns, split.px), planar_angles(rows, split.py)), -1)
        b, s, p = *sphere.shape[:2], len(plane)
        angles = torch.cat((plane.expand(b, s, -1, -1), sphere[:, :, None].expand(-1, -1, p, -1)), -1)
        angles = torch.nn.functional.pad(angles, (0, 0, 0, num_special))
        return Rotary.of_angles(angles.flatten(1, 2)[:, None], "neighbours")


def _polar_factors(num: int, like: Tensor) -> Tensor:
    radial = num // 2
    return BASE ** (-torch.arange(radial, device=like.device, dtype=like.dtype) / max(radial, 1))


def _factors(num: int, azimuth: Azimuth, like: Tensor) -> Tensor:
    """Of the azimuth."""
    steps = torch.arange(num - num // 2, device=like.device, dtype=like.dtype)
    return steps + 1 if azimuth == "integer" else BASE ** (-steps / max(len(steps), 1))
