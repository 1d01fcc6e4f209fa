"""Intrinsic matrices from fields of view, and after a crop.

Pixel centres are at integers: an image w pixels wide covers [-0.5, w - 0.5] and its centre is (w - 1) / 2.
"""

import torch
from jaxtyping import Float
from torch import Tensor

Number = float | Float[Tensor, "*#batch"]


def crop_intrinsics(
    K: Float[Tensor, "*#batch 3 3"], box_xywh: Float[Tensor, "*#batch 4"], out_size: tuple[int, int]
) -> Float[Tensor, "*crop_batch 3 3"]:
    """Intrinsics of the crop `box_xywh` resized to `out_size` = (h, w).

    Pixels move as in cv2.resize, x' = (x + 0.5) k - 0.5. The box starts at the outer edge of pixel (x, y): (0, 0, w, h)
    with out_size (h, w) leaves K as it is. It may be any floats, also outside the image, and the two scales may differ.
    """
    if not bool((box_xywh[..., 2:] > 0).all()):
        raise ValueError(f"crop_intrinsics: box_xywh needs positive widths and heights, got {box_xywh.tolist()}")
    height, width = out_size
    x, y, box_width, box_height = box_xywh.unbind(-1)
    scale_x, scale_y = width / box_width, height / box_height
    rows = (
        scale_x[..., None] * K[..., 0, :] + _last((0.5 - x) * scale_x - 0.5),
        scale_y[..., None] * K[..., 1, :] + _last((0.5 - y) * scale_y - 0.5),
    )
    return torch.stack((*rows, K[..., 2, :].expand_as(rows[0])), -2)


def fov_to_intrinsics(fov_deg: Number, size: tuple[int, int], aspect: Number = 1.0) -> Float[Tensor, "*fov_batch 3 3"]:
    """Intrinsics of the vertical field of view (degrees) for images of `size` = (h, w), principal point in the centre.

    `fy = h / (2 tan(fov/2))` and `fx = w / (2 aspect tan(fov/2))`: with aspect w/h the pixels are square, and with
    aspect 1 the horizontal field equals the vertical one, whatever the image's shape.
    """
    height, width = size
    tangent = torch.tan(torch.deg2rad(torch.as_tensor(fov_deg)) / 2)
    return _centred(width / (2 * aspect * tangent), height / (2 * tangent), size)


def intrinsics_to_fov(
    K: Float[Tensor, "*batch 3 3"], size_hw: tuple[int, int]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Vertical field of view (degrees) and aspect `(w fy) / (h fx)`; they do not express the principal point."""
    height, width = size_hw
    fov = 2 * torch.atan(height / (2 * K[..., 1, 1]))
    return torch.rad2deg(fov), (width * K[..., 1, 1]) / (height * K[..., 0, 0])


def pytorch3d_fov_to_intrinsics(fov_deg: Number, size: tuple[int, int]) -> Float[Tensor, "*fov_batch 3 3"]:
    """Intrinsics of a PyTorch3D `FoVPerspectiveCameras(fov)` with aspect_ratio 1: the field spans the shorter side."""
    focal = min(size) / (2 * torch.tan(torch.deg2rad(torch.as_tensor(fov_deg)) / 2))
    return _centred(focal, focal, size)


def _centred(fx: Tensor, fy: Tensor, size: tuple[int, int]) -> Tensor:
    one, zero = torch.ones_like(fx * fy), torch.zeros_like(fx * fy)
    cx, cy = one * (size[1] - 1) / 2, one * (size[0] - 1) / 2
    return torch.stack((fx * one, zero, cx, zero, fy * one, cy, zero, zero, one), -1).reshape(*one.shape, 3, 3)


def _last(offset: Tensor) -> Tensor:
    """(0, 0, offset): what a shift adds to a row of K."""
    zero = torch.zeros_like(offset)
    return torch.stack((zero, zero, offset), -1)
