"""Where a map is high: places as (row, col) in 0..1 (`coordinates.py` turns them into pixels).

A pixel's place is (index + 0.5) / size. Of equal pixels the first wins, on the CPU; between devices ties may differ.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def peak_indices(maps: Float[Tensor, "*batch h w"]) -> Int64[Tensor, "*batch 2"]:
    """Row and column of each map's highest pixel."""
    highest = maps.detach().amax(-1)  # of each row: ten times faster on a CPU than argmax over all pixels
    row = highest.argmax(-1)
    at_row = row[..., None, None].expand(*row.shape, 1, maps.shape[-1])
    col = maps.detach().gather(-2, at_row)[..., 0, :].argmax(-1)
    return torch.stack((row, col), -1)


def argmax_peaks(maps: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch 2"]:
    """Place of each map's highest pixel; no gradient."""
    return _unit(peak_indices(maps), maps)


@torch.no_grad()
def top_peaks(maps: Float[Tensor, "*batch h w"], num: int, radius: float = 0.05) -> Float[Tensor, "*batch {num} 2"]:
    """Places of `num` peaks of each map, one for each subject of a picture, highest first; no gradient.

    Each peak hides its neighbourhood of `radius` (in heights of the map) from the next. As upstream, a neighbour's index
    is compared with the peak's index + 0.5, so the disc reaches half a pixel further down and right than up and left.
    """
    height, width = maps.shape[-2:]
    rows = torch.arange(height, device=maps.device)[:, None]
    cols = torch.arange(width, device=maps.device)
    left, found = maps, []
    for _ in range(num):
        peak = peak_indices(left)
        found.append(peak)
        row, col = (peak[..., None, None, :] + 0.5).unbind(-1)
        hidden = (rows - row) ** 2 + (cols - col) ** 2 <= (radius * height) ** 2
        left = left.masked_fill(hidden, -math.inf)
    return _unit(torch.stack(found, -2), maps)


def centre_of_mass(maps: Float[Tensor, "*batch h w"], radius: float | None = None) -> Float[Tensor, "*batch 2"]:
    """Centre of mass of the pixels within `radius` (pixels of the map) of the peak; None: of all. No gradient to the peak."""
    if radius is None:
        rows, cols = (torch.arange(side, device=maps.device, dtype=maps.dtype) + 0.5 for side in maps.shape[-2:])
        mass = maps.sum((-2, -1))
        centre = torch.stack(((maps.sum(-1) * rows).sum(-1), (maps.sum(-2) * cols).sum(-1)), -1) / mass[..., None]
        return centre / _sides(maps)
    return local_soft_argmax(maps, radius, power=1.0)


def local_soft_argmax(
    maps: Float[Tensor, "*batch h w"], radius: float = 3.0, power: float = 2.0
) -> Float[Tensor, "*batch 2"]:
    """Centre of `map ** power` of the pixels within `radius` (pixels of the map) of the peak; differentiable.

    The window is what keeps the position honest: over the whole map, a flat map is at the centre in every view, and the
    views agree about nothing (spec 8). The window itself, at the highest pixel, has no gradient. Maps are not negative;
    where a map's highest pixel is 0 there is nothing to weigh, and the place is not a number.
    """
    peak = peak_indices(maps)
    offsets = _disc(radius, maps)
    inside_at = peak[..., None, :] + offsets  # (n 2)
    sides = torch.tensor(maps.shape[-2:], device=maps.device)
    inside = ((inside_at >= 0) & (inside_at < sides)).all(-1)
    row, col = torch.minimum(inside_at.clamp(min=0), sides - 1).unbind(-1)
    values = maps.flatten(-2).gather(-1, row * maps.shape[-1] + col)
    top = values.detach().amax(-1, keepdim=True)
    mass = (values / top) ** power * inside
    shift = (mass[..., None] * offsets).sum(-2) / mass.sum(-1, keepdim=True)
    return _unit(peak, maps) + shift / _sides(maps)


def _disc(radius: float, maps: Tensor) -> Tensor:
    """Offsets (n 2) of the pixels at most `radius` away."""
    reach = math.floor(radius)
    steps = torch.arange(-reach, reach + 1, device=maps.device)
    offsets = torch.cartesian_prod(steps, steps)
    return offsets[(offsets**2).sum(-1) <= radius**2]


def _sides(maps: Tensor) -> Tensor:
    return torch.tensor(maps.shape[-2:], device=maps.device, dtype=maps.dtype)


def _unit(index: Tensor, maps: Tensor) -> Tensor:
    return (index + 0.5) / _sides(maps)
