"""Pictures and masks of a file, decoded and brought to the input's resolution."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from posecore.data.images import decode_image, decode_mask
from posecore.errors import InputError


def read_picture(data: UInt8[np.ndarray, " n"], name: str, resolution: int) -> UInt8[np.ndarray, "h w 3"]:
    """RGB, stretched to a square of this side as `pixels.resize_intrinsics` describes it."""
    if not len(data):
        raise InputError(f"{name}: empty, but the sample says that this view has a picture")
    image = decode_image(data.tobytes(), name)
    return image if image.shape[:2] == (resolution,) * 2 else np.asarray(_stretch(image, resolution), dtype=np.uint8)


def read_mask(data: UInt8[np.ndarray, " n"], name: str, resolution: int) -> Bool[np.ndarray, "h w"]:
    return stretch_mask(decode_mask(data.tobytes(), name), resolution)


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
