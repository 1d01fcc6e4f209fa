"""Closed surfaces as dense grids of points, from which shapes are put together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64

SAME_PLACE = 1e-12
"""Points of one region closer than this are one vertex; shapes are about 2 across."""


@dataclass(frozen=True, eq=False)
class Solid:
    """Triangles that run counter-clockwise seen from outside."""

    points: Float64[np.ndarray, "v 3"]
    faces: Int64[np.ndarray, "f 3"]
    regions: Int64[np.ndarray, " v"]
    """Which side or part a vertex belongs to; those of two regions are two vertices even at the same place."""

    def moved(
        self, offset: Sequence[float] | Float64[np.ndarray, "3"], scale: Sequence[float] | float = 1.0
    ) -> "Solid":
        """Scaled (by positive factors), then shifted."""
        return Solid(self.points * np.asarray(scale) + np.asarray(offset), self.faces, self.regions)


def joined(parts: Sequence[Solid]) -> Solid:
    """All parts as they lie; regions of different parts stay different."""
    points = np.cumsum([0, *(len(part.points) for part in parts)])
    regions = np.cumsum([0, *(int(part.regions.max()) + 1 for part in parts)])
    return Solid(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.faces + first for part, first in zip(parts, points, strict=False)]),
        np.concatenate([part.regions + first for part, first in zip(parts, regions, strict=False)]),
    )


def welded(solid: Solid) -> Solid:
    """Vertices of one region at one place become one; triangles without area go."""
    keys = np.column_stack([np.round(solid.points / SAME_PLACE).astype(np.int64), solid.regions])
    _, first, vertex = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    faces = vertex.reshape(-1)[solid.faces]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    # two regions at one place must agree to the last digit, or the renderer takes their border for a gap
    places = np.round(solid.points[first] / SAME_PLACE) * SAME_PLACE
    return Solid(places, faces[whole].astype(np.int64), solid.regions[first])


def grid(points: Float64[np.ndarray, "m n 3"], region: int = 0) -> Solid:
    """A sheet; its outside is where (along the first axis) x (along the second) points."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.reshape(-1) for part in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return Solid(points.reshape(-1, 3), faces, np.full(rows * columns, region))


def lattice(
    breaks: Sequence[Sequence[float]],
    occupied: Bool[np.ndarray, "nx ny nz"],
    step: float,
) -> Solid:
    """The outside of the occupied cells of a lattice; one region for each of the six directions.

    Args:
        breaks: Rising coordinates of the cells' borders along x, y and z.
        step: Largest edge of the triangles' grid.
    """
    fine = [_refined(values, step) for values in breaks]
    padded = np.pad(occupied, 1)
    sheets = []
    for axis in range(3):
        across = ((axis + 1) % 3, (axis + 2) % 3)
        for sign in (-1, 1):
            bare = occupied & ~np.roll(padded, -sign, axis)[1:-1, 1:-1, 1:-1]
            for cell in np.argwhere(bare):
                height = breaks[axis][cell[axis] + (sign > 0)]
                sheets.append(_side(axis, across, sign, height, [fine[k][cell[k]] for k in across]))
    return Solid(
        np.concatenate([sheet.points for sheet in sheets]),
        joined(sheets).faces,
        np.concatenate([sheet.regions for sheet in sheets]),
    )


def _refined(values: Sequence[float], step: float) -> list[Float64[np.ndarray, " _"]]:
    return [np.linspace(low, high, max(1, round((high - low) / step)) + 1) for low, high in pairwise(values)]


def _side(
    axis: int, across: tuple[int, int], sign: int, height: float, ticks: Sequence[Float64[np.ndarray, " _"]]
) -> Solid:
    first, second = np.meshgrid(*ticks, indexing="ij")
    points = np.empty((*first.shape, 3))
    points[..., axis], points[..., across[0]], points[..., across[1]] = height, first, second
    return grid(points if sign > 0 else points.swapaxes(0, 1), 2 * axis + (sign > 0))


def revolved(
    legs: Sequence[Float64[np.ndarray, "_ 2"]],
    segments: int,
    outline: Callable[[Float64[np.ndarray, " n"]], Float64[np.ndarray, " n"]] | None = None,
) -> Solid:
    """Turned about z.

    Args:
        legs: (radius, z) from the lower end of the axis outwards, up, and back to the axis; each leg is a region.
        segments: In the whole turn.
        outline: Factor of the radius by angle; none: a circle.
    """
    angles = 2 * np.pi / segments * np.arange(segments + 1)
    angles[-1] = 0.0  # so that both ends of the turn are equal to the last digit
    factor = np.ones_like(angles) if outline is None else outline(angles)
    sheets = []
    for region, leg in enumerate(legs):
        radius = factor[:, None] * leg[None, :, 0]
        x, y = np.cos(angles)[:, None] * radius, np.sin(angles)[:, None] * radius
        sheets.append(grid(np.stack([x, y, np.broadcast_to(leg[:, 1], x.shape)], -1), region))
    return joined(sheets)


def leg(*corners: tuple[float, float], step: float) -> Float64[np.ndarray, "n 2"]:
    """A line through (radius, z) corners with points at most about `step` apart."""
    pieces = [np.array(corners[:1])]
    for start, end in pairwise(corners):
        count = max(1, round(float(np.hypot(end[0] - start[0], end[1] - start[1])) / step))
        pieces.append(np.linspace(start, end, count + 1)[1:])
    return np.concatenate(pieces)


def swept(
    centres: Float64[np.ndarray, "n 3"],
    outwards: Float64[np.ndarray, "n 3"],
    side: Float64[np.ndarray, "3"],
    radius: float,
    around: int,
) -> Solid:
    """A round tube along a plane curve; `side` is the plane's normal, so that outwards x side is the way it runs."""
    angles = 2 * np.pi / around * np.arange(around + 1)
    angles[-1] = 0.0
    ring = np.cos(angles)[:, None, None] * outwards + np.sin(angles)[:, None, None] * side
    return grid(centres + radius * ring)
