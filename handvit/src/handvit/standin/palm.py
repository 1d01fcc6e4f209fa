"""The palm: rings from the wrist's opening to the webs, which the fingers grow from."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from handvit.standin.anatomy import WRIST, Finger
from handvit.standin.loops import superellipse, zip_loops
from handvit.standin.surface import Surface, quad
from handvit.standin.tubes import ring_round

_WEB = 0.42
"""Where the fingers part: share of the first bone beyond the knuckle."""
_PALM_ROWS = (0.27, 0.42, 0.56, 0.70, 0.86)
"""Shares of the way from the wrist's opening to the webs; the thumb leaves between the first and the fourth."""
_THUMB_COLUMNS = (27, 30)
"""Of the palm's 30, on its +z side below the index finger's: the thumb leaves between them."""
_OPENING_X = 0.112


def add_rim(surface: Surface, fingers: Sequence[Finger]) -> tuple[list[int], list[list[int]]]:
    """The palm's last ring, and the ring that each finger grows from; neighbours share the web between them.

    Corners of a finger's ring: 1 and 4 at its nail's side, 7 and 10 at its pulp's; 2, 3 and 8, 9 between, and 5, 6 and
    11, 0 at the sides. A web is the mean of two neighbours' sides.
    """
    rings = [ring_round(finger, _WEB) for finger in fingers]
    near, far = [1, 0, 11, 10], [4, 5, 6, 7]
    columns = [
        rings[0][near],
        *((a[far] + b[near]) / 2 for a, b in pairwise(rings)),
        rings[-1][far],
    ]
    webs = [surface.add(column) for column in columns]
    over = [surface.add(ring[[2, 3]]) for ring in rings]
    under = [surface.add(ring[[8, 9]]) for ring in rings]
    bases = []
    for number in range(len(fingers)):
        a, b = webs[number], webs[number + 1]
        bases.append([a[1], a[0], *over[number], b[0], b[1], b[2], b[3], *under[number], a[3], a[2]])
    dorsal = [webs[0][0], *(v for n in range(4) for v in (*over[n], webs[n + 1][0]))]
    palmar = [webs[4][3], *(v for n in (3, 2, 1, 0) for v in (*under[n], webs[n][3]))]
    return [*dorsal, webs[4][1], webs[4][2], *palmar, webs[0][2], webs[0][1]], bases


def add_palm(surface: Surface, rim: list[int]) -> list[int]:
    """Rings from the opening to the rim; the ring of vertices that the thumb grows from comes back."""
    rim_points = np.array([surface.points[v] for v in rim])
    turns = _palm_turns()
    rows = [_palm_ring(turns, share, rim_points) for share in _PALM_ROWS]
    first, last = _THUMB_COLUMNS
    grid: list[list[int]] = []
    for number, points in enumerate(rows):
        inside = {c % 30 for c in range(first + 1, last)} if number in (1, 2) else set()
        ids = iter(surface.add(np.delete(points, sorted(inside), axis=0)))
        grid.append([-1 if column in inside else next(ids) for column in range(30)])
    grid.append(rim)
    for number, (row, following) in enumerate(pairwise(grid)):
        for c in range(30):
            d = (c + 1) % 30
            if not (number < 3 and first <= c < last):
                surface.faces += quad(surface, row[c], row[d], following[d], following[c])
    _cuff(surface, grid[0], turns)
    columns = [c % 30 for c in range(first, last + 1)]
    edge = [(0, c) for c in columns] + [(1, columns[-1]), (2, columns[-1])]
    edge += [(3, c) for c in reversed(columns)] + [(2, columns[0]), (1, columns[0])]
    return [grid[row][column] for row, column in edge]


def _palm_turns() -> Float[np.ndarray, "30"]:
    """How far round the palm each of its columns is: 13 over the back, 2 at a side, 13 under it, 2 at a side."""
    back, under = np.linspace(0.05, 0.45, 13), np.linspace(0.55, 0.95, 13)
    return np.concatenate([back, [0.483, 0.517], under, [0.983, 1.017]])


def _palm_ring(
    turns: Float[np.ndarray, "30"], share: float, rim: Float[np.ndarray, "30 3"]
) -> Float[np.ndarray, "30 3"]:
    """Between the wrist's rounded outline and the webs', with the balls of the thumb and of the little finger."""
    start = _outline(turns)
    points: Float[np.ndarray, "30 3"] = start + share * (rim - start)
    swell = np.sin(np.pi * share) * np.sin(2 * np.pi * turns)
    points[:, 1] += 0.0028 * swell
    under = np.clip(-np.sin(2 * np.pi * turns), 0, 1)
    x, z = points[:, 0], points[:, 2]
    thenar = np.exp(-(((x - 0.062) / 0.022) ** 2) - ((z - 0.022) / 0.016) ** 2)
    hypothenar = np.exp(-(((x - 0.062) / 0.026) ** 2) - ((z + 0.024) / 0.014) ** 2)
    hollow = np.exp(-(((x - 0.035) / 0.022) ** 2) - ((z + 0.002) / 0.016) ** 2)
    points[:, 1] -= under * (0.0095 * thenar + 0.0050 * hypothenar - 0.0020 * hollow)
    return points


def _outline(turns: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    """The wrist's opening."""
    across, up = superellipse(2 * np.pi * turns, 2.4).T
    y, z = WRIST[1] - 0.0035 + 0.0175 * up, WRIST[2] - 0.004 + 0.0265 * across
    return np.stack([np.full_like(turns, _OPENING_X), y, z], axis=1)


def _cuff(surface: Surface, row: list[int], turns: Float[np.ndarray, "30"]) -> None:
    """From the palm's first ring to the opening of 16 edges."""
    points = np.array([surface.points[v] for v in row])
    between = np.arange(22) / 22 + 0.01
    order = np.argsort(turns % 1)
    at = [np.interp(between, (turns % 1)[order], points[order, axis], period=1) for axis in range(3)]
    share = 0.48
    middle = surface.add((1 - share) * np.stack(at, axis=1) + share * _outline(between))
    opening = np.arange(16) / 16 + 0.02
    surface.opening = surface.add(_outline(opening))
    ordered = [row[i] for i in order]
    surface.faces += zip_loops(middle, ordered, between.tolist(), np.sort(turns % 1).tolist())
    surface.faces += zip_loops(surface.opening, middle, opening.tolist(), between.tolist())
