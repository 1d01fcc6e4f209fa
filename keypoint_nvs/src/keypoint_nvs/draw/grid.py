"""Sheets of rows and columns with labels at the left and on top."""

from collections.abc import Sequence

import cv2
import numpy as np

from keypoint_nvs.draw.canvas import AnyPicture
from posecore.draw import GAP, INK, PAPER, Color

FONT, FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
LINE_PX = 16
"""Of text."""
SWATCH_PX = 10


def grid(
    rows: Sequence[Sequence[AnyPicture | None]],
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    row_colors: Sequence[Color | None] | None = None,
) -> AnyPicture:
    """Cells as large as the largest; None leaves one empty.

    Args:
        row_labels: At the left, lines split by newlines.
        column_labels: On top, shortened where the cell is too narrow.
        row_colors: A swatch before each row's label, where it has one.
    """
    cells = [cell for row in rows for cell in row if cell is not None]
    if not cells:
        raise ValueError("there are no pictures to lay out")
    height, width = max(cell.shape[0] for cell in cells), max(cell.shape[1] for cell in cells)
    columns = max(len(row) for row in rows)
    left = GAP + _label_width(row_labels, row_colors is not None)
    top = GAP + (LINE_PX if column_labels else 0)
    sheet = np.full((top + len(rows) * (height + GAP), left + columns * (width + GAP), 3), PAPER, np.uint8)
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            if cell is not None:
                row_px, column_px = top + y * (height + GAP), left + x * (width + GAP)
                sheet[row_px : row_px + cell.shape[0], column_px : column_px + cell.shape[1]] = cell
        if row_labels:
            color = row_colors[y] if row_colors is not None else None
            _label(sheet, row_labels[y], (GAP, top + y * (height + GAP) + height // 2), color)
    for x, text in enumerate(column_labels or []):
        write(sheet, shortened(text, width), (left + x * (width + GAP), top - 5))
    return sheet


def legend(names: Sequence[str], colors: Sequence[Color], width: int) -> AnyPicture:
    """Swatches with names, in as many lines as `width` asks for."""
    places: list[tuple[int, int]] = []
    x, line = GAP, 0
    for name in names:
        needed = SWATCH_PX + 5 + text_width(name) + 2 * GAP
        if x > GAP and x + needed > width:
            x, line = GAP, line + 1
        places.append((x, line * LINE_PX))
        x += needed
    strip = np.full(((line + 1) * LINE_PX + 4, width, 3), PAPER, np.uint8)
    for name, color, (left, top) in zip(names, colors, places, strict=True):
        _swatch(strip, (left, top + 4), color)
        write(strip, name, (left + SWATCH_PX + 5, top + 13))
    return strip


def stacked(pictures: Sequence[AnyPicture]) -> AnyPicture:
    """One below the other, on paper as wide as the widest."""
    width = max(picture.shape[1] for picture in pictures)
    padded = [_on_paper(picture, width) for picture in pictures]
    return np.concatenate(padded)


def text_width(text: str) -> int:
    """Pixels."""
    return int(cv2.getTextSize(text, FONT, FONT_SIZE, 1)[0][0])


def shortened(text: str, width: int) -> str:
    """With dots at its end where it is wider than `width` pixels."""
    if text_width(text) <= width:
        return text
    while text and text_width(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def write(canvas: AnyPicture, text: str, origin: tuple[int, int], color: Color = INK) -> None:
    """Text into the canvas itself; origin is its lower left corner."""
    cv2.putText(canvas, text, origin, FONT, FONT_SIZE, color, 1, cv2.LINE_AA)


def _label_width(labels: Sequence[str] | None, with_swatch: bool) -> int:
    if not labels:
        return 0
    widest = max(text_width(line) for label in labels for line in label.split("\n"))
    return widest + GAP + (SWATCH_PX + 5 if with_swatch else 0)


def _label(sheet: AnyPicture, text: str, middle: tuple[int, int], color: Color | None) -> None:
    lines = text.split("\n")
    x, y = middle[0], middle[1] - (len(lines) - 1) * LINE_PX // 2
    if color is not None:
        _swatch(sheet, (x, y - SWATCH_PX // 2), color)
        x += SWATCH_PX + 5
    for number, line in enumerate(lines):
        write(sheet, line, (x, y + number * LINE_PX + 4))


def _swatch(canvas: AnyPicture, corner: tuple[int, int], color: Color) -> None:
    x, y = corner
    cv2.rectangle(canvas, (x, y), (x + SWATCH_PX, y + SWATCH_PX), color, -1)
    cv2.rectangle(canvas, (x, y), (x + SWATCH_PX, y + SWATCH_PX), (60, 60, 60), 1)


def _on_paper(picture: AnyPicture, width: int) -> AnyPicture:
    canvas = np.full((picture.shape[0], width, 3), PAPER, np.uint8)
    canvas[:, : picture.shape[1]] = picture
    return canvas
