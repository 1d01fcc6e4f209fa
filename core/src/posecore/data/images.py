"""Pictures from bytes or files and back. What would change a value is refused unless it was asked for.

Colour pictures are RGB uint8. Sizes are (height, width). OpenCV decodes: as fast as any library with wheels.
"""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, UInt8, UInt16

from posecore.data.crops import crop_and_resize, crop_points
from posecore.data.headers import FORMATS, ImageHeader, read_header
from posecore.errors import InputError

MAX_PIXELS = 1 << 28
"""268 megapixels, 0.8 GB as RGB: above the largest cameras, below what takes a machine down."""

Picture = UInt8[np.ndarray, "h w 3"]


def decode_image(
    data: bytes | Path,
    name: str | None = None,
    *,
    background: tuple[int, int, int] | None = None,
    reduce_16_bit: bool = False,
    apply_orientation: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Decode a JPEG, PNG, WebP or TIFF file to RGB; a grey picture gets three equal channels.

    Args:
        data: The encoded bytes, or the path of a file.
        name: What to call it in errors; a path names itself.
        background: RGB behind transparent pixels. Without it a picture with transparency is refused.
        reduce_16_bit: Keep the upper 8 of 16 bits. Without it a 16-bit picture is refused.
        apply_orientation: Turn the picture as its EXIF data says, as viewers do; pixel coordinates then refer to
            the turned picture.
        max_pixels: A file that claims to be larger is refused before it is decoded.

    Raises:
        InputError: No such file, not a picture, damaged, or one that only decodes with a loss.
    """
    encoded, name = _encoded(data, name)
    header = _checked(encoded, name, max_pixels)
    if header.channels == 4:
        raise InputError(f"{name}: is a CMYK picture; save it as RGB")
    if header.bits > 8 and not reduce_16_bit:
        raise InputError(f"{name}: has {header.bits} bits a channel; save it with 8, or pass reduce_16_bit")
    if header.has_alpha and background is None:
        raise InputError(f"{name}: has transparent pixels; save it without, or pass a background colour")
    if header.has_alpha:
        return _composited(_decoded(encoded, name, cv2.IMREAD_UNCHANGED), background or (0, 0, 0))
    flags = cv2.IMREAD_COLOR_RGB if apply_orientation else cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    return _decoded(encoded, name, flags)


def decode_mask(
    data: bytes | Path, name: str | None = None, *, channel: int | None = None, max_pixels: int = MAX_PIXELS
) -> Bool[np.ndarray, "h w"]:
    """Decode a mask: True where the pixel is above 0.

    `channel` picks one of R, G, B, A (0..3) of a colour picture; without it the picture must be grey.

    Raises:
        InputError: As `decode_image`; a colour picture without `channel`; a JPEG, whose zeros are not exact.
    """
    encoded, name = _encoded(data, name)
    header = _checked(encoded, name, max_pixels)
    if header.format == "JPEG":
        raise InputError(f"{name}: is a JPEG, which blurs the border of a mask; save masks as PNG")
    pixels = _decoded(encoded, name, cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 2:
        return np.asarray(pixels > 0)
    if channel is None:
        raise InputError(f"{name}: has {pixels.shape[2]} channels; a mask has one, or name the channel that is meant")
    if channel >= pixels.shape[2]:
        raise InputError(f"{name}: has {pixels.shape[2]} channels, there is no channel {channel}")
    stored = (2, 1, 0, 3)[channel]  # OpenCV keeps BGRA
    return np.asarray(pixels[..., stored] > 0)


def decode_depth(
    data: bytes | Path, name: str | None = None, *, max_pixels: int = MAX_PIXELS
) -> UInt16[np.ndarray, "h w"]:
    """Decode a 16-bit grey picture without scaling; what a count means is the data set's affair (BOP: `depth_scale`).

    Raises:
        InputError: As `decode_image`; not one channel of 16 bits.
    """
    encoded, name = _encoded(data, name)
    header = _checked(encoded, name, max_pixels)
    if header.bits != 16 or header.channels != 1 or header.has_alpha:
        raise InputError(f"{name}: has {header.channels} channels of {header.bits} bits; a depth map has one of 16")
    return _decoded(encoded, name, cv2.IMREAD_UNCHANGED)


def encode_jpeg(image: Picture, quality: int = 95) -> bytes:
    """RGB to JPEG, quality 1..100."""
    if not 1 <= quality <= 100:
        raise ValueError(f"{quality=} is not in 1..100")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected uint8 (h, w, 3), found {image.dtype} {image.shape}")
    return _encode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(
    image: Picture | UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"] | Bool[np.ndarray, "h w"],
) -> bytes:
    """RGB, grey, 16-bit grey, or a mask (True becomes 255) to PNG, without loss."""
    if image.dtype == np.bool_ and image.ndim == 2:
        return _encode(".png", image.astype(np.uint8) * 255, [])
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return _encode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [])
    if image.dtype in (np.uint8, np.uint16) and image.ndim == 2:
        return _encode(".png", image, [])
    raise ValueError(f"expected uint8 (h, w, 3), or uint8, uint16 or bool (h, w); found {image.dtype} {image.shape}")


def _encoded(data: bytes | Path, name: str | None) -> tuple[bytes, str]:
    if not isinstance(data, Path):
        return bytes(data), name or "picture"
    try:
        return data.read_bytes(), name or str(data)
    except OSError as error:
        raise InputError(f"{data}: cannot be read: {error.strerror}") from None


def _checked(encoded: bytes, name: str, max_pixels: int) -> ImageHeader:
    if not encoded:
        raise InputError(f"{name}: is empty; expected a picture ({FORMATS} are read)")
    header = read_header(encoded)
    if header is None:
        raise InputError(f"{name}: is not a picture that is read here ({FORMATS} are); it begins with {encoded[:12]!r}")
    if header.width * header.height > max_pixels:
        raise InputError(
            f"{name}: claims to be {header.width} x {header.height}, above the bound of {max_pixels} pixels"
        )
    if not header.is_complete:
        raise InputError(f"{name}: {header.format} file is cut off; copy it again")
    return header


def _decoded(encoded: bytes, name: str, flags: int) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error as error:
        raise InputError(f"{name}: is damaged and cannot be decoded ({error.err})") from None
    if pixels is None:
        raise InputError(f"{name}: is damaged and cannot be decoded; copy it again")
    return np.asarray(pixels)


def _composited(bgra: np.ndarray, background: tuple[int, int, int]) -> Picture:
    top = np.iinfo(bgra.dtype).max
    if bgra.shape[2] == 2:  # grey and alpha
        bgra = np.dstack([bgra[..., :1]] * 3 + [bgra[..., 1:]])
    pixels = bgra.astype(np.float32) * (255.0 / top)
    alpha = pixels[..., 3:] / 255.0
    mixed = pixels[..., 2::-1] * alpha + np.asarray(background, np.float32) * (1.0 - alpha)
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def _encode(extension: Literal[".jpg", ".png"], pixels: np.ndarray, options: list[int]) -> bytes:
    done, encoded = cv2.imencode(extension, pixels, options)
    if not done:
        raise ValueError(f"OpenCV cannot write {pixels.dtype} {pixels.shape} as {extension}")
    return bytes(encoded.tobytes())


__all__ = [
    "MAX_PIXELS",
    "crop_and_resize",
    "crop_points",
    "decode_depth",
    "decode_image",
    "decode_mask",
    "encode_jpeg",
    "encode_png",
]
