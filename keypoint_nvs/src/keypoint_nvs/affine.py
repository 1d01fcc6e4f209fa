"""Random similarity warps of pictures and maps, and where points go.

`theta` is affine_grid's (align_corners False): the warped picture at x is the picture at theta x, in units of half
widths from the centre. So its angle, scale and shift are those of the sampling grid: a scale below 1 makes the picture
grow.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from keypoint_nvs.coordinates import Size, height_width
from posecore.data.counter_random import uniforms


def affine_theta(
    angle_deg: Float[Tensor, "*batch"], scale: Float[Tensor, "*batch"], translate: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch 2 3"]:
    """`[s cos a, s sin a, tx; -s sin a, s cos a, ty]`; the shift in half widths."""
    angle = torch.deg2rad(angle_deg)
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    first = torch.stack((cosine, sine, translate[..., 0]), -1)
    second = torch.stack((-sine, cosine, translate[..., 1]), -1)
    return torch.stack((first, second), -2)


def inverse_theta(theta: Float[Tensor, "*batch 2 3"]) -> Float[Tensor, "*batch 2 3"]:
    """The warp that undoes theta, as far as the picture did not leave the frame."""
    (a, b), (c, d) = theta[..., 0, :2].unbind(-1), theta[..., 1, :2].unbind(-1)
    determinant = a * d - b * c
    back = torch.stack((torch.stack((d, -b), -1), torch.stack((-c, a), -1)), -2) / determinant[..., None, None]
    return torch.cat((back, -back @ theta[..., 2:]), -1)


def warp(images: Float[Tensor, "b c h w"], theta: Float[Tensor, "b 2 3"]) -> Float[Tensor, "b c h w"]:
    """Sample each picture at theta, bilinearly; zeros outside."""
    grid = torch.nn.functional.affine_grid(theta.to(images.dtype), list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def random_theta(
    seeds: Int[Tensor, " b"],
    stream: int,
    angle_deg: float = 15.0,
    scale: tuple[float, float] = (0.8, 1.0),
    translate: float = 0.25,
    copies: int = 1,
) -> Float[Tensor, "b {copies} 2 3"]:
    """`copies` warps for each seed: angle within +-angle_deg, scale between its two bounds, shifts within +-translate.

    Copy i of a seed is the same however many are drawn, and whatever the other seeds are.
    """
    turn, size, *shifts = uniforms(seeds, stream, 4 * copies).reshape(-1, copies, 4).unbind(-1)
    low, high = scale
    return affine_theta(
        (2 * turn - 1) * angle_deg, low + (high - low) * size, (2 * torch.stack(shifts, -1) - 1) * translate
    )


def warp_points_xy(
    points_xy_px: Float[Tensor, "*#batch n 2"], theta: Float[Tensor, "*#batch 2 3"], size: Size
) -> Float[Tensor, "*points_batch n 2"]:
    """Where points of a picture of `size` lie in the warped one, in pixels.

    Convention: with theta = [1, 0, 0.5; 0, 1, 0] on a picture 8 wide, x = 5 moves to x = 3.
    """
    return unwarp_points_xy(points_xy_px, inverse_theta(theta), size)


def unwarp_points_xy(
    points_xy_px: Float[Tensor, "*#batch n 2"], theta: Float[Tensor, "*#batch 2 3"], size: Size
) -> Float[Tensor, "*points_batch n 2"]:
    """Where points of the warped picture lie in the picture, in pixels; the inverse of `warp_points_xy`."""
    height, width = height_width(size)
    half = points_xy_px.new_tensor([width / 2, height / 2])
    from_centre = (points_xy_px + 0.5) / half - 1
    there = from_centre @ theta[..., :2].mT + theta[..., None, :, 2]
    return (there + 1) * half - 0.5
