"""The square crop of the public GigaPose code, pixel for pixel, for comparison with it."""

import numpy as np
from jaxtyping import Float, Float64, Shaped

from posecore.errors import InputError
from vpog.data.boxes import checked_box
from vpog.data.warping import taken


def crop_gigapose(
    picture: Shaped[np.ndarray, "h w *c"], box_xyxy: Float[np.ndarray, "4"], size: int
) -> Shaped[np.ndarray, "{size} {size} *c"]:
    """The picture that goes with `crop_matrix(mode="gigapose")`: nearest pixels by floor(i / s), zero padding.

    Raises:
        InputError: The box is not of whole numbers or has no positive size.
    """
    box = checked_box(box_xyxy)
    (width, height), (pad_x, pad_y) = gigapose_layout(box, size)
    scale = _single_precision_scale(box, size)
    columns = np.floor(np.arange(width) / scale).astype(np.int64) + int(box[0])
    rows = np.floor(np.arange(height) / scale).astype(np.int64) + int(box[1])
    if width == height:  # a square that rounding made a pixel short is scaled once more, any other is padded
        again = np.floor(np.arange(size) * (width / size)).astype(np.int64)
        return taken(picture, rows[again], columns[again])
    return taken(picture, _padded(rows, pad_y, size), _padded(columns, pad_x, size))


def gigapose_layout(box: Float64[np.ndarray, "4"], size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Width and height of the scaled content, and the padding left of and above it."""
    if not np.array_equal(box, np.trunc(box)):
        raise InputError(f"box: is {box.tolist()}; the gigapose crop takes whole numbers (square_box with its mode)")
    width, height = (int(np.floor(side * _single_precision_scale(box, size))) for side in box[2:] - box[:2])
    return (width, height), ((size - width) // 2, (size - height) // 2)


def _single_precision_scale(box: Float64[np.ndarray, "4"], size: int) -> float:
    """As the public code has it: its rounding decides whether the content loses a pixel."""
    return float(np.float32(size) / np.float32((box[2:] - box[:2]).max()))


def _padded(indices: np.ndarray, before: int, size: int) -> np.ndarray:
    return np.pad(indices, (before, size - before - len(indices)), constant_values=-1)
