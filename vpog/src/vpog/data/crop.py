"""Square crops of objects: the affine map of a crop, and intrinsics through it.

`crop_from_image` is 3x3 and maps pixels of the picture to pixels of the crop; pixel centres are at integers.
"""

import numpy as np
from jaxtyping import Float, Float64

from vpog.data.boxes import (
    CropMode,
    box_of_bop,
    box_of_mask,
    checked_box,
    deepim_box,
    jitter_box,
    square_box,
)
from vpog.data.gigapose_crop import crop_gigapose, gigapose_layout
from vpog.data.inplane import RotatedTemplate, rotate_template_inplane, rotate_templates
from vpog.data.warping import crop_depth, crop_mask, crop_rgb, warp_rgb


def crop_matrix(box_xyxy: Float[np.ndarray, "4"], size: int, mode: CropMode = "exact") -> Float64[np.ndarray, "3 3"]:
    """crop_from_image of the square crop round a box; the shorter side is padded, never stretched.

    Convention: exact: the box's outer edges come to the crop's, u' = s (u - (x0 + x1 - 1) / 2) + (size - 1) / 2, so
    that box (10, 0, 20, 10) in a crop of 20 takes u = 10 to 0.5. gigapose, for comparison with the public code: it
    leaves out that half pixel, u' = s (u - x0) + whole pixels of padding, and takes u = 10 to 0; its boxes are whole.

    Raises:
        InputError: The box has no positive, finite size, or with gigapose is not of whole numbers.
    """
    box = checked_box(box_xyxy)
    side = (box[2:] - box[:2]).max()
    scale = size / side
    if mode == "exact":
        shift = (size - 1) / 2 - scale * (box[:2] + box[2:] - 1) / 2
        return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]], [0.0, 0.0, 1.0]])
    _, (pad_x, pad_y) = gigapose_layout(box, size)
    return np.array([[scale, 0.0, pad_x - scale * box[0]], [0.0, scale, pad_y - scale * box[1]], [0.0, 0.0, 1.0]])


def K_of_crop(
    K: Float[np.ndarray, "*#batch 3 3"], crop_from_image: Float[np.ndarray, "*#batch 3 3"]
) -> Float64[np.ndarray, "*batch 3 3"]:
    """Intrinsics of the crop: crop_from_image @ K, exactly."""
    return np.asarray(np.asarray(crop_from_image, dtype=np.float64) @ K)


def points_in_image(
    points_crop_px: Float[np.ndarray, "n 2"], crop_from_image: Float[np.ndarray, "3 3"]
) -> Float64[np.ndarray, "n 2"]:
    """Where pixels of the crop lie in the picture."""
    shifted = np.asarray(points_crop_px, dtype=np.float64) - crop_from_image[:2, 2]
    return np.asarray(np.linalg.solve(np.asarray(crop_from_image[:2, :2], np.float64), shifted.T).T)


def megapose_crop_K(
    K: Float[np.ndarray, "*#batch 3 3"], box_xyxy: Float[np.ndarray, "*#batch 4"], size_hw: tuple[int, int]
) -> Float64[np.ndarray, "*batch 3 3"]:
    """Intrinsics after MegaPose's crop of a box to size_hw: the box's centre, in its own edges, comes to the crop's.

    Raises:
        InputError: A box has no positive, finite size.
    """
    box = checked_box(box_xyxy)
    K = np.asarray(K, dtype=np.float64)
    out = np.array([size_hw[1], size_hw[0]], dtype=np.float64)
    scale = out / (box[..., 2:] - box[..., :2])
    batch = np.broadcast_shapes(K.shape[:-2], box.shape[:-1])
    cropped = np.broadcast_to(K, (*batch, 3, 3)).copy()
    cropped[..., :2, :2] *= scale[..., None]
    centre = (box[..., :2] + box[..., 2:]) / 2
    cropped[..., :2, 2] = (out - 1) / 2 + scale * (K[..., :2, 2] - centre)
    return cropped


__all__ = [
    "CropMode",
    "K_of_crop",
    "RotatedTemplate",
    "box_of_bop",
    "box_of_mask",
    "crop_depth",
    "crop_gigapose",
    "crop_mask",
    "crop_matrix",
    "crop_rgb",
    "deepim_box",
    "jitter_box",
    "megapose_crop_K",
    "points_in_image",
    "rotate_template_inplane",
    "rotate_templates",
    "square_box",
    "warp_rgb",
]
