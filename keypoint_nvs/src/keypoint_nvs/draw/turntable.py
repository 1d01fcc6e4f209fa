"""Keypoints in space turning, beside the views that they come from."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from keypoint_nvs.draw.canvas import AnyPicture, token_colors
from keypoint_nvs.draw.grid import grid
from keypoint_nvs.draw.space import SpacePoints, draw_space
from keypoint_nvs.draw.tokens import draw_tokens, relative_confidence
from posecore.draw import GAP, INK, PAPER, Color


@dataclass(frozen=True)
class TurntableViews:
    """The views of one object, with its keypoints in them."""

    images: Sequence[AnyPicture]
    azimuth_deg: Sequence[float]
    points_px: Float[np.ndarray, "v k 2"]
    confidence: Float[np.ndarray, "v k"] | None = None


def turntable(
    points: SpacePoints,
    views: TurntableViews | None = None,
    *,
    num_frames: int = 48,
    elevation_deg: float = 20.0,
    side: int = 320,
    colors: Sequence[Color] | None = None,
) -> list[AnyPicture]:
    """One turn about the vertical axis, starting at the input view; frames are alike in size.

    Args:
        views: Shown at the right in two columns, the one nearest to the viewer's azimuth framed.
    """
    inks = token_colors(len(points.world)) if colors is None else colors
    radius = points.radius()
    azimuths = [360 * frame / num_frames for frame in range(num_frames)]
    spaces = [draw_space(points, a, elevation_deg, side=side, colors=inks, radius=radius) for a in azimuths]
    if views is None:
        return spaces
    cells = _cells(views, inks, side)
    framed = [_framed(cells, views.azimuth_deg, azimuth) for azimuth in azimuths]
    return [_beside(space, sheet) for space, sheet in zip(spaces, framed, strict=True)]


def nearest_view(azimuth_deg: Float[np.ndarray, " v"], azimuth: float) -> int:
    """On the circle; the first of equally near ones."""
    away = np.abs((azimuth_deg - azimuth + 180) % 360 - 180)
    return int(away.round(6).argmin())


def _cells(views: TurntableViews, colors: Sequence[Color], side: int) -> list[AnyPicture]:
    rows = -(-len(views.images) // 2)
    cell = max(16, (side - (rows + 1) * GAP) // rows)
    shares = None if views.confidence is None else relative_confidence(views.confidence)
    return [
        draw_tokens(
            image, views.points_px[v], None if shares is None else shares[v], full=1.0, side=cell, colors=colors
        )
        for v, image in enumerate(views.images)
    ]


def _framed(cells: Sequence[AnyPicture], azimuth_deg: Sequence[float], azimuth: float) -> AnyPicture:
    marked = [cell.copy() for cell in cells]
    chosen = marked[nearest_view(np.array(azimuth_deg), azimuth)]
    cv2.rectangle(chosen, (0, 0), (chosen.shape[1] - 1, chosen.shape[0] - 1), INK, 3)
    return grid([marked[start : start + 2] for start in range(0, len(marked), 2)])


def _beside(left: AnyPicture, right: AnyPicture) -> AnyPicture:
    height = max(left.shape[0], right.shape[0])
    canvas = np.full((height, left.shape[1] + right.shape[1], 3), PAPER, np.uint8)
    for picture, x in ((left, 0), (right, left.shape[1])):
        top = (height - picture.shape[0]) // 2
        canvas[top : top + picture.shape[0], x : x + picture.shape[1]] = picture
    return canvas
