"""Bones and thicknesses of the made-up hand: a right hand, palm towards -y, fingers towards -x, thumb towards +z."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, "3"]

WRIST = np.array([0.0957, 0.0064, 0.0062])
_SPREAD = 0.03
"""Standard deviation of lengths and thicknesses between seeds, as a share."""


@dataclass(frozen=True)
class Finger:
    """One finger in rest pose, straight; metres."""

    name: str
    joints: Float[np.ndarray, "3 3"]
    tip: Vector
    along: Vector
    """Unit vector from the base to the tip."""
    up: Vector
    """Unit vector towards the nail, at right angles to `along`."""
    radii: Float[np.ndarray, "4"]
    """Half widths at the three joints and near the tip."""

    @property
    def side(self) -> Vector:
        """`up` turned so that bending about it (right-handed) flexes the finger."""
        side: Vector = np.cross(self.up, self.along)
        return side

    @property
    def knots(self) -> Float[np.ndarray, "4 3"]:
        """Joints and tip."""
        return np.concatenate([self.joints, self.tip[None]])

    def at(self, bone: float) -> Vector:
        """The axis at bone + fraction: 1.5 is the middle between the second and the third joint."""
        index = min(int(bone), 2)
        point: Vector = self.knots[index] + (bone - index) * (self.knots[index + 1] - self.knots[index])
        return point

    def half_width(self, bone: float) -> float:
        return float(np.interp(bone, np.arange(4), self.radii))


def hand_anatomy(rng: np.random.Generator) -> tuple[Finger, ...]:
    """Index, middle, little, ring finger and thumb: MANO's order."""

    def finger(
        name: str, base: Sequence[float], along: Sequence[float | int], up: Sequence[float],
        lengths_mm: Sequence[float | int], radii_mm: Sequence[float],
    ) -> Finger:  # fmt: skip
        lengths = 1e-3 * np.array(lengths_mm) * (1 + _SPREAD * rng.uniform(-1, 1, 3))
        radii = 1e-3 * np.array(radii_mm) * (1 + _SPREAD * rng.uniform(-1, 1))
        axis = np.array(along) / np.linalg.norm(along)
        nail = np.array(up) - (np.array(up) @ axis) * axis
        knots = np.array(base) + np.concatenate([[0.0], np.cumsum(lengths)])[:, None] * axis
        return Finger(name, knots[:3], knots[3], axis, nail / np.linalg.norm(nail), radii)

    up = (0.0, 1.0, 0.0)
    return (
        finger("index", (0.009, 0.0075, 0.0285), (-1, -0.02, 0.10), up, (35, 23, 22), (10.5, 9.6, 8.6, 7.9)),
        finger("middle", (0.004, 0.0090, 0.0070), (-1, -0.02, 0.01), up, (38, 27, 24), (10.7, 9.8, 8.8, 8.1)),
        finger("pinky", (0.022, 0.0030, -0.0335), (-1, -0.03, -0.20), up, (27, 18, 20), (9.2, 8.1, 7.3, 6.7)),
        finger("ring", (0.010, 0.0070, -0.0140), (-1, -0.02, -0.08), up, (34, 25, 23), (10.3, 9.3, 8.4, 7.7)),
        finger(
            "thumb",
            *((0.076, -0.0060, 0.0300), (-0.66, -0.20, 0.72), (0.20, 0.90, 0.40)),
            *((37, 31, 29), (17.0, 12.6, 11.0, 10.0)),
        ),
    )
