"""Crops that move pictures, points and intrinsics by one map, exact to the pixel centre.

Convention: pixel centres at integers. A box (x, y, w, h) has its first pixel's centre at x, y: its edge is at x - 0.5.
Cropped to (out_h, out_w) with k = out_w / w a point goes to x' = (x - x0 + 0.5) k - 0.5, as cv2.resize maps a whole
picture: in the box (10, 0, 20, 20) cropped to 40 x 40, x = 10 goes to 0.5. `cameras.crop_intrinsics` moves K alike.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Border = int | Literal["replicate"]
Box = Sequence[float] | Float[np.ndarray, " 4"]


def crop_and_resize(
    image: UInt8[np.ndarray, "h w *channels"],
    box_xywh: Box,
    out_size: tuple[int, int],
    *,
    border: Border = 0,
    interpolation: Literal["linear", "nearest"] = "linear",
) -> UInt8[np.ndarray, "oh ow *channels"]:
    """Cut a box, of any float position and size, also beyond the picture, and scale it to `out_size` (h, w).

    Where the crop shrinks, linear interpolation first averages whole blocks of pixels and blurs by what is left of
    the factor, a Gaussian of sigma (factor - 1) / 2, so that fine texture does not alias. Only the box is touched.

    Args:
        border: The value beyond the picture, or `replicate` for its nearest pixel.
        interpolation: `nearest` for masks and labels: no new values appear, and nothing is averaged.
    """
    x0, y0, kx, ky = _map(box_xywh, out_size)
    is_shrinking = interpolation == "linear" and min(kx, ky) < 1
    near = _shrunk(image, box_xywh, kx, ky, border) if is_shrinking else _Region(image, 0, 0, 1, 1)
    (fx, fy), (left, top) = (near.fx, near.fy), (near.left, near.top)
    out_from_region = np.array(
        [
            [fx * kx, 0.0, (fx / 2 + left - x0) * kx - 0.5],
            [0.0, fy * ky, (fy / 2 + top - y0) * ky - 0.5],
        ]
    )
    interpolate = cv2.INTER_LINEAR if interpolation == "linear" else cv2.INTER_NEAREST
    return np.asarray(
        cv2.warpAffine(near.pixels, out_from_region, out_size[::-1], flags=interpolate, **_border(border))
    )


def crop_points(
    points_px: Float[np.ndarray, "*batch 2"], box_xywh: Box, out_size: tuple[int, int]
) -> Float[np.ndarray, "*batch 2"]:
    """Where points of the picture lie in the crop; those outside the box go outside it."""
    x0, y0, kx, ky = _map(box_xywh, out_size)
    scale = np.array([kx, ky])
    return np.asarray((points_px - np.array([x0, y0]) + 0.5) * scale - 0.5, dtype=points_px.dtype)


def _map(box_xywh: Box, out_size: tuple[int, int]) -> tuple[float, float, float, float]:
    x0, y0, width, height = (float(value) for value in box_xywh)
    if not (math.isfinite(x0 + y0 + width + height) and width > 0 and height > 0 and min(out_size) > 0):
        raise ValueError(f"a crop needs a finite box with a positive size; found {box_xywh=}, {out_size=}")
    return x0, y0, out_size[1] / width, out_size[0] / height


class _Region(NamedTuple):
    """A part of the picture from (left, top) on, averaged over blocks of fx x fy pixels."""

    pixels: np.ndarray
    left: int
    top: int
    fx: int
    fy: int


def _shrunk(image: np.ndarray, box_xywh: Box, kx: float, ky: float, border: Border) -> _Region:
    """The part that the crop can show, brought close to the crop's scale."""
    x0, y0, width, height = (float(value) for value in box_xywh)
    fx, fy = max(1, int(1 / kx)), max(1, int(1 / ky))
    x_span, y_span = _span(x0, width, image.shape[1], fx), _span(y0, height, image.shape[0], fy)
    if x_span is None or y_span is None:
        return _Region(image, 0, 0, 1, 1)  # the crop shows the border alone
    (left, right), (top, bottom) = x_span, y_span
    inside = image[max(top, 0) : bottom, max(left, 0) : right]
    pads = max(-top, 0), max(bottom - image.shape[0], 0), max(-left, 0), max(right - image.shape[1], 0)
    options = _border(border)
    region = cv2.copyMakeBorder(inside, *pads, options["borderMode"], value=options["borderValue"])
    small = cv2.resize(region, ((right - left) // fx, (bottom - top) // fy), interpolation=cv2.INTER_AREA)
    sigmas = [(max(1 / (f * k), 1.0) - 1.0) / 2 for f, k in ((fx, kx), (fy, ky))]
    sizes = [2 * math.ceil(3 * sigma) + 1 for sigma in sigmas]
    blurred = cv2.GaussianBlur(small, sizes, sigmas[0] or 1.0, sigmaY=sigmas[1] or 1.0)  # a kernel of size 1 is 1
    return _Region(blurred, left, top, fx, fy)


def _span(start: float, length: float, size: int, block: int) -> tuple[int, int] | None:
    """First and end pixel of what a crop shows along one axis, with a margin, in whole blocks; None: nothing."""
    margin = 3 * block
    first = max(math.floor(start), 0) - margin
    end = min(math.ceil(start + length), size) + margin
    return None if end - first <= 2 * margin else (first, end + (first - end) % block)


def _border(border: Border) -> dict[str, Any]:
    if border == "replicate":
        return {"borderMode": cv2.BORDER_REPLICATE, "borderValue": (0,) * 4}
    return {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (border,) * 4}


__all__ = ["crop_and_resize", "crop_points"]
