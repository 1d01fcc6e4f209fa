"""The same keypoint in many pictures, side by side: does it mark the same thing?"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float

from keypoint_nvs.draw.canvas import AnyPicture, enlarged, token_colors
from keypoint_nvs.draw.grid import grid
from posecore.draw import PAPER, Color, Picture

ABSENT: Color = (225, 225, 222)


def equivalent_sheet(
    images: Sequence[AnyPicture],
    points_px: Float[np.ndarray, "v k 2"],
    *,
    names: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    crop: float = 0.4,
    side: int = 80,
) -> AnyPicture:
    """A row a keypoint, a column a picture (views of an object, or different objects): what surrounds the keypoint.

    Args:
        points_px: Not finite: the cell stays grey.
        crop: Side of the surroundings, in widths of the picture.
    """
    if not 0 < crop <= 1:
        raise ValueError(f"crop is {crop:g}; the share of the picture's width must be above 0 and at most 1")
    count = points_px.shape[1]
    labels = [f"token {k}" for k in range(count)] if names is None else list(names)
    colors = token_colors(count)
    rows = [
        [_surroundings(image, points_px[v, k], crop, side, colors[k]) for v, image in enumerate(images)]
        for k in range(count)
    ]
    return grid(rows, row_labels=labels, column_labels=captions, row_colors=colors)


def _surroundings(image: Picture, point: Float[np.ndarray, " 2"], crop: float, side: int, color: Color) -> AnyPicture:
    """Square about the point, paper beyond the picture; a ring marks the point."""
    if not np.isfinite(point).all():
        return np.full((side, side, 3), ABSENT, np.uint8)
    # a whole factor keeps the pixels of small views sharp
    wanted = side / crop / image.shape[1]
    base = enlarged(image, round((round(wanted) if wanted >= 3 else wanted) * max(image.shape[:2])))
    factor = base.shape[1] / image.shape[1]
    half = side / 2
    x, y = (point + 0.5) * factor - 0.5
    shift = np.array([[1.0, 0.0, half - 0.5 - x], [0.0, 1.0, half - 0.5 - y]])
    cell = cv2.warpAffine(
        base, shift, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=PAPER
    )
    centre, radius = (round(half), round(half)), max(3, round(side / 14))
    for thickness, ink in ((3, (20, 20, 20)), (1, color)):
        cv2.circle(cell, centre, radius, ink, thickness, cv2.LINE_AA)
    return np.asarray(cell, np.uint8)
