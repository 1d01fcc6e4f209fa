"""The part of a picture that becomes the network's input."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

CropMode = Literal["default", "centred", "bbox_crop", "mask_crop"]
"""default: the whole picture, stretched; centred: the largest centred square; bbox_crop and mask_crop: a square about
the visible keypoints or the mask, padded with black where it leaves the picture."""

MARGIN = 1.05
"""Side of the square over the longer side of the keypoints' box."""
SMALLEST_BOX_PX = 8
"""A smaller box holds no picture of an animal."""

Box = tuple[float, float, float, float]
"""x, y of the first pixel, width, height."""


def crop_box(
    mode: CropMode,
    size_wh: tuple[int, int],
    keypoints_px: Float[np.ndarray, "j 2"],
    visible: Bool[np.ndarray, " j"],
    mask: Bool[np.ndarray, "h w"] | None,
) -> Box | None:
    """The box to cut out; None where the visible keypoints (or mask) span less than 8 px.

    The original clips boxes at the border of the picture, which makes them oblong, then scales both axes alike, and
    scales K by the side before it was cut to whole pixels; here the box stays square and exact, its outside padded.
    """
    width, height = size_wh
    if mode == "default":
        return 0.0, 0.0, float(width), float(height)
    if mode == "centred":
        side = min(width, height)
        return float((width - side) // 2), float((height - side) // 2), float(side), float(side)
    if mode == "bbox_crop":
        points = keypoints_px[visible]
    elif mask is None:
        raise ValueError("mask_crop needs a mask")
    else:
        points = np.argwhere(mask)[:, ::-1].astype(np.float64)
    return _square(points)


def _square(points: Float[np.ndarray, "n 2"]) -> Box | None:
    if len(points) < 2:
        return None
    low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
    side = MARGIN * (high - low).max()
    if side < SMALLEST_BOX_PX:
        return None
    x, y = np.floor((low + high) / 2 - side / 2)
    return float(x), float(y), float(side), float(side)
