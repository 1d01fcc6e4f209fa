"""What a pose estimator says of one object in one picture."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

UNKNOWN_TIME_S = -1.0
"""BOP's value of a time that nobody measured."""


@dataclass(frozen=True)
class Estimate:
    """One pose; a picture can have several of the same object."""

    scene_id: int
    image_id: int
    obj_id: int
    score: float
    """Larger is surer; comparable within one set of estimates."""
    cam_from_obj_mm: Float[np.ndarray, "4 4"]
    """Object to camera, OpenCV axes, translation in millimetres."""
    time_s: float = UNKNOWN_TIME_S
    """Seconds that the whole picture took, the same for all its estimates; -1: unknown."""
