"""Colours for the vertices of a shape: a ground that differs from side to side, with a pattern and marks on it."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float64, Int64, UInt8

Points = Float64[np.ndarray, "n 3"]
Ground = Literal["gradient", "patches", "sides"]
Pattern = Literal["none", "stripes", "checker", "noise", "glyphs"]
GROUNDS: tuple[Ground, ...] = ("gradient", "patches", "sides")
PATTERNS: tuple[Pattern, ...] = ("none", "stripes", "checker", "noise", "glyphs")


@dataclass(frozen=True)
class Canvas:
    """Where the colours go. A symmetric object hands over coordinates that are equal at symmetric places."""

    points: Points
    """Inside -1..1."""
    regions: Int64[np.ndarray, " n"]


def random_paint(
    rng: np.random.Generator, canvas: Canvas, ground: Ground, patterns: tuple[Pattern, ...]
) -> UInt8[np.ndarray, "n 3"]:
    """Colours; equal where point and region are."""
    colors = _GROUNDS[ground](rng, canvas)
    for pattern in patterns:
        colors = _PATTERNS[pattern](rng, canvas, colors)
    return np.asarray(np.round(255 * np.clip(colors, 0.02, 1)), dtype=np.uint8)


def _gradient(rng: np.random.Generator, canvas: Canvas) -> Points:
    """Each direction of space is a direction of the colour cube: no two sides are alike."""
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(0.5 + 0.5 * np.tanh(1.3 * canvas.points @ axes))


def _patches(rng: np.random.Generator, canvas: Canvas) -> Points:
    """The surface falls to the nearest of some of its points, each with a hue of its own."""
    count = int(rng.integers(9, 16))
    seeds = _spread_points(rng, canvas.points, count)
    nearest = ((canvas.points[:, None] - seeds) ** 2).sum(-1).argmin(1)
    return np.asarray(0.7 * _palette(rng, count)[nearest] + 0.3 * _gradient(rng, canvas))


def _sides(rng: np.random.Generator, canvas: Canvas) -> Points:
    """A hue for each side or part, over a weaker gradient that tells its places apart."""
    palette = _palette(rng, int(canvas.regions.max()) + 1)
    return np.asarray(0.6 * palette[canvas.regions] + 0.4 * _gradient(rng, canvas))


def _stripes(rng: np.random.Generator, canvas: Canvas, colors: Points) -> Points:
    along = _unit(rng.normal(size=3))
    wave = np.sin(rng.uniform(6, 12) * canvas.points @ along + rng.uniform(0, 2 * np.pi))
    return _tinted(rng, colors, 0.5 + 0.5 * np.tanh(4 * wave))


def _checker(rng: np.random.Generator, canvas: Canvas, colors: Points) -> Points:
    waves = np.sin(rng.uniform(4, 7) * canvas.points + rng.uniform(0.5, 2.5, 3))
    return _tinted(rng, colors, 0.5 + 0.5 * np.tanh(6 * waves.prod(1)))


def _noise(rng: np.random.Generator, canvas: Canvas, colors: Points) -> Points:
    """A sum of waves in random directions."""
    directions = rng.normal(size=(24, 3))
    directions *= rng.uniform(4, 12, (24, 1)) / np.linalg.norm(directions, axis=1, keepdims=True)
    waves = np.sin(canvas.points @ directions.T + rng.uniform(0, 2 * np.pi, 24)).sum(1) / np.sqrt(12)
    return _tinted(rng, colors, np.clip(0.5 + 0.5 * waves, 0, 1))


def _glyphs(rng: np.random.Generator, canvas: Canvas, colors: Points) -> Points:
    """Black or white signs of two or three strokes."""
    result = colors.copy()
    for anchor in _spread_points(rng, canvas.points, 10):
        strokes = anchor + 0.42 * rng.uniform(-1, 1, (int(rng.integers(3, 5)), 3))
        thickness = rng.uniform(0.05, 0.08)
        for start, end in pairwise(strokes):
            result[_distance(canvas.points, start, end) < thickness] = rng.choice([0.04, 0.98])
    return result


_GROUNDS: dict[Ground, Callable[[np.random.Generator, Canvas], Points]] = {
    "gradient": _gradient,
    "patches": _patches,
    "sides": _sides,
}
_PATTERNS: dict[Pattern, Callable[[np.random.Generator, Canvas, Points], Points]] = {
    "none": lambda rng, canvas, colors: colors,
    "stripes": _stripes,
    "checker": _checker,
    "noise": _noise,
    "glyphs": _glyphs,
}


def _tinted(rng: np.random.Generator, colors: Points, share: Float64[np.ndarray, " n"]) -> Points:
    """Darker, lighter or turned to another hue where the share is 1."""
    kind, strength = rng.integers(3), rng.uniform(0.4, 0.65)
    target = (np.zeros_like(colors), np.ones_like(colors), np.roll(colors, 1, axis=1))[kind]
    weight = (strength if kind < 2 else 0.9) * share[:, None]
    return np.asarray(colors + weight * (target - colors))


def _palette(rng: np.random.Generator, count: int) -> Float64[np.ndarray, "k 3"]:
    """Hues all round the circle in random order, of differing saturation and brightness."""
    hues = (360 * (rng.permutation(count) + rng.uniform(0, 1)) / count) % 360
    hsv = np.stack([hues, rng.uniform(0.45, 1, count), rng.uniform(0.3, 1, count)], 1).astype(np.float32)
    return np.asarray(cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0], dtype=np.float64)


def _spread_points(rng: np.random.Generator, points: Points, count: int) -> Float64[np.ndarray, "k 3"]:
    """Places of the surface that keep away from each other: each the farthest of a few drawn ones."""
    chosen = [points[rng.integers(len(points))]]
    while len(chosen) < count:
        drawn = points[rng.integers(len(points), size=6)]
        gaps = np.linalg.norm(drawn[:, None] - np.stack(chosen), axis=-1).min(1)
        chosen.append(drawn[gaps.argmax()])
    return np.stack(chosen)


def _distance(points: Points, start: Float64[np.ndarray, "3"], end: Float64[np.ndarray, "3"]) -> np.ndarray:
    along = end - start
    share = np.clip((points - start) @ along / (along @ along), 0, 1)
    return np.asarray(np.linalg.norm(points - start - share[:, None] * along, axis=1))


def _unit(vector: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3"]:
    return np.asarray(vector / np.linalg.norm(vector))
