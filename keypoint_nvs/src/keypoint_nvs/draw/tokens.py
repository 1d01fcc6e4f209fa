"""Keypoints of tokens in pictures: a dot each, the larger and the more opaque the more confident."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float

from keypoint_nvs.draw.canvas import AnyPicture, enlarged, enlarged_points, token_colors
from keypoint_nvs.draw.grid import grid, legend, stacked
from posecore.draw import SUBPIXEL, Color, Picture

LEAST_SIZE, LEAST_OPACITY = 0.55, 0.35
"""Of the least confident keypoints."""
RIM: Color = (20, 20, 20)


def draw_tokens(
    image: Picture,
    points_px: Float[np.ndarray, "k 2"],
    confidence: Float[np.ndarray, " k"] | None = None,
    *,
    full: float | None = None,
    side: int = 192,
    colors: Sequence[Color] | None = None,
    truth_px: Float[np.ndarray, "k 2"] | None = None,
) -> AnyPicture:
    """The picture, enlarged, with a dot for each keypoint; points that are not finite are left out.

    Args:
        confidence: 0 is the smallest dot; None: all are full.
        full: Confidence of the largest dot; None: the largest of them.
        side: Longer side of the result.
        colors: One for each keypoint; None: `token_colors`.
        truth_px: Where each should lie: a line leads there, to a small cross.
    """
    canvas = enlarged(image, side).copy()
    inks = token_colors(len(points_px)) if colors is None else colors
    trust = _trust(confidence, full, len(points_px))
    places = enlarged_points(points_px, image, side)
    truths = None if truth_px is None else enlarged_points(truth_px, image, side)
    if truths is not None:
        for place, truth, ink in zip(places, truths, inks, strict=True):
            _lead(canvas, place, truth, ink)
    for index in np.argsort(trust):  # the surest on top
        if np.isfinite(places[index]).all():
            _dot(canvas, places[index], inks[index], float(trust[index]), side / 32)
    return canvas


def token_sheet(
    images: Sequence[AnyPicture],
    points_px: Float[np.ndarray, "v k 2"],
    confidence: Float[np.ndarray, "v k"] | None = None,
    *,
    captions: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    columns: int = 7,
    side: int = 160,
) -> AnyPicture:
    """Pictures of one object with the same keypoints, and what each colour means.

    Args:
        confidence: Relative to the keypoint's best picture.
        names: Of the keypoints; None: no legend.
    """
    shares = None if confidence is None else relative_confidence(confidence)
    cells = [
        draw_tokens(image, points_px[view], None if shares is None else shares[view], full=1.0, side=side)
        for view, image in enumerate(images)
    ]
    lines = [
        grid(
            [cells[start : start + columns]],
            column_labels=None if captions is None else captions[start : start + columns],
        )
        for start in range(0, len(cells), columns)
    ]
    sheet = stacked(lines)
    if names is None:
        return sheet
    return stacked([sheet, legend(names, token_colors(len(names)), sheet.shape[1])])


def relative_confidence(confidence: Float[np.ndarray, "v k"]) -> Float[np.ndarray, "v k"]:
    """Of each keypoint, in parts of its best picture's."""
    return np.asarray(confidence / np.maximum(confidence.max(0), 1e-12))


def _trust(confidence: Float[np.ndarray, " k"] | None, full: float | None, count: int) -> Float[np.ndarray, " k"]:
    if confidence is None:
        return np.ones(count)
    most = float(confidence.max(initial=0)) if full is None else full
    return np.asarray(np.clip(confidence / max(most, 1e-12), 0, 1))


def _dot(canvas: AnyPicture, place: Float[np.ndarray, " 2"], color: Color, trust: float, radius: float) -> None:
    size = radius * (LEAST_SIZE + (1 - LEAST_SIZE) * trust)
    opacity = LEAST_OPACITY + (1 - LEAST_OPACITY) * trust
    layer = canvas.copy()
    centre = _fixed(place)
    for grow, ink in ((1.2, RIM), (0.0, color)):
        cv2.circle(layer, centre, round((size + grow) * 2**SUBPIXEL), ink, -1, cv2.LINE_AA, SUBPIXEL)
    cv2.addWeighted(layer, opacity, canvas, 1 - opacity, 0, dst=canvas)


def _lead(canvas: AnyPicture, place: Float[np.ndarray, " 2"], truth: Float[np.ndarray, " 2"], color: Color) -> None:
    if not np.isfinite(truth).all():
        return
    arm = canvas.shape[1] / 60
    x, y = truth
    for thickness, ink in ((3, RIM), (1, color)):
        for ends in (((x - arm, y), (x + arm, y)), ((x, y - arm), (x, y + arm))):
            cv2.line(
                canvas, _fixed(np.array(ends[0])), _fixed(np.array(ends[1])), ink, thickness, cv2.LINE_AA, SUBPIXEL
            )
    if np.isfinite(place).all():
        cv2.line(canvas, _fixed(place), _fixed(truth), color, 1, cv2.LINE_AA, SUBPIXEL)


def _fixed(point: Float[np.ndarray, " 2"]) -> tuple[int, int]:
    x, y = (round(float(value) * 2**SUBPIXEL) for value in point)
    return x, y
