"""The upper rows of a JPEG: those below the part that is needed are not decoded.

A sequential JPEG in one scan holds its rows of blocks one after the other. A decoder that is told a smaller height stops
there; nothing above changes but the last rows, whose colours are blended with those below (ITU T.81; the height lies in
the frame header, B.2.2).
"""

import struct
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

SEQUENTIAL = (0xC0, 0xC1)
"""Markers of frames that are coded row by row: baseline and extended, with Huffman codes."""
OTHERS = frozenset(range(0xC0, 0xD0)) - {*SEQUENTIAL, 0xC4, 0xC8, 0xCC} | {0xDD, 0xFF}
"""Progressive, lossless and arithmetic codes; and what few files have: restart marks, of which the decoder would speak, and
padding between segments."""


class _Layout(NamedTuple):
    """Of a file whose lower rows can be left out."""

    height_at: int
    """Where it says its height."""
    height: int
    width: int
    row_of_blocks: int
    """Rows of pixels that are coded together."""
    scan_at: int


def first_rows(data: bytes, rows: int) -> tuple[UInt8[np.ndarray, " n"], int | None]:
    """A file of the picture's first rows, and how many they are: some more than `rows`, or None: all.

    Its end mark is left out: a decoder looks for it behind rows that it did not expect, and then says so on stderr.
    """
    whole, layout = np.frombuffer(data, np.uint8), _layout(data)
    if layout is None:
        return whole, None
    height = (rows // layout.row_of_blocks + 2) * layout.row_of_blocks
    if height == layout.width:  # of a square nobody sees that it was turned
        height += layout.row_of_blocks
    scan = whole[layout.scan_at :]
    is_end = (scan[:-1] == 0xFF) & (scan[1:] == 0xD9)  # 10 us, data.find 80
    end = int(is_end.argmax())
    if height >= layout.height or not is_end[end]:
        return whole, None
    part = whole[: layout.scan_at + end].copy()
    part[layout.height_at : layout.height_at + 2] = divmod(height, 256)
    return part, height


def _layout(data: bytes) -> _Layout | None:
    """None where rows cannot be left out: several scans, EXIF data that may turn the picture, `OTHERS`."""
    at, frame = 2, None
    try:
        while data[at] == 0xFF:
            marker, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
            if marker in OTHERS or (marker == 0xE1 and data[at + 4 : at + 8] == b"Exif"):
                return None
            if marker in SEQUENTIAL:
                frame = at
            if marker == 0xDA:
                break
            at += 2 + length
        if frame is None or data[at] != 0xFF or data[at + 4] != data[frame + 9]:  # a scan of all components
            return None
        height, width, components = struct.unpack_from(">HHB", data, frame + 5)
        factors = [data[frame + 11 + 3 * i] & 15 for i in range(components)]
    except (IndexError, struct.error):
        return None
    return _Layout(frame + 5, height, width, 8 * max(factors), at)
