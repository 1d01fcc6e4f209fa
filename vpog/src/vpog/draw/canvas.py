"""What all pictures need: enlarging, colours of numbers, patches."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from posecore.draw import Picture

Sheet = UInt8[np.ndarray, "_ _ 3"]
"""A picture that is not as large as those that it is made of."""
ABSENT = (225, 225, 222)
"""Where a number is not defined."""
GRID = (255, 255, 255)


def to_picture(image: UInt8[np.ndarray, "3 h w"]) -> Picture:
    """Of the layout that networks take."""
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def enlarge(image: UInt8[np.ndarray, "h w 3"], factor: int) -> Sheet:
    """Each pixel becomes a square."""
    return np.asarray(image.repeat(factor, axis=0).repeat(factor, axis=1))


def enlarged_points(points_px: Float[np.ndarray, "n 2"], factor: int) -> Float[np.ndarray, "n 2"]:
    """Centres of pixels stay centres: pixel 0 of factor 4 is at 1.5."""
    return np.asarray((points_px + 0.5) * factor - 0.5)


def factor_for(image: UInt8[np.ndarray, "h w 3"], side: int) -> int:
    """Whole factor that brings the longer side nearest to `side`, at least 1."""
    return max(1, round(side / int(max(image.shape))))


def colored(
    values: Float[np.ndarray, "h w"],
    valid: Bool[np.ndarray, "h w"],
    low: float,
    high: float,
    colormap: int = cv2.COLORMAP_VIRIDIS,
) -> Picture:
    """Numbers as colours between `low` and `high`; light grey where they are not valid."""
    share = np.clip((np.where(valid, values, low) - low) / max(high - low, 1e-12), 0, 1)
    picture = cv2.applyColorMap((255 * share).round().astype(np.uint8), colormap)[..., ::-1].copy()
    picture[~valid] = ABSENT
    return np.asarray(picture, np.uint8)


def color_of(share: Float[np.ndarray, " n"]) -> UInt8[np.ndarray, "n 3"]:
    """Of 0..1: violet, green, yellow."""
    if not len(share):  # OpenCV ends the process over an empty picture
        return np.zeros((0, 3), np.uint8)
    grey = (255 * np.clip(share, 0, 1)).round().astype(np.uint8)[None]
    return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)[0, :, ::-1], np.uint8)


def patch_centres(rows: int, columns: int, patch_size: int) -> Float[np.ndarray, "p 2"]:
    """x, y of the centres of all patches, row by row, where labels have them: column * size + size // 2."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.asarray(np.stack([column, row], 1) * float(patch_size) + patch_size // 2)
