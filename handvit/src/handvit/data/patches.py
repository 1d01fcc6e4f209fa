"""Patches cut on the device: every region of a batch is warped by its homography in one call."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from handvit.data.geometry import HORIZON
from handvit.data.sample import Batch

SCALE = np.float32(1 / 255)
BEYOND = -3.0
"""A place outside of every region, in grid_sample's units."""


def fill_patches(batch: Batch, patch_size: int) -> Batch:
    """The batch with its patches, RGB 0..1. `patch_size` must be the one that the samples were prepared with."""
    return replace(batch, patches=warp_regions(batch.regions, batch.patch_from_region, patch_size))


def warp_regions(
    regions: UInt8[Tensor, "*b 3 h w"], patch_from_region: Float[Tensor, "*b 3 3"], patch_size: int
) -> Float[Tensor, "*b 3 p p"]:
    """Bilinear samples at the pixel centres of the patch; black outside the region and behind a turned camera.

    Pixels of both are counted from 0 at their centres, as in `cv2.warpPerspective`; unlike there, coordinates are not
    rounded to 1/32 px.
    """
    batch = regions.shape[:-3]
    if _are_patches(regions, patch_from_region, patch_size):
        return torch.from_numpy(np.multiply(regions.numpy(), SCALE, dtype=np.float32))
    grid = _source_grid(patch_from_region.reshape(-1, 3, 3), patch_size, (regions.shape[-2], regions.shape[-1]))
    pictures = regions.reshape(-1, *regions.shape[-3:]).float()
    sampled = functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.mul_(1 / 255).reshape(*batch, 3, patch_size, patch_size)


def _are_patches(regions: Tensor, patch_from_region: Tensor, patch_size: int) -> bool:
    """Nothing is left to sample. A GPU is not asked: it would have to wait for the answer, and samples in no time."""
    if regions.is_cuda or regions.shape[-2:] != (patch_size, patch_size):
        return False
    return bool((patch_from_region == torch.eye(3)).all())


def _source_grid(
    patch_from_region: Float[Tensor, "b 3 3"], patch_size: int, size_hw: tuple[int, int]
) -> Float[Tensor, "b p p 2"]:
    """Where each pixel of the patch lies in the region, in grid_sample's units: (2 x + 1) / w - 1.

    Written without matrix products: autocast and TF32 would round those to less than a pixel.
    """
    height, width = size_hw
    region_from_patch = _inverse(patch_from_region)
    x, y, weight = (row[:, None, None] for row in region_from_patch.unbind(-2))
    steps = torch.arange(patch_size, device=x.device, dtype=x.dtype)
    columns, rows = steps[None, None, :], steps[None, :, None]
    x, y, weight = (row[..., 0] * columns + (row[..., 1] * rows + row[..., 2]) for row in (x, y, weight))
    depth = torch.where(weight > HORIZON, weight, torch.nan)
    pixels = torch.stack([(2 * x / depth + 1) / width - 1, (2 * y / depth + 1) / height - 1], -1)
    return torch.where(weight[..., None] > HORIZON, pixels, BEYOND)


def _inverse(matrices: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 3"]:
    """By cofactors: `torch.linalg.inv` waits for the GPU."""
    first, second, third = matrices.unbind(-2)
    cofactors = torch.stack([second.cross(third, -1), third.cross(first, -1), first.cross(second, -1)], -1)
    determinant = (first * cofactors[..., 0]).sum(-1)
    return cofactors / determinant[:, None, None]
