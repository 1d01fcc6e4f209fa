"""Pictures, masks and depth through an affine map of their pixels: `crop_from_image` is 3x3."""

from typing import Any, TypeVar

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from posecore.data.crops import crop_and_resize
from posecore.errors import InputError

Picture = TypeVar("Picture", bound=np.ndarray[Any, np.dtype[Any]])


def crop_rgb(
    picture: UInt8[np.ndarray, "h w c"], crop_from_image: Float[np.ndarray, "3 3"], size: int
) -> UInt8[np.ndarray, "{size} {size} c"]:
    """Bilinear, averaged where it shrinks, black beyond the picture.

    Raises:
        InputError: The map turns, mirrors or stretches; see `warp_rgb` for those.
    """
    scale = crop_from_image[0, 0]
    if not (scale > 0 and np.isclose(crop_from_image[1, 1], scale, rtol=1e-9) and _is_axis_aligned(crop_from_image)):
        raise InputError(f"crop_from_image: is {crop_from_image.tolist()}; a crop shifts and scales alike in x and y")
    side = size / scale
    corner = 0.5 - (crop_from_image[:2, 2] + 0.5) / scale
    return np.asarray(crop_and_resize(picture, (corner[0], corner[1], side, side), (size, size)))


def warp_rgb(
    picture: UInt8[np.ndarray, "h w c"], out_from_picture: Float[np.ndarray, "3 3"], size: int
) -> UInt8[np.ndarray, "{size} {size} c"]:
    """Bilinear by any affine map, not averaged: for turns of about the same scale. Black beyond the picture."""
    return np.asarray(cv2.warpAffine(picture, np.asarray(out_from_picture[:2], np.float64), (size, size)))


def crop_mask(
    mask: Bool[np.ndarray, "h w"], crop_from_image: Float[np.ndarray, "3 3"], size: int
) -> Bool[np.ndarray, "{size} {size}"]:
    """The nearest pixel's value, False beyond the picture. Any affine map."""
    return _nearest(mask, crop_from_image, size)


def crop_depth(
    depth_mm: Float32[np.ndarray, "h w"], crop_from_image: Float[np.ndarray, "3 3"], size: int
) -> Float32[np.ndarray, "{size} {size}"]:
    """The nearest pixel's depth: nothing is mixed across a silhouette or a hole. 0 beyond the picture. Any affine map."""
    return _nearest(depth_mm, crop_from_image, size)


def _is_axis_aligned(matrix: np.ndarray) -> bool:
    return bool(matrix[0, 1] == 0 and matrix[1, 0] == 0)


def _nearest(picture: Picture, out_from_picture: np.ndarray, size: int) -> Picture:
    picture_from_out = np.linalg.inv(np.asarray(out_from_picture, dtype=np.float64))
    steps = np.arange(size)
    if _is_axis_aligned(out_from_picture):
        columns = np.floor(picture_from_out[0, 0] * steps + picture_from_out[0, 2] + 0.5).astype(np.int64)
        rows = np.floor(picture_from_out[1, 1] * steps + picture_from_out[1, 2] + 0.5).astype(np.int64)
        return taken(picture, rows, columns)
    (xx, xy, x0), (yx, yy, y0), _ = picture_from_out
    columns = np.floor(xx * steps + (xy * steps + x0 + 0.5)[:, None]).astype(np.int64)
    rows = np.floor(yx * steps + (yy * steps + y0 + 0.5)[:, None]).astype(np.int64)
    return _looked_up(picture, rows, columns)


def taken(picture: Picture, rows: np.ndarray, columns: np.ndarray) -> Picture:
    """Rows and columns of a picture, zero where they lie outside."""
    return _looked_up(picture, rows[:, None], columns[None, :])


def _looked_up(picture: Picture, rows: np.ndarray, columns: np.ndarray) -> Picture:
    height, width = picture.shape[:2]
    is_inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    values: Picture = picture[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    values[~is_inside] = 0
    return values
