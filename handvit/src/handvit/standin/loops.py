"""Rings of vertices and the strips of triangles between them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

Faces = list[tuple[int, int, int]]


def zip_loops(
    first: Sequence[int],
    second: Sequence[int],
    first_turns: Sequence[float] | None = None,
    second_turns: Sequence[float] | None = None,
) -> Faces:
    """Triangles between two closed rings that run the same way, of any lengths: one for each edge of both.

    `turns`: how far round each vertex is, 0 to 1 and ascending; None: evenly.
    """
    a = _closed(len(first), first_turns)
    b = _closed(len(second), second_turns)
    faces: Faces = []
    i = j = 0
    while i < len(first) or j < len(second):
        p, q = first[i % len(first)], second[j % len(second)]
        # The shorter step round comes first, so that no triangle reaches far ahead.
        if j == len(second) or (i < len(first) and a[i + 1] + a[i] <= b[j + 1] + b[j]):
            faces.append((p, first[(i + 1) % len(first)], q))
            i += 1
        else:
            faces.append((p, second[(j + 1) % len(second)], q))
            j += 1
    return faces


def _closed(count: int, turns: Sequence[float] | None) -> list[float]:
    start = [i / count for i in range(count)] if turns is None else list(turns)
    return [*start, start[0] + 1]


def fan(ring: Sequence[int], tip: int) -> Faces:
    """A ring closed by one vertex."""
    return [(vertex, ring[(i + 1) % len(ring)], tip) for i, vertex in enumerate(ring)]


def superellipse(angles: Float[np.ndarray, " n"], exponent: float) -> Float[np.ndarray, "n 2"]:
    """Points (across, up) of a rounded unit square; exponent 2 is the circle."""
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rounded: Float[np.ndarray, "n 2"] = np.sign(circle) * np.abs(circle) ** (2 / exponent)
    return rounded
