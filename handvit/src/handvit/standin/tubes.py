"""Fingers as tubes of rings with rounded ends."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from handvit.standin.anatomy import Finger
from handvit.standin.loops import fan, zip_loops
from handvit.standin.surface import Surface, quad

_SIDES = 12


def ring_round(finger: Finger, bone: float, sides: int = _SIDES) -> Float[np.ndarray, "sides 3"]:
    """An ellipse round the finger, from its side (+z for fingers) over the nail's side; pulp hangs below the bone."""
    angles = np.deg2rad(15.0) + 2 * np.pi * np.arange(sides) / sides
    half = finger.half_width(bone) * _rounding(bone)
    across, up = np.cos(angles), np.sin(angles)
    flat = np.where(up > 0, 0.86 - 0.12 * max(bone - 2, 0), 1.0)  # flatter where the nail is
    centre = finger.at(bone) - 0.08 * finger.half_width(bone) * finger.up
    points: Float[np.ndarray, "sides 3"] = centre + half * (
        across[:, None] * finger.side + (0.93 * flat * up)[:, None] * finger.up
    )
    return points


def _rounding(bone: float) -> float:
    """How far a ring near the tip has shrunk: the tip is an ellipsoid of 0.55 bones."""
    into_tip = max(bone - 2.45, 0.0) / 0.55
    return float(np.sqrt(max(1 - into_tip**2, 0.0)))


def add_tube(
    surface: Surface, base: list[int], number: int, finger: Finger,
    rings: Sequence[float], cap: Sequence[tuple[float, int]],
) -> None:  # fmt: skip
    """Rings along a finger and its rounded end. The base is turned to where its edges are shortest."""
    previous = _aligned(np.array([surface.points[v] for v in base]), ring_round(finger, rings[0]), base)
    for bone in rings:
        ring = surface.add(ring_round(finger, bone), number, bone)
        for i in range(_SIDES):
            j = (i + 1) % _SIDES
            surface.faces += quad(surface, previous[i], previous[j], ring[j], ring[i])
        previous = ring
    for bone, sides in cap:
        ring = surface.add(ring_round(finger, bone, sides), number, bone)
        surface.faces += zip_loops(previous, ring)
        previous = ring
    (tip,) = surface.add(finger.tip[None] - 0.08 * finger.half_width(3.0) * finger.up, number, 3.0)
    surface.faces += fan(previous, tip)
    surface.tips[finger.name] = [tip, *previous]


def _aligned(points: Float[np.ndarray, "12 3"], ring: Float[np.ndarray, "12 3"], base: list[int]) -> list[int]:
    def total(turned: Int[np.ndarray, "12"]) -> float:
        return float(np.square(points[turned] - ring).sum())

    ways = [np.roll(np.arange(_SIDES)[::step], shift) for step in (1, -1) for shift in range(_SIDES)]
    return [base[i] for i in min(ways, key=total)]
