"""Depth pictures: 16-bit counts in the file, millimetres outside. What a count means is said by each picture's camera."""

import numpy as np
from jaxtyping import Float32, Int64

from posecore.data.headers import read_header
from posecore.data.images import decode_depth, decode_image, encode_png
from posecore.errors import InputError

MAX_COUNT = 65535


def decode_depth_mm(data: bytes, name: str, depth_scale: float | None) -> Float32[np.ndarray, "h w"]:
    """PNG or TIFF of 16 bits, times `depth_scale` (mm a count). 0 stays 0: no depth there.

    Raises:
        InputError: It is no such picture, or the scale is not known.
    """
    if depth_scale is None:
        raise InputError(f"{name}: its camera has no depth_scale; expected millimetres per count (0.1 or 1, say)")
    return (decode_depth(data, name) * np.float64(depth_scale)).astype(np.float32)


def encode_depth_mm(depth_mm: Float32[np.ndarray, "h w"], depth_scale: float) -> bytes:
    """PNG of the nearest counts: exact for what `decode_depth_mm` gave with the same scale.

    Raises:
        ValueError: A depth that 16 bits of this scale cannot hold.
    """
    counts = np.rint(depth_mm.astype(np.float64) / depth_scale)
    if not (np.isfinite(counts).all() and counts.min(initial=0) >= 0 and counts.max(initial=0) <= MAX_COUNT):
        raise ValueError(
            f"depth from {depth_mm.min():g} to {depth_mm.max():g} mm does not fit 16 bits of {depth_scale:g} mm "
            f"(0 to {MAX_COUNT * depth_scale:g} mm)"
        )
    return encode_png(counts.astype(np.uint16))


def decode_ids(data: bytes, name: str) -> Int64[np.ndarray, "h w"]:
    """A grey PNG of 8 or 16 bits as whole numbers: a picture of instances.

    Raises:
        InputError: It is no such picture.
    """
    header = read_header(data)
    if header is not None and header.bits == 8 and header.channels == 1 and not header.has_alpha:
        return decode_image(data, name)[..., 0].astype(np.int64)
    return decode_depth(data, name).astype(np.int64)
