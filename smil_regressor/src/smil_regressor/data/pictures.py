"""Pictures and masks of a file, decoded and brought to the input's resolution."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from posecore.data.images import decode_image, decode_mask


def read_picture(data: bytes, name: str, resolution: int) -> UInt8[np.ndarray, "h w 3"]:
    """RGB, stretched to a square of this side as `pixels.resize_intrinsics` describes it."""
    image = decode_image(data, name)
    return image if image.shape[:2] == (resolution,) * 2 else np.asarray(_stretch(image, resolution), dtype=np.uint8)


def read_mask(data: bytes, name: str, resolution: int) -> Bool[np.ndarray, "h w"]:
    return stretch_mask(decode_mask(data, name), resolution)


def encode_mask(mask: Bool[np.ndarray, "h w"]) -> bytes:
    """PNG of one bit a pixel: decodes five times as fast as one of eight bits."""
    options = [cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 1]
    return bytes(cv2.imencode(".png", mask.astype(np.uint8) * 255, options)[1].tobytes())


def stretch_mask(mask: Bool[np.ndarray, "h w"], resolution: int) -> Bool[np.ndarray, "r r"]:
    """A pixel is inside where at least half of its area is (a cast to uint8 would lose the rim)."""
    if mask.shape == (resolution,) * 2:
        return mask
    return np.asarray(_stretch(mask.astype(np.float32), resolution) > 0.5)


def _stretch(image: np.ndarray, resolution: int) -> np.ndarray:
    shrinks = min(image.shape[:2]) > resolution
    return np.asarray(
        cv2.resize(image, (resolution, resolution), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    )
