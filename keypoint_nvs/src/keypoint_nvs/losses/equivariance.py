"""Where the picture goes, its maps go."""

from jaxtyping import Bool, Float
from torch import Tensor

from keypoint_nvs.affine import inverse_theta, warp

WHOLE = 0.99
"""A pixel is inside if this much of it comes back."""


def equivariance(
    maps: Float[Tensor, "b k h w"],
    maps_warped: Float[Tensor, "b k h w"],
    theta: Float[Tensor, "b 2 3"],
    mask_outside: bool = True,
) -> Float[Tensor, ""]:
    """Mean of (map - warped picture's map, warped back)^2.

    Args:
        theta: warped(x) = picture(theta x), in the units of `affine`.
        mask_outside: Pixels that left the frame are left out, and each picture's mean is over the others; False: they
            count, with 0 for the warped map, as upstream.
    """
    return equivariance_errors(maps, maps_warped, theta, mask_outside).mean()


def equivariance_errors(
    maps: Float[Tensor, "b k h w"],
    maps_warped: Float[Tensor, "b k h w"],
    theta: Float[Tensor, "b 2 3"],
    mask_outside: bool = True,
) -> Float[Tensor, " b"]:
    """The same of each picture; 0 for one that left its frame altogether."""
    errors = (maps - warp(maps_warped, inverse_theta(theta))).square().mean(1)
    if not mask_outside:
        return errors.mean((1, 2))
    inside = pixels_that_come_back(theta, (maps.shape[-2], maps.shape[-1])).to(errors.dtype)
    return (errors * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)


def pixels_that_come_back(theta: Float[Tensor, "b 2 3"], size: tuple[int, int]) -> Bool[Tensor, "b h w"]:
    """Pixels of which at least 0.99 survives being warped and warped back."""
    ones = theta.new_ones(len(theta), 1, *size)
    return warp(warp(ones, theta), inverse_theta(theta))[:, 0] >= WHOLE
