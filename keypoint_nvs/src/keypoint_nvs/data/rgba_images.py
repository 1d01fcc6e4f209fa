"""Pictures of files with their transparency, and their way to another size."""

from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from posecore.data.headers import FORMATS, read_header
from posecore.data.images import decode_image
from posecore.errors import InputError

Rgba = UInt8[np.ndarray, "4 h w"]
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")


def read_rgba(path: Path) -> Rgba:
    """Red, green, blue and straight alpha of a file; alpha 255 where it has none.

    Raises:
        InputError: No such file, no picture, damaged, or one that only decodes with a loss (16 bits, CMYK).
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    header = read_header(encoded) if encoded else None
    if header is None or not header.has_alpha:
        return opaque(decode_image(encoded, str(path)))  # tells what is wrong with files that are no picture too
    if header.bits > 8:
        raise InputError(f"{path}: has {header.bits} bits a channel; save it with 8")
    if not header.is_complete:
        raise InputError(f"{path}: {header.format} file is cut off; copy it again")
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError(f"{path}: is damaged and cannot be decoded; copy it again ({FORMATS} are read)")
    if pixels.ndim != 3 or pixels.shape[2] != 4:
        raise InputError(f"{path}: decodes to {pixels.shape}, though its header tells of transparency; save it as RGBA")
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3]].transpose(2, 0, 1))


def opaque(rgb: UInt8[np.ndarray, "h w 3"]) -> Rgba:
    """The picture with alpha 255 everywhere."""
    alpha = np.full((1, *rgb.shape[:2]), 255, np.uint8)
    return np.concatenate([rgb.transpose(2, 0, 1), alpha])


def made_square(rgba: Rgba, fit: str, where: str) -> UInt8[np.ndarray, "4 side side"]:
    """Cut the middle (`centre_crop`), add transparent borders (`pad`), or take only what is square (`exact`).

    Raises:
        InputError: fit is exact and the picture is not square.
    """
    _, height, width = rgba.shape
    if height == width:
        return rgba
    if fit == "exact":
        raise InputError(
            f"{where}: is {height} x {width}, a square is needed; set fit to centre_crop or pad, or crop the pictures"
        )
    side = min(height, width) if fit == "centre_crop" else max(height, width)
    top, left = abs(height - side) // 2, abs(width - side) // 2
    if fit == "centre_crop":
        return rgba[:, top : top + side, left : left + side]
    square = np.zeros((4, side, side), np.uint8)
    square[:, top : top + height, left : left + width] = rgba
    return square


def resized(rgba: Rgba, side: int) -> UInt8[np.ndarray, "4 {side} {side}"]:
    """A square picture at another size: bicubic and antialiased, colours weighed by alpha so that none bleeds in."""
    if rgba.shape[1:] == (side, side):
        return rgba
    pixels = torch.from_numpy(np.ascontiguousarray(rgba)).float()[None]
    is_opaque = bool((pixels[:, 3] == 255).all())
    weights = pixels[:, 3:] / 255
    if is_opaque:
        rgb = _resize(pixels[:, :3], side)
        return np.concatenate([_bytes(rgb), np.full((1, side, side), 255, np.uint8)])
    premultiplied = _resize(pixels[:, :3] * weights, side)
    alpha = _resize(weights, side)  # may overshoot 0..1, as the colours do that it divides
    colour = torch.where(alpha > 0.5 / 255, premultiplied / alpha.clamp(min=0.5 / 255), 0)
    return np.concatenate([_bytes(colour), _bytes(alpha * 255)])


def _resize(pixels: torch.Tensor, side: int) -> torch.Tensor:
    return torch.nn.functional.interpolate(pixels, (side, side), mode="bicubic", align_corners=False, antialias=True)


def _bytes(pixels: torch.Tensor) -> np.ndarray:
    return np.asarray(pixels[0].round().clamp(0, 255).to(torch.uint8).numpy())
