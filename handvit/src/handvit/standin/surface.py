"""A surface in the making: vertices that know what they belong to, faces, and smoothing."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from handvit.standin.loops import Faces

_SMOOTHING_STEPS = 12


@dataclass
class Surface:
    """Vertices with what they belong to, and faces, in the order of making."""

    points: list[Float[np.ndarray, "3"]] = field(default_factory=list)
    finger: list[int] = field(default_factory=list)
    """Index into the anatomy; -1 is the palm."""
    bone: list[float] = field(default_factory=list)
    """Where along the finger: joint number and share of the bone beyond it; 0 on the palm."""
    faces: Faces = field(default_factory=list)
    tips: dict[str, list[int]] = field(default_factory=dict)
    """Per finger the tip's vertex, then the ring round it."""
    opening: list[int] = field(default_factory=list)

    def add(self, points: Float[np.ndarray, "n 3"], finger: int = -1, bone: float = 0.0) -> list[int]:
        first = len(self.points)
        self.points.extend(points)
        self.finger.extend([finger] * len(points))
        self.bone.extend([bone] * len(points))
        return list(range(first, len(self.points)))


def quad(surface: Surface, a: int, b: int, c: int, d: int) -> Faces:
    """Two triangles, cut along the shorter diagonal."""
    p, q, r, s = (surface.points[v] for v in (a, b, c, d))
    if np.square(p - r).sum() <= np.square(q - s).sum():
        return [(a, b, c), (a, c, d)]
    return [(a, b, d), (b, c, d)]


def smooth(surface: Surface) -> None:
    """Palm, webs and the thumb's root are evened out without shrinking (Taubin 1995); the rest stays."""
    points = np.array(surface.points)
    moving = (np.array(surface.finger) < 0) | (np.array(surface.bone) < 0.8)
    moving[surface.opening] = False
    average = neighbour_average(np.array(surface.faces), len(points))
    for _ in range(_SMOOTHING_STEPS):
        for step in (0.5, -0.53):
            points[moving] += step * (average @ points - points)[moving]
    surface.points = list(points)


def neighbour_average(faces: Int[np.ndarray, "f 3"], count: int) -> Float[np.ndarray, "v v"]:
    """The matrix that takes values at vertices to the means over their neighbours."""
    linked = np.zeros((count, count))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        linked[faces[:, a], faces[:, b]] = linked[faces[:, b], faces[:, a]] = 1
    means: Float[np.ndarray, "v v"] = linked / linked.sum(axis=1, keepdims=True)
    return means
