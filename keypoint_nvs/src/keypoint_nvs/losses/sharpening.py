"""A token's map is one compact blob (localisation)."""

from jaxtyping import Float
from torch import Tensor

from keypoint_nvs.gaussians import gaussian_maps
from keypoint_nvs.peaks import argmax_peaks, top_peaks


def sharpening(maps: Float[Tensor, "*batch k h w"], sigma: float, subjects: int = 1) -> Float[Tensor, ""]:
    """Mean over maps and pixels of (map - Gaussian at the map's own highest pixel)^2.

    The maps are as they are, without a softmax over pixels, and no gradient passes through the place of the peak.

    Args:
        sigma: Pixels of the map; the Gaussian's height is 1.
        subjects: Peaks of each map; the target is the mean of their Gaussians.
    """
    return sharpening_errors(maps, sigma, subjects).mean()


def sharpening_errors(
    maps: Float[Tensor, "*batch k h w"], sigma: float, subjects: int = 1
) -> Float[Tensor, "*batch k"]:
    """The same of each map."""
    maps_now = maps.detach()
    if subjects == 1:
        target = gaussian_maps(argmax_peaks(maps_now), _size(maps), sigma)
    else:
        target = gaussian_maps(top_peaks(maps_now, subjects), _size(maps), sigma).mean(-3)
    return (maps - target).square().mean((-2, -1))


def _size(maps: Tensor) -> tuple[int, int]:
    return maps.shape[-2], maps.shape[-1]
