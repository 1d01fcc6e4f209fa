"""Rotary position embeddings: channels of queries and keys turn, in pairs, by angles that tell where a token lies."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Pairing = Literal["neighbours", "halves"]
"""Which channels turn together: 2k with 2k + 1; or, in each half of d channels, k with k + d/4 (as in CroCo)."""

ROPE2D_BASE = 100.0
"""Of RoPE100, that the public CroCo v2 weights were trained with."""


@runtime_checkable
class Position(Protocol):
    """Puts positions into the queries or the keys of all heads."""

    def __call__(self, x: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b heads n d"]: ...


@dataclass(frozen=True)
class Rotary:
    """Turns of channel pairs, made once a batch and used by every block and head.

    The arithmetic is float32 also under autocast: angles in bfloat16 are off by degrees.
    """

    cosine: Float[Tensor, "*batch n half_d"]
    sine: Float[Tensor, "*batch n half_d"]
    pairing: Pairing

    @classmethod
    def of_angles(cls, angles: Float[Tensor, "*batch n half_d"], pairing: Pairing) -> "Rotary":
        """Of one angle, radians, for each pair of channels. Convention: (a, b) -> (a cos - b sin, b cos + a sin)."""
        return cls(angles.cos(), angles.sin(), pairing)

    def __call__(self, x: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b heads n d"]:
        cosine, sine = self.cosine, self.sine
        if self.pairing == "neighbours":
            first, second = torch.unflatten(x.float(), -1, (-1, 2)).unbind(-1)
            turned = torch.stack((first * cosine - second * sine, second * cosine + first * sine), -1).flatten(-2)
        else:
            first, second = torch.unflatten(x.float(), -1, (2, 2, -1)).unbind(-2)
            cosine, sine = (torch.unflatten(part, -1, (2, -1)) for part in (cosine, sine))
            turned = torch.stack((first * cosine - second * sine, second * cosine + first * sine), -2).flatten(-3)
        return turned.to(x.dtype)

    def repeated(self, count: int) -> "Rotary":
        """For `count` times as many batch entries, one round after the other."""
        copies = (count,) + (1,) * (self.cosine.dim() - 1)
        return Rotary(self.cosine.repeat(copies), self.sine.repeat(copies), self.pairing)


@dataclass(frozen=True)
class Consecutive:
    """The first `split` tokens have one kind of position, the rest another; None leaves tokens as they are."""

    first: Position
    rest: Position | None
    split: int

    def __call__(self, x: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b heads n d"]:
        head, tail = x[:, :, : self.split], x[:, :, self.split :]
        return torch.cat((self.first(head), tail if self.rest is None else self.rest(tail)), 2)


def grid_positions(grid: tuple[int, int], device: torch.device) -> Float[Tensor, "p 2"]:
    """Row and column of each patch, row by row."""
    rows, columns = (torch.arange(side, device=device, dtype=torch.float32) for side in grid)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).flatten(0, 1)


def rope2d_angles(positions_yx: Float[Tensor, "*batch n 2"], head_dim: int) -> Float[Tensor, "*batch n half_d"]:
    """Angles for pairs of "halves": position * 100^(-2i / D), the first half of the channels (D = d/2) for rows.

    Raises:
        ValueError: A head dimension that is no multiple of 4.
    """
    if head_dim % 4:
        raise ValueError(f"head dimension {head_dim}: RoPE2D needs a multiple of 4")
    steps = torch.arange(0, head_dim // 2, 2, device=positions_yx.device, dtype=torch.float32)
    frequencies = ROPE2D_BASE ** (-steps / (head_dim // 2))
    return (positions_yx[..., None] * frequencies).flatten(-2)


def rope2d(grid: tuple[int, int], head_dim: int, device: torch.device) -> Rotary:
    """RoPE2D of all patches of a picture, row by row."""
    return Rotary.of_angles(rope2d_angles(grid_positions(grid, device), head_dim), "halves")
