"""Gaussians on maps, what a sharp attention map should look like."""

import torch
from jaxtyping import Float
from torch import Tensor

from keypoint_nvs.coordinates import Size, height_width


def gaussian_maps(
    points_rc_unit: Float[Tensor, "*points 2"], size: Size, sigma: float
) -> Float[Tensor, "*points rows cols"]:
    """Gaussians of height 1 at points (row, col) in 0..1 (`coordinates`); sigma in pixels of the map.

    The target of several subjects is the mean of their Gaussians. Differentiable in the points.
    """
    height, width = height_width(size)
    across_rows = _profile(points_rc_unit[..., 0], height, sigma)
    across_cols = _profile(points_rc_unit[..., 1], width, sigma)
    return across_rows[..., :, None] * across_cols[..., None, :]


def _profile(position_unit: Tensor, size: int, sigma: float) -> Tensor:
    index = torch.arange(size, device=position_unit.device, dtype=position_unit.dtype)
    return torch.exp(-((index + 0.5 - position_unit[..., None] * size) ** 2) / (2 * sigma**2))
