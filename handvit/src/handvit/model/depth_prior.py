"""Depth of the root from the size of the hand's box, and what remains as bins with residuals.

Convention: pixels of one image, mm. A hand of 121 mm (`HAND_MM`) seen under f = 500 px as a box of 60.5 x 60.5 px is
expected at 1000 mm. Places in the patch (`uv`) are 0..1 from its left upper edge, as in `PatchBox`: u = (x - x1) / width.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

HAND_MM = 121.0
"""Geometric mean of a hand box's sides at the depth of the root, over the training data."""
DELTA_RANGE = (-0.73, 0.74)
"""Of log(depth / prior) that the bins cover."""


def z_prior(focal: Float[Tensor, "*b 2"], hand_bbox: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b"]:
    """Expected depth in mm of a hand with that box (x1, y1, x2, y2, px; sides above zero)."""
    size = hand_bbox[..., 2:] - hand_bbox[..., :2]
    return HAND_MM * (focal.prod(-1) / size.prod(-1)).sqrt()


def rho_prior(
    focal: Float[Tensor, "*b 2"], princpt: Float[Tensor, "*b 2"], hand_bbox: Float[Tensor, "*b 4"]
) -> Float[Tensor, "*b"]:
    """Expected distance from the camera in mm: the depth along the ray through the box's centre."""
    slopes = _center_slopes(focal, princpt, hand_bbox)
    return z_prior(focal, hand_bbox) * (1 + slopes.square().sum(-1)).sqrt()


def box_geometry(
    log_prior: Float[Tensor, "*b"],
    focal: Float[Tensor, "*b 2"],
    princpt: Float[Tensor, "*b 2"],
    hand_bbox: Float[Tensor, "*b 4"],
) -> Float[Tensor, "*b 6"]:
    """Log prior, centre and size of the box over the focal length, log of its aspect."""
    size = hand_bbox[..., 2:] - hand_bbox[..., :2]
    aspect = (size[..., :1] / size[..., 1:]).log()
    return torch.cat((log_prior[..., None], _center_slopes(focal, princpt, hand_bbox), size / focal, aspect), -1)


def bin_centers(num_bins: int, like: Tensor) -> tuple[Float[Tensor, " n"], float]:
    """Centres of the bins of log(depth / prior), and their width."""
    low, high = DELTA_RANGE
    width = (high - low) / num_bins
    return low + width * (torch.arange(num_bins, device=like.device, dtype=like.dtype) + 0.5), width


def encode_depth(
    depth_mm: Float[Tensor, "*b"], log_prior: Float[Tensor, "*b"], num_bins: int
) -> tuple[Int[Tensor, "*b"], Float[Tensor, "*b"]]:
    """The bin of log(depth) - log_prior and the residual in bin widths, -0.5..0.5.

    Depths (mm, above zero) beyond the bins get the border of the first or last one: that is what can be predicted.
    """
    delta = (depth_mm.log() - log_prior).clamp(*DELTA_RANGE)
    centers, width = bin_centers(num_bins, delta)
    index = ((delta - DELTA_RANGE[0]) / width).floor().long().clamp(0, num_bins - 1)
    return index, (delta - centers[index]) / width


def decode_depth(
    logits: Float[Tensor, "*b n"], residuals: Float[Tensor, "*b n"], log_prior: Float[Tensor, "*b"]
) -> Float[Tensor, "*b"]:
    """mm: prior times exp of the likeliest bin's centre plus its residual, clamped to half a bin."""
    index = logits.argmax(-1, keepdim=True)
    residual = residuals.gather(-1, index)[..., 0].clamp(-0.5, 0.5)
    centers, width = bin_centers(logits.shape[-1], residuals)
    return (log_prior + centers[index[..., 0]] + width * residual).exp()


def uv_to_unit_ray(
    uv: Float[Tensor, "*b 2"],
    patch_bbox: Float[Tensor, "*b 4"],
    focal: Float[Tensor, "*b 2"],
    princpt: Float[Tensor, "*b 2"],
) -> Float[Tensor, "*b 3"]:
    """Viewing ray of length 1 through a place in the patch."""
    pixel = patch_bbox[..., :2] + uv * (patch_bbox[..., 2:] - patch_bbox[..., :2])
    slopes = (pixel - princpt) / focal
    ray = torch.cat((slopes, torch.ones_like(slopes[..., :1])), -1)
    return ray / ray.square().sum(-1, keepdim=True).sqrt()


def point_to_uv(
    point: Float[Tensor, "*b 3"],
    patch_bbox: Float[Tensor, "*b 4"],
    focal: Float[Tensor, "*b 2"],
    princpt: Float[Tensor, "*b 2"],
) -> Float[Tensor, "*b 2"]:
    """Where in the patch a point in front of the camera is seen: the inverse of `uv_to_unit_ray`."""
    pixel = point[..., :2] / point[..., 2:] * focal + princpt
    return (pixel - patch_bbox[..., :2]) / (patch_bbox[..., 2:] - patch_bbox[..., :2])


def _center_slopes(focal: Tensor, princpt: Tensor, hand_bbox: Tensor) -> Tensor:
    return ((hand_bbox[..., :2] + hand_bbox[..., 2:]) / 2 - princpt) / focal
