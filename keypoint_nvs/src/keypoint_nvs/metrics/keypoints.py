"""How well keypoints of single pictures behave: do they follow a warp, are they the same tokens?

All of it is without ground truth. How compact the maps are is told by their height (a keypoint's confidence) and entropy.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keypoint_nvs.affine import unwarp_points_xy, warp_points_xy
from keypoint_nvs.coordinates import Size, height_width

REPORT_PX = 320
"""Errors are reported in pixels of pictures this wide, Zero123++'s views."""


def equivariance_errors_px320(
    xy_px: Float[Tensor, "b k 2"], xy_warped_px: Float[Tensor, "b k 2"], theta: Float[Tensor, "b 2 3"], size: Size
) -> Float[Tensor, "b k"]:
    """`|W^-1 kp(W x) - kp(x)|` in px of pictures 320 wide; nan where the warp takes kp(x) out of the frame.

    Args:
        xy_px: Keypoints of the pictures, in their pixels.
        xy_warped_px: Keypoints found in the warped pictures `affine.warp(pictures, theta)`, in these' pixels.
        theta: The warps.
        size: Of both.
    """
    height, width = height_width(size)
    moved = warp_points_xy(xy_px, theta.to(xy_px), size)
    sides = xy_px.new_tensor([width, height])
    inside = ((moved >= -0.5) & (moved <= sides - 0.5)).all(-1)
    errors = torch.linalg.vector_norm(unwarp_points_xy(xy_warped_px, theta.to(xy_px), size) - xy_px, dim=-1)
    return torch.where(inside, errors * (REPORT_PX / width), torch.nan)


def token_stability(selected: Int64[Tensor, "b k"], kept: Int64[Tensor, " kept"]) -> float:
    """Share of the tokens which each picture would choose for itself that are among those kept for all; 1: always the same."""
    return float(torch.isin(selected, kept).double().mean())
