"""Intrinsics of pictures: given, from a field of view, or assumed."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float

from posecore.errors import InputError

ASSUMED_FOCAL = 1.2
"""Focal length over the picture's longer side where nothing is known; depth is then only as good as this guess."""


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera for pictures of one size, px; pixel centres at integers."""

    focal: tuple[float, float]
    princpt: tuple[float, float]
    is_assumed: bool = False
    """Nobody gave it: directions may hold, depth does not."""

    @classmethod
    def assumed(cls, size_wh: tuple[int, int]) -> Self:
        """Focal length 1.2 max(W, H), centre of the picture."""
        focal = ASSUMED_FOCAL * max(size_wh)
        return cls((focal, focal), _centre(size_wh), True)

    @classmethod
    def from_fov(cls, fov_deg: float, size_wh: tuple[int, int]) -> Self:
        """`fov_deg` spans the width."""
        if not 0 < fov_deg < 180:
            raise InputError(f"fov: {fov_deg:g} degrees; a horizontal field of view between 0 and 180 is needed")
        focal = size_wh[0] / 2 / math.tan(math.radians(fov_deg) / 2)
        return cls((focal, focal), _centre(size_wh))

    @classmethod
    def from_matrix(cls, K: Float[np.ndarray, "3 3"]) -> Self:
        """From K; a skew is refused, for patches and heads know none."""
        K = np.asarray(K, np.float64)
        if K.shape != (3, 3) or not np.isfinite(K).all():
            raise InputError(f"intrinsics: K has shape {K.shape}; a finite 3 x 3 matrix is needed")
        if abs(K[0, 1]) > 1e-6 * abs(K[0, 0]) or K[2, 2] != 1:
            raise InputError(f"intrinsics: K {K.tolist()} has a skew or no 1 at its end; undistort the pictures first")
        return cls.checked((K[0, 0], K[1, 1]), (K[0, 2], K[1, 2]))

    @classmethod
    def checked(cls, focal: tuple[float, float], princpt: tuple[float, float]) -> Self:
        if not all(math.isfinite(value) and value > 0 for value in focal):
            raise InputError(f"intrinsics: focal length {focal[0]:g}, {focal[1]:g} px; it has to be above 0")
        return cls((float(focal[0]), float(focal[1])), (float(princpt[0]), float(princpt[1])))

    @property
    def K(self) -> Float[np.ndarray, "3 3"]:
        return np.array([[self.focal[0], 0, self.princpt[0]], [0, self.focal[1], self.princpt[1]], [0, 0, 1]])


def _centre(size_wh: tuple[int, int]) -> tuple[float, float]:
    return (size_wh[0] - 1) / 2, (size_wh[1] - 1) / 2
