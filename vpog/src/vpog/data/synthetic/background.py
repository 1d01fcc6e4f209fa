"""What is behind the objects."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float32, Float64

from vpog.data.synthetic.options import BackgroundKind

Picture = Float32[np.ndarray, "h w 3"]


def random_background(rng: np.random.Generator, kind: BackgroundKind, size_hw: tuple[int, int]) -> Picture:
    """A picture, 0 to 1."""
    return np.asarray(np.clip(_KINDS[kind](rng, size_hw), 0, 1), dtype=np.float32)


def _plain(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    return np.broadcast_to(_color(rng).astype(np.float32), (*size_hw, 3)).copy()


def _gradient(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    corners = np.clip(_color(rng) + rng.normal(0, 0.15, (2, 2, 1)) + rng.normal(0, 0.05, (2, 2, 3)), 0, 1)
    return np.asarray(cv2.resize(corners.astype(np.float32), size_hw[::-1], interpolation=cv2.INTER_LINEAR))


def _noise(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    """Blotches of two sizes over a gradient."""
    picture = _gradient(rng, size_hw)
    for cells, strength in ((rng.integers(3, 7), 0.25), (rng.integers(12, 40), 0.15)):
        grey = rng.normal(0, 1, (cells, cells, 1)) + rng.normal(0, 0.5, (cells, cells, 3))
        grown = cv2.resize(grey.astype(np.float32), size_hw[::-1], interpolation=cv2.INTER_CUBIC)
        picture += np.float32(strength * rng.uniform(0.3, 1)) * grown
    return picture


def _photo(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    """A wall, a table, and things on it that are out of focus."""
    height, width = size_hw
    picture = _noise(rng, size_hw)
    horizon = int(rng.uniform(0.2, 0.8) * height)
    picture[horizon:] += (0.6 * (_color(rng) - picture[horizon:].mean((0, 1)))).astype(np.float32)
    drawn = (255 * np.clip(picture, 0, 1)).astype(np.uint8)
    for _ in range(int(rng.integers(4, 14))):
        corners = int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        axes = max(size_hw) * rng.uniform(0.03, 0.22, 2)
        outline = axes * np.stack([np.cos(angles), np.sin(angles)], 1) + rng.uniform(0, 1, 2) * [width, height]
        color = (255 * _color(rng)).tolist()
        cv2.fillPoly(drawn, [np.round(16 * outline).astype(np.int32)], color, cv2.LINE_AA, 4)
    blur = rng.uniform(0.3, 0.02 * max(size_hw))
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), blur), dtype=np.float32) / np.float32(255)


def _color(rng: np.random.Generator) -> Float64[np.ndarray, "3"]:
    """As of things around us: any brightness, mostly little saturation."""
    hue = rng.uniform(-1, 1, 3)
    return np.asarray(np.clip(rng.uniform(0.08, 0.92) + 0.45 * rng.random() ** 1.5 * (hue - hue.mean()), 0, 1))


_KINDS: dict[BackgroundKind, Callable[[np.random.Generator, tuple[int, int]], Picture]] = {
    "plain": _plain,
    "gradient": _gradient,
    "noise": _noise,
    "photo": _photo,
}
