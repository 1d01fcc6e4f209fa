"""Boxes of objects in pictures.

A box is x0, y0, x1, y1 and holds the pixels x0 .. x1 - 1: its outer edges are at x0 - 0.5 and x1 - 0.5, because pixel
centres are at integers.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64

from posecore.errors import InputError

CropMode = Literal["exact", "gigapose"]
"""gigapose: as the public code cuts, for comparison with it."""
MIN_SIDE_PX = 20.0
SCALE_RANGE = (0.9, 1.2)
MAX_SHIFT = 0.05
"""Of the long side."""


def box_of_mask(mask: Bool[np.ndarray, "h w"]) -> Float64[np.ndarray, "4"]:
    """The tightest box of the pixels that are set.

    Raises:
        InputError: None is.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        raise InputError(f"mask: no pixel of {mask.shape[0]} x {mask.shape[1]} is set, so it has no box")
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)


def box_of_bop(bbox_xywh: Float[np.ndarray, "*batch 4"]) -> Float64[np.ndarray, "*batch 4"]:
    """Of BOP's bbox_obj or bbox_visib, whose w is xmax - xmin, without the + 1."""
    x, y, width, height = np.moveaxis(np.asarray(bbox_xywh, dtype=np.float64), -1, 0)
    return np.stack([x, y, x + width + 1, y + height + 1], axis=-1)


def square_box(box_xyxy: Float[np.ndarray, "*batch 4"], mode: CropMode = "exact") -> Float64[np.ndarray, "*batch 4"]:
    """The square of the longer side with the same centre; gigapose: cut to whole numbers, towards 0.

    Raises:
        InputError: A box has no positive, finite size.
    """
    box = checked_box(box_xyxy)
    centre = (box[..., :2] + box[..., 2:]) / 2
    half = (box[..., 2:] - box[..., :2]).max(-1, keepdims=True) / 2
    square = np.concatenate([centre - half, centre + half], axis=-1)
    return np.trunc(square) if mode == "gigapose" else square


def deepim_box(
    centre_px: Float[np.ndarray, "*#batch 2"],
    observed_xyxy: Float[np.ndarray, "*#batch 4"],
    rendered_xyxy: Float[np.ndarray, "*#batch 4"],
    aspect: float = 1.0,
    enlarge: float = 1.4,
) -> Float64[np.ndarray, "*batch 4"]:
    """The box that a refiner looks at: centred on the projected reference point, both boxes inside, then enlarged.

    Args:
        aspect: Width by height of the crop, at least 1.

    Raises:
        InputError: `aspect` is below 1.
    """
    if aspect < 1:
        raise InputError(f"aspect: is {aspect}; DeepIM's crops are at least as wide as high")
    centre = np.asarray(centre_px, dtype=np.float64)
    corners = [np.asarray(box)[..., part] for box in (observed_xyxy, rendered_xyxy) for part in (slice(2), slice(2, 4))]
    far = np.max([np.abs(corner - centre) for corner in corners], axis=0)
    half_width = enlarge * np.maximum(far[..., 0], far[..., 1] * aspect)
    half = np.stack([half_width, half_width / aspect], axis=-1)
    return np.concatenate([centre - half, centre + half], axis=-1)


def jitter_box(
    box_xyxy: Float[np.ndarray, "4"],
    rng: np.random.Generator,
    scale: tuple[float, float] = SCALE_RANGE,
    shift: float = MAX_SHIFT,
    min_side_px: float = MIN_SIDE_PX,
) -> Float64[np.ndarray, "4"]:
    """A box as a detector would err, for training; it may leave the picture.

    Args:
        scale: Range of the factor of both sides.
        shift: Largest shift of the centre along each axis, as a share of the longer side.
        min_side_px: A box whose longer side would be below this is scaled up to it: smaller crops show nothing.

    Raises:
        InputError: The box has no positive, finite size.
    """
    box = checked_box(box_xyxy)
    sides = box[2:] - box[:2]
    moved = (box[:2] + box[2:]) / 2 + rng.uniform(-shift, shift, 2) * sides.max()
    factor = max(rng.uniform(*scale), min_side_px / sides.max())
    return np.concatenate([moved - factor * sides / 2, moved + factor * sides / 2])


def checked_box(box_xyxy: np.ndarray) -> Float64[np.ndarray, "*batch 4"]:
    box = np.asarray(box_xyxy, dtype=np.float64)
    if not (np.isfinite(box).all() and (box[..., 2:] > box[..., :2]).all()):
        raise InputError(f"box: is {box.tolist()}; expected finite x0, y0, x1, y1 with x1 > x0 and y1 > y0")
    return box
