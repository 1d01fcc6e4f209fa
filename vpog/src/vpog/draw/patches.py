"""Pictures of patches: their grid, what each shows, and what a network takes it for."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from posecore.draw import Picture
from vpog.draw.canvas import GRID

MATCHED, UNMATCHED = (60, 220, 120), (240, 80, 70)
RIGHT_UNMATCHED, WRONG_PLACE = (90, 160, 250), (250, 170, 40)


def draw_patch_grid(image: UInt8[np.ndarray, "h w 3"], patch_size: int, opacity: float = 0.35) -> Picture:
    """Thin lines between patches."""
    canvas = image.astype(np.float64)
    lines = np.zeros(image.shape[:2], bool)
    lines[patch_size::patch_size] = True
    lines[:, patch_size::patch_size] = True
    canvas[lines] = (1 - opacity) * canvas[lines] + opacity * np.array(GRID)
    return np.asarray(canvas.round(), np.uint8)


def tint_patches(
    image: UInt8[np.ndarray, "h w 3"],
    colors: UInt8[np.ndarray, "hp wp 3"],
    chosen: Bool[np.ndarray, "hp wp"],
    opacity: float = 0.45,
) -> Picture:
    """Lay a colour over the patches that are chosen; the grid must fill the picture.

    Raises:
        ValueError: It does not.
    """
    rows, columns = chosen.shape
    height, width = image.shape[:2]
    if height % rows or width % columns:
        raise ValueError(f"a grid of {rows} x {columns} patches does not fill a picture of {height} x {width} px")
    size = (height // rows, width // columns)
    cover = opacity * chosen.repeat(size[0], 0).repeat(size[1], 1)[..., None]
    full = colors.repeat(size[0], 0).repeat(size[1], 1)
    return np.asarray(((1 - cover) * image + cover * full).round(), np.uint8)


def draw_labels(image: UInt8[np.ndarray, "h w 3"], patch_cls: Int64[np.ndarray, "hp wp"], patch_size: int) -> Picture:
    """Patches of the query: green where the template sees them, red where it does not, plain where there is no object."""
    unmatched = patch_cls == patch_cls.size
    colors = np.where(unmatched[..., None], UNMATCHED, MATCHED).astype(np.uint8)
    return draw_patch_grid(tint_patches(image, colors, patch_cls >= 0), patch_size)


def draw_classification(
    image: UInt8[np.ndarray, "h w 3"],
    probabilities: Float[np.ndarray, "p p1"],
    patch_cls: Int64[np.ndarray, "hp wp"],
    patch_size: int,
) -> Picture:
    """What a network makes of each labelled patch of the query.

    Green: the right patch of the template. Blue: rightly none. Orange: another patch. Red: matched and should not be, or the
    other way round. A dot's size tells the probability of the choice.
    """
    rows, columns = patch_cls.shape
    chosen = probabilities.argmax(1).reshape(rows, columns)
    nobody = patch_cls.size
    colors = np.full((rows, columns, 3), WRONG_PLACE, np.uint8)
    colors[(chosen == nobody) != (patch_cls == nobody)] = UNMATCHED
    colors[chosen == patch_cls] = MATCHED
    colors[(chosen == patch_cls) & (chosen == nobody)] = RIGHT_UNMATCHED
    canvas = draw_patch_grid(tint_patches(image, colors, patch_cls >= 0, 0.4), patch_size)
    sure = probabilities.max(1).reshape(rows, columns)
    for row, column in np.argwhere(patch_cls >= 0):
        centre = int(column * patch_size + patch_size // 2), int(row * patch_size + patch_size // 2)
        color = tuple(int(c) for c in colors[row, column])
        cv2.circle(canvas, centre, max(1, round(0.4 * patch_size * float(sure[row, column]))), color, -1, cv2.LINE_AA)
    return canvas
