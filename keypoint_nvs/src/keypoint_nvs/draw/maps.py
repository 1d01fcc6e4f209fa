"""Attention maps of tokens over the pictures that they were read from."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float

from keypoint_nvs.draw.canvas import AnyPicture, enlarged, token_colors
from keypoint_nvs.draw.grid import grid
from posecore.draw import Picture

DIM = 0.6
"""Brightness that is left of the picture, so that weak attention shows."""
EXPONENT = 0.7
"""Of the heat's opacity: below 1, weak attention shows more."""


def map_overlay(image: Picture, heat: Float[np.ndarray, "r q"], low: float, full: float, side: int = 128) -> AnyPicture:
    """The picture in dim grey below its map: transparent at `low`, bright yellow at `full`."""
    if full <= low:
        raise ValueError(f"full is {full:g}, low is {low:g}; the value that is drawn brightest must be the higher one")
    base = enlarged(image, side)
    grey = np.repeat((DIM * base.mean(2, keepdims=True)), 3, axis=2)
    height, width = base.shape[:2]
    smooth = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    share = np.clip((smooth - low) / (full - low), 0, 1)
    color = cv2.applyColorMap((255 * share).round().astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    opacity = (share**EXPONENT)[..., None]
    return np.asarray((opacity * color + (1 - opacity) * grey).round(), np.uint8)


def map_sheet(
    images: Sequence[AnyPicture],
    maps: Float[np.ndarray, "v k r q"],
    *,
    names: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    side: int = 128,
) -> AnyPicture:
    """A row a token, a column a picture; brightness runs from the token's lowest value to its highest peak, which the label tells.

    Args:
        names: Of the tokens; None: token 0, 1, ...
        captions: Of the pictures.
    """
    lows, peaks = maps.min((0, 2, 3)), maps.max((0, 2, 3))
    labels = [f"token {k}" for k in range(len(peaks))] if names is None else names
    first = [enlarged(image, side) for image in images]
    rows: list[list[AnyPicture]] = [first]
    for token, (low, peak) in enumerate(zip(lows, peaks, strict=True)):
        full = max(float(peak), float(low) + 1e-12)  # a map that is flat everywhere is nowhere bright
        rows.append([map_overlay(i, maps[v, token], float(low), full, side) for v, i in enumerate(images)])
    return grid(
        rows,
        row_labels=["", *(f"{label}\npeak {peak:.3g}" for label, peak in zip(labels, peaks, strict=True))],
        column_labels=captions,
        row_colors=[None, *token_colors(len(peaks))],
    )
