"""What all pictures need: the layout of networks and back, enlarging, colours of keypoints."""

import colorsys

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from posecore.draw import Color, Picture

AnyPicture = UInt8[np.ndarray, "_ _ 3"]
"""A picture whose size is not that of the other arguments."""

PALETTE: tuple[Color, ...] = (
    (230, 60, 50),
    (40, 110, 230),
    (60, 190, 75),
    (255, 190, 25),
    (160, 60, 200),
    (20, 200, 210),
    (245, 125, 30),
    (240, 80, 190),
    (150, 220, 40),
    (120, 80, 40),
)
"""Ten that are told apart on any background; more keypoints take hues between them."""
GOLDEN = 0.618034
"""Turns between hues that never come back to one another."""


def to_picture(image: Float[np.ndarray, "3 h w"]) -> Picture:
    """From channels first, 0..1; what lies outside (drawn views may) is cut off."""
    return np.ascontiguousarray((255 * np.clip(image, 0, 1)).round().astype(np.uint8).transpose(1, 2, 0))


def token_colors(count: int) -> list[Color]:
    """One for each keypoint, always the same for the same number."""
    colors = list(PALETTE[:count])
    for number in range(len(PALETTE), count):
        hue, value = (number * GOLDEN) % 1, (1.0, 0.7)[number % 2]
        red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.7, value))
        colors.append((red, green, blue))
    return colors


def enlarged(image: Picture, side: int) -> AnyPicture:
    """The picture with its longer side `side` pixels long.

    Pixels stay visible as such where the factor is whole and at least 3: a view of 32 px is what the model has drawn, and
    a smooth picture would hide it.
    """
    height, width = image.shape[:2]
    factor = side / max(height, width)
    if factor == round(factor) and factor >= 3:
        return np.asarray(image.repeat(round(factor), axis=0).repeat(round(factor), axis=1))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC), np.uint8
    )


def enlarged_points(points_px: Float[np.ndarray, "*n 2"], image: AnyPicture, side: int) -> Float[np.ndarray, "*n 2"]:
    """Where points (pixel centres at integers) of a picture lie in the one that `enlarged` makes."""
    factor = side / max(image.shape[:2])
    return np.asarray((points_px + 0.5) * factor - 0.5)


def shade(color: Color, share: float, background: Color) -> Color:
    """Between the background (0) and the colour (1)."""
    red, green, blue = (round(share * c + (1 - share) * b) for c, b in zip(color, background, strict=True))
    return red, green, blue
