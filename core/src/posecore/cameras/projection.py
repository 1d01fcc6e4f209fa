"""Points in the camera frame to pixels and back."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MIN_DEPTH = 1e-6
"""Points nearer than this, or behind the camera, do not project (in the unit of the points)."""


def project(
    points_cam: Float[Tensor, "*#batch n 3"], K: Float[Tensor, "*#batch 3 3"]
) -> tuple[Float[Tensor, "*pixels_batch n 2"], Bool[Tensor, "*points_batch n"]]:
    """Project camera-frame points with intrinsics K (pixels); the last row of K is (0, 0, 1).

    Returns pixels and a mask, False where the depth is MIN_DEPTH or less. Masked points are divided by 1, not by their
    depth: they get finite pixels without meaning, so that a masked loss has finite gradients.
    """
    depth = points_cam[..., 2]
    in_front = depth > MIN_DEPTH
    rays = points_cam / torch.where(in_front, depth, 1)[..., None]
    return rays @ K[..., :2, :].mT, in_front


def unproject(
    pixels: Float[Tensor, "*#batch n 2"], depth: Float[Tensor, "*#batch n"], K: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "*points_batch n 3"]:
    """Camera-frame points at the given depth (along z) behind the pixels; K is upper triangular."""
    K = K[..., None, :, :]
    y = (pixels[..., 1] - K[..., 1, 2]) / K[..., 1, 1]
    x = (pixels[..., 0] - K[..., 0, 2] - K[..., 0, 1] * y) / K[..., 0, 0]
    return torch.stack((x * depth, y * depth, depth.expand_as(x)), -1)
