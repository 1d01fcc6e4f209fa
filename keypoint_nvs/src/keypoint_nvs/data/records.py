"""One sample of a data set, as its reader gives it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8


@dataclass(frozen=True)
class Cameras:
    """Of some views, in OpenCV axes; lengths in the store's own unit."""

    cam_from_world: Float32[np.ndarray, "v 4 4"]
    K: Float32[np.ndarray, "v 3 3"]
    """Pixels of the stored pictures, integer centres."""


@dataclass(frozen=True)
class Keypoints:
    """Ground truth in space."""

    world: Float32[np.ndarray, "j 3"]
    visible: Bool[np.ndarray, "v j"]
    """In the input view (row 0) and the target views."""


@dataclass(frozen=True)
class MultiviewSample:
    """An object from an input view and v target views; straight alpha."""

    sample_id: str
    """object_id/index, as in the store."""
    cond_imgs: UInt8[np.ndarray, "4 h w"]
    target_imgs: UInt8[np.ndarray, "v 4 h w"]
    cond_camera: Cameras | None
    """One view (v = 1). None: unknown."""
    target_cameras: Cameras | None
    """None: those of the store's rig."""
    keypoints: Keypoints | None = None
    category: str = ""
    azimuth_deg: float | None = None
    """Of the input view, where known."""
    elevation_deg: float | None = None
