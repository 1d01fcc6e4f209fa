"""What an image file says about itself before it is decoded: format, size, depth and channels.

Decoders turn 16 bits into 8, drop transparency and fill truncated pictures without a word, and a small file can claim a
huge picture; so the header is read first. Sources: ITU T.81 (JPEG), the PNG, WebP and TIFF 6.0 specifications.
"""

import struct
from dataclasses import dataclass
from typing import Literal

FORMATS = "JPEG, PNG, WebP and TIFF"


@dataclass(frozen=True)
class ImageHeader:
    """Size in pixels as stored (an EXIF orientation may turn it), bits a channel, channels without transparency."""

    format: Literal["JPEG", "PNG", "WebP", "TIFF"]
    width: int
    height: int
    bits: int
    channels: int
    has_alpha: bool
    is_complete: bool
    """False: the file ends before its end mark (known for JPEG and PNG)."""


def read_header(data: bytes) -> ImageHeader | None:
    """None where the bytes are no image of a known format, or end inside the header."""
    try:
        if data[:3] == b"\xff\xd8\xff":
            return _jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(data)
    except (struct.error, IndexError):
        pass
    return None


def _jpeg(data: bytes) -> ImageHeader | None:
    """Segments up to the start of the scan; the end mark must follow that (EXIF thumbnails have end marks too)."""
    at, frame = 2, None
    while True:
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        if marker == 0xDA:  # start of scan
            break
        (length,) = struct.unpack_from(">H", data, at + 1)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = struct.unpack_from(">BHHB", data, at + 3)
        at += 1 + length
        if data[at] != 0xFF:
            return None
    if frame is None:
        return None
    bits, height, width, channels = frame
    return ImageHeader("JPEG", width, height, bits, channels, False, data.rfind(b"\xff\xd9", at) != -1)


def _png(data: bytes) -> ImageHeader:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    pixels = data.find(b"IDAT")
    has_alpha = bool(colour & 4) or data.find(b"tRNS", 33, pixels if pixels > 0 else None) != -1
    channels = 3 if colour & 2 else 1  # a palette (3) holds colours
    return ImageHeader("PNG", width, height, bits, channels, has_alpha, data.rfind(b"IEND") != -1)


def _webp(data: bytes) -> ImageHeader | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        has_alpha = bool(data[20] & 0x10)
    elif kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        width, height, has_alpha = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF), bool(packed >> 28 & 1)
    elif kind == b"VP8 ":
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", data, 26))
        has_alpha = False
    else:
        return None
    return ImageHeader("WebP", width, height, 8, 3, has_alpha, True)


def _tiff(data: bytes) -> ImageHeader | None:
    """First directory: width 256, height 257, bits 258, what colours mean 262, samples a pixel 277."""
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    tags = {}
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", data, entry)
        value = entry + 8
        if kind == 3 and number > 2:  # more than fit into the entry: it holds their place
            (value,) = struct.unpack_from(order + "I", data, value)
        if kind in (3, 4):
            (tags[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, value)
    if 256 not in tags or 257 not in tags:
        return None
    channels = {2: 3, 5: 4, 6: 3}.get(tags.get(262, 1), 1)  # RGB, CMYK, YCbCr; else grey or palette
    has_alpha = tags.get(277, 1) > channels  # not every writer gives the tag of extra samples
    return ImageHeader("TIFF", tags[256], tags[257], tags.get(258, 1), channels, has_alpha, True)
