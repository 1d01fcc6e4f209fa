"""Symmetries about z, and coordinates that are equal at places which a symmetry takes to each other."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vpog.objects.models_info import ContinuousSymmetry

ROUND = 0
"""The fold of a surface of revolution."""
DIGITS = 8
"""To which folded coordinates are rounded: places that differ by rounding errors alone get the same colour."""


@dataclass(frozen=True)
class Symmetry:
    """Turns about z by a full turn over `fold`, and half a turn about x where `flips`."""

    fold: int = 1
    """1: none; 0: any angle."""
    flips: bool = False

    def __post_init__(self) -> None:
        if self.fold < 0 or (self.fold == 1 and self.flips):
            raise ValueError(f"fold {self.fold} with flips {self.flips}: fold must be 0, 1, 2, ..., and 1 cannot flip")

    @property
    def is_none(self) -> bool:
        return self.fold == 1

    @property
    def discrete(self) -> Float64[np.ndarray, "n 4 4"]:
        """All of the finite ones but the identity."""
        turns = [_turn_about_z(2 * np.pi * k / self.fold) for k in range(self.fold)] if self.fold else [np.eye(4)]
        flip = np.diag([1.0, -1.0, -1.0, 1.0])
        return np.stack([*turns, *([turn @ flip for turn in turns] if self.flips else [])])[1:]

    @property
    def continuous(self) -> tuple[ContinuousSymmetry, ...]:
        return (ContinuousSymmetry(np.array([0.0, 0.0, 1.0]), np.zeros(3)),) if self.fold == ROUND else ()

    def folded(self, points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """Continuous in the points, and equal for all that the symmetries take to each other."""
        if self.is_none:
            return points
        x, y, z = points.T
        height = np.abs(z) if self.flips else z
        radius = np.hypot(x, y)
        if self.fold == ROUND:
            return np.round(np.stack([radius, np.zeros_like(radius), height], 1), DIGITS)
        sector = 2 * np.pi / self.fold
        angle = np.abs((np.arctan2(y, x) + sector / 2) % sector - sector / 2)
        return np.round(np.stack([radius * np.cos(angle), radius * np.sin(angle), height], 1), DIGITS)


def _turn_about_z(angle: float) -> Float64[np.ndarray, "4 4"]:
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn
