"""Pictures at another size, and what moves with them."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from posecore.draw import Picture

AnyPicture = UInt8[np.ndarray, "_ _ 3"]
"""A picture whose size is not that of the other arguments."""


def enlarged(image: Picture, width: int) -> AnyPicture:
    """The picture at another width, its shape kept."""
    height = round(image.shape[0] * width / image.shape[1])
    method = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), dtype=np.uint8)


def enlarged_points(points_px: Float[np.ndarray, "*n 2"], factor: float) -> Float[np.ndarray, "*n 2"]:
    """Where points of a picture lie in the enlarged one; pixel centres are integers."""
    return (points_px + 0.5) * factor - 0.5


def enlarged_K(K: Float[np.ndarray, "3 3"], factor: float) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of an enlarged picture."""
    grown: Float[np.ndarray, "3 3"] = K.astype(float)
    grown[:2, :2] *= factor
    grown[:2, 2] = enlarged_points(K[:2, 2], factor)
    return grown
