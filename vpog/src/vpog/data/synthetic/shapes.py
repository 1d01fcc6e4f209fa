"""Shapes of household things, about 2 across, each with the symmetry that it has without its colours."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vpog.data.synthetic.solid import Solid, joined, lattice, leg, revolved, swept, welded
from vpog.data.synthetic.symmetry import ROUND, Symmetry

SEGMENTS = 60
"""Of a turn: a multiple of 12, so that the corners of a hexagon are among its angles."""
STEP = 2 * np.pi / SEGMENTS
CELLS = 2000
"""Squares on a shape made of flat sides, of two triangles each."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A shape before it is painted."""

    kind: str
    solid: Solid
    symmetry: Symmetry


def random_shape(rng: np.random.Generator, kind: str) -> Shape:
    """One of `KINDS`."""
    solid, symmetry = KINDS[kind](rng)
    return Shape(kind, welded(solid), symmetry)


def _box(rng: np.random.Generator) -> tuple[Solid, Symmetry]:
    sides = rng.permutation([1.0, rng.uniform(0.6, 0.85), rng.uniform(0.3, 0.55)])
    return _blocks([[-s, s] for s in sides], np.ones((1, 1, 1), bool)), Symmetry(2, True)


def _square_box(rng: np.random.Generator) -> tuple[Solid, Symmetry]:
    wide, high = (1.0, rng.uniform(0.3, 0.7)) if rng.random() < 0.5 else (rng.uniform(0.4, 0.7), 1.0)
    return _blocks([[-wide, wide], [-wide, wide], [-high, high]], np.ones((1, 1, 1), bool)), Symmetry(4, True)


def _rounded_box(rng: np.random.Generator) -> tuple[Solid, Symmetry]:
    sides = rng.permutation([1.0, rng.uniform(0.65, 0.85), rng.uniform(0.4, 0.6)])
    radius = float(rng.uniform(0.4, 0.9) * sides.min())
    plain = _blocks([[-s, s] for s in sides], np.ones((1, 1, 1), bool))
    inner = np.clip(plain.points, radius - sides, sides - radius)
    outwards = plain.points - inner
    points = inner + radius * outwards / np.linalg.norm(outwards, axis=1, keepdims=True)
    return Solid(points, plain.faces, np.zeros_like(plain.regions)), Symmetry(2, True)


def _l_shape(rng: np.random.Generator) -> tuple[Solid, Symmetry]:
    thick_x, thick_z = rng.uniform(0.35, 0.8, 2)
    depth, height = rng.uniform(0.35, 0.8), rng.uniform(0.65, 1.0)
    occupied = np.ones((2, 1, 2), bool)
    occupied[1, 0, 1] = False
    return _blocks(
        [[-1.0, -1 + thick_x, 1.0], [-depth, depth], [-height, -height + thick_z, height]], occupied
    ), Symmetry()


def _stairs(rng: np.random.Generator) -> tuple[Solid, Symmetry]:
    x, z = ([-1.0, rng.uniform(-0.6, -0.1), rng.uniform(0.1, 0.6), 1.0] for _ in range(2))
    depth = rng.uniform(0.35, 0.7)
    occupied = np.tri(3, dtype=bool)[:, None, :]
    return _blocks([x, [-depth, depth], [0.8 * tick for tick in z]], occupied), Symmetry()


def _cross(rng: np.random.Generator) -> tuple[Solid, Symmetry]:
    arm, high = rng.uniform(0.25, 0.45), rng.uniform(0.2, 0.5)
    occupied = np.ones((3, 3, 1), bool)
    occupied[::2, ::2] = False
    ticks = [-1.0, -arm, arm, 1.0]
    return _blocks([ticks, ticks, [-high, high]], occupied), Symmetry(4, True)


def _can(rng: np.random.Generator) -> tuple[Solid, Symmetry]:
    return _round_rod(rng.uniform(0.45, 1.0)), Symmetry(ROUND, True)


def _hexagon(rng: np.random.Generator) -> tuple[Solid, Symmetry]:
    radius = float(rng.uniform(0.5, 0.9))
    legs = _rod_legs(radius)

    def outline(angles: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        sector = np.pi / 3
        return np.asarray(1 / np.cos((angles + sector / 2) % sector - sector / 2))

    return revolved(legs, SEGMENTS, outline), Symmetry(6, True)


def _bottle(rng: np.random.Generator) -> tuple[Solid, Symmetry]:
    body, neck = rng.uniform(0.38, 0.55), rng.uniform(0.12, 0.22)
    shoulder, top = rng.uniform(-0.1, 0.3), 1.0
    height = rng.uniform(0.25, 0.45)
    share = np.linspace(0, 1, 12)
    curve = np.stack(
        [body + (neck - body) * (3 * share**2 - 2 * share**3), shoulder + height * share], 1
    )  # smooth at both ends
    legs = [
        leg((0.0, -1.0), (body, -1.0), step=STEP),
        leg((body, -1.0), (body, shoulder), step=1.2 * STEP * body + 0.02),
        curve,
        leg((neck, shoulder + height), (neck, top), step=0.06),
        leg((neck, top), (0.0, top), step=0.07),
    ]
    return revolved(legs, SEGMENTS), Symmetry(ROUND)


def _torus(rng: np.random.Generator) -> tuple[Solid, Symmetry]:
    thick = float(rng.uniform(0.2, 0.36))
    angles = 2 * np.pi / 32 * np.arange(33)
    angles[-1] = 0.0
    ring = np.stack([1 - thick + thick * np.cos(angles), thick * np.sin(angles)], 1)
    return revolved([ring], SEGMENTS), Symmetry(ROUND, True)


def _mug(rng: np.random.Generator) -> tuple[Solid, Symmetry]:
    radius, wall, high = rng.uniform(0.55, 0.75), rng.uniform(0.05, 0.1), rng.uniform(0.65, 0.9)
    inner, step = radius - wall, 0.09
    legs = [
        leg((0.0, -high), (radius, -high), step=step),
        leg((radius, -high), (radius, high), step=step),
        leg((radius, high), (inner, high), step=step),
        leg((inner, high), (inner, wall - high), step=1.6 * step),
        leg((inner, wall - high), (0.0, wall - high), step=1.6 * step),
    ]
    return joined([revolved(legs, SEGMENTS), _handle(rng, radius - wall / 2, high)]), Symmetry()


def _handle(rng: np.random.Generator, at: float, high: float) -> Solid:
    """Half a ring in the plane of x and z that begins and ends in a wall."""
    angles = np.linspace(np.pi / 2, -np.pi / 2, 25)
    out = np.stack([np.cos(angles), np.zeros_like(angles), np.sin(angles)], 1)
    stretch = np.array([rng.uniform(0.4, 0.55), 0.0, rng.uniform(0.5, 0.7) * high])
    centres = out * stretch + np.array([at, 0.0, 0.0])
    normals = out * stretch[[2, 1, 0]]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return swept(centres, normals, np.array([0.0, 1.0, 0.0]), float(rng.uniform(0.08, 0.13)), 14)


def _stack(rng: np.random.Generator) -> tuple[Solid, Symmetry]:
    """A slab with a rod and a ball or cone on it, each off the middle."""
    wide, deep, high = rng.uniform(0.7, 1.0), rng.uniform(0.45, 0.7), rng.uniform(0.15, 0.3)
    slab = _blocks([[-wide, wide], [-deep, deep], [-high, high]], np.ones((1, 1, 1), bool), CELLS // 2)
    rod_radius, rod_high = rng.uniform(0.25, 0.4), rng.uniform(0.3, 0.6)
    rod = _round_rod(0.6, 36).moved((-0.5 * wide, 0.15 * deep, high + rod_high), (rod_radius / 0.6,) * 2 + (rod_high,))
    size = rng.uniform(0.3, 0.45)
    top = _ball() if rng.random() < 0.5 else _cone()
    return joined([slab, rod, top.moved((0.5 * wide, -0.2 * deep, high + 0.7 * size), size)]), Symmetry()


def _wedge(rng: np.random.Generator) -> tuple[Solid, Symmetry]:
    """A box whose top slopes along x and y."""
    sides = np.array([1.0, rng.uniform(0.5, 0.9), rng.uniform(0.5, 0.8)])
    plain = _blocks([[-s, s] for s in sides], np.ones((1, 1, 1), bool))
    slope = 0.5 * (1 + plain.points[:, 2] / sides[2])  # of the top only
    points = plain.points.copy()
    points[:, 2] -= slope * sides[2] * (rng.uniform(0.35, 0.5) * plain.points[:, 0] + rng.uniform(0.2, 0.35))
    points[:, 1] *= 1 - slope * rng.uniform(0.15, 0.4) * 0.5 * (1 + plain.points[:, 0])
    return Solid(points, plain.faces, plain.regions), Symmetry()


KINDS: dict[str, Callable[[np.random.Generator], tuple[Solid, Symmetry]]] = {
    "box": _box,
    "mug": _mug,
    "l_shape": _l_shape,
    "bottle": _bottle,
    "stack": _stack,
    "torus": _torus,
    "rounded_box": _rounded_box,
    "stairs": _stairs,
    "can": _can,
    "wedge": _wedge,
    "cross": _cross,
    "hexagon": _hexagon,
    "square_box": _square_box,
}


def _blocks(breaks: list[list[float]], occupied: np.ndarray, cells: int = CELLS) -> Solid:
    lengths = np.array([ticks[-1] - ticks[0] for ticks in breaks])
    area = 2 * (lengths[[0, 1, 2]] * lengths[[1, 2, 0]]).sum()
    return lattice(breaks, occupied, float(np.sqrt(area / cells)))


def _rod_legs(radius: float, step: float = STEP) -> list[Float64[np.ndarray, "_ 2"]]:
    return [
        leg((0.0, -1.0), (radius, -1.0), step=step),
        leg((radius, -1.0), (radius, 1.0), step=step),
        leg((radius, 1.0), (0.0, 1.0), step=step),
    ]


def _round_rod(radius: float, segments: int = SEGMENTS) -> Solid:
    return revolved(_rod_legs(radius, 2 * np.pi / segments), segments)


def _ball() -> Solid:
    angles = np.linspace(-np.pi / 2, np.pi / 2, 19)
    arc = np.stack([np.cos(angles), np.sin(angles)], 1)
    arc[[0, -1], 0] = 0.0
    return revolved([arc], 36)


def _cone() -> Solid:
    return revolved([leg((0.0, -1.0), (1.0, -1.0), step=0.15), leg((1.0, -1.0), (0.0, 1.2), step=0.15)], 36)


__all__ = ["KINDS", "Shape", "random_shape"]
