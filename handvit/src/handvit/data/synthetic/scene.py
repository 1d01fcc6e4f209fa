"""What surrounds a synthetic hand: backgrounds, things that pass before it, and the forearm that closes its wrist."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int

from handvit.data.synthetic.anatomy import Anatomy

CANVAS_MARGIN = 0.12
"""Room around the picture, share of its longer side, for a camera that shakes."""
SKIN_LIKE = np.array([[0.78, 0.58, 0.47], [0.55, 0.36, 0.26], [0.9, 0.72, 0.62]])


def random_background(rng: np.random.Generator, size: tuple[int, int]) -> Float32[np.ndarray, "h w 3"]:
    """A picture 0..1 of gradients, blotches, shapes, stripes and grain, sharp or out of focus, with its margin."""
    margin = canvas_margin(size)
    height, width = size[0] + 2 * margin, size[1] + 2 * margin
    canvas = _gradient(rng, height, width)
    canvas += _blotches(rng, height, width)
    for _ in range(rng.integers(0, 9)):
        _draw_shape(rng, canvas)
    if rng.random() < 0.25:
        canvas = _striped(rng, canvas)
    if rng.random() < 0.6:
        canvas = cv2.GaussianBlur(canvas, (0, 0), max(0.3, rng.uniform(0.0, 0.04) * min(size)))
    canvas += rng.normal(0, rng.uniform(0, 0.04), (height, width, 1)).astype(np.float32)
    return np.asarray(np.clip(canvas, 0, 1), dtype=np.float32)


def canvas_margin(size: tuple[int, int]) -> int:
    return round(CANVAS_MARGIN * max(size))


def shifted_view(
    canvas: Float32[np.ndarray, "_ _ 3"], size: tuple[int, int], shift_px: Float[np.ndarray, " 2"]
) -> Float32[np.ndarray, "h w 3"]:
    """The canvas as a camera sees it that moves its contents by `shift_px`; beyond its margin the border repeats."""
    offset = shift_px - canvas_margin(size)
    matrix = np.array([[1, 0, offset[0]], [0, 1, offset[1]]])
    view = cv2.warpAffine(canvas, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(view)


@dataclass(frozen=True)
class Occluder:
    """A flat thing that drifts across the picture, pixels."""

    corners: Float[np.ndarray, "n 2"]
    """Relative to its centre, in order."""
    centre: Float[np.ndarray, " 2"]
    velocity: Float[np.ndarray, " 2"]
    """Pixels a frame."""
    color: Float[np.ndarray, " 3"]

    def draw(self, picture: Float32[np.ndarray, "h w 3"], frame: float) -> None:
        """Over the picture, in place, with a soft lower edge."""
        corners = self.corners + self.centre + frame * self.velocity
        for shrink, gain in ((1.0, 0.75), (0.86, 1.0)):
            middle = corners.mean(0)
            outline = np.round((middle + shrink * (corners - middle)) * 16).astype(np.int32)
            color = tuple(float(c) for c in np.clip(gain * self.color, 0, 1))
            fill_smoothly(picture, outline, color)


def random_occluder(rng: np.random.Generator, size: tuple[int, int], at_px: Float[np.ndarray, " 2"]) -> Occluder:
    """A bar, pebble or card near a place in the picture, about a third of a hand across."""
    side = min(size)
    corners = rng.integers(4, 9)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    axes = side * rng.uniform(0.05, 0.14, 2) * (1 if rng.random() < 0.6 else np.array([3.0, 0.6]))
    outline = axes * np.stack([np.cos(angles), np.sin(angles)], 1) @ _turn_2d(rng.uniform(0, np.pi))
    place = at_px + side * rng.normal(0, 0.18, 2)
    return Occluder(outline, place, side * rng.normal(0, 0.012, 2), _paint(rng))


FOREARM_RINGS_M = (0.012, 0.04, 0.09, 0.15, 0.21)
"""How far beyond the wrist's edge the forearm's rings lie."""
FOREARM_WIDTHS = (1.0, 1.02, 1.12, 1.24, 1.32)
"""Of the rings, against the wrist's edge."""


def forearm_faces(loop: Int[np.ndarray, " n"], first_vertex: int) -> Int[np.ndarray, "f 3"]:
    """Rings from the wrist's edge outwards, numbered from `first_vertex`; the last vertex closes the end."""
    count = len(loop)
    rings = [loop, *(first_vertex + count * ring + np.arange(count) for ring in range(len(FOREARM_RINGS_M)))]
    faces = []
    for inner, outer in pairwise(rings):
        inner_next, outer_next = np.roll(inner, -1), np.roll(outer, -1)
        faces += [np.stack([inner, outer, inner_next], 1), np.stack([inner_next, outer, outer_next], 1)]
    cap = np.full(count, first_vertex + count * len(FOREARM_RINGS_M))
    faces.append(np.stack([rings[-1], cap, np.roll(rings[-1], -1)], 1))
    return np.concatenate(faces)


def forearm_vertices(
    edge: Float[np.ndarray, "t n 3"], direction: Float[np.ndarray, "t 3"]
) -> Float[np.ndarray, "t m 3"]:
    """Rings of a forearm that leaves the wrist's posed edge in a direction (unit), and the centre of its end."""
    middle = edge.mean(1, keepdims=True)
    rings = [
        middle + width * (edge - middle) + reach * direction[:, None]
        for reach, width in zip(FOREARM_RINGS_M, FOREARM_WIDTHS, strict=True)
    ]
    return np.concatenate([*rings, middle + FOREARM_RINGS_M[-1] * direction[:, None]], 1)


def random_forearm(rng: np.random.Generator, anatomy: Anatomy) -> Float[np.ndarray, " 3"]:
    """Direction of the forearm in the hand's rest frame: away from the fingers, the wrist bent a little."""
    side = np.cross(anatomy.palm, anatomy.forward)
    direction = -anatomy.forward + rng.normal(0, 0.3) * anatomy.palm + rng.normal(0, 0.15) * side
    return np.asarray(direction / np.linalg.norm(direction))


def _paint(rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """A colour of things around us: any brightness, mostly little saturation."""
    hue = rng.uniform(-1, 1, 3)
    return np.asarray(np.clip(rng.uniform(0.08, 0.92) + 0.4 * rng.random() ** 1.8 * (hue - hue.mean()), 0, 1))


def _gradient(rng: np.random.Generator, height: int, width: int) -> Float32[np.ndarray, "h w 3"]:
    corners = np.clip(_paint(rng) + rng.normal(0, 0.1, (2, 2, 1)) + rng.normal(0, 0.04, (2, 2, 3)), 0, 1)
    corners = corners.astype(np.float32)
    return np.asarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR))


def _blotches(rng: np.random.Generator, height: int, width: int) -> Float32[np.ndarray, "h w 3"]:
    """Noise of two scales, somewhat coloured."""
    total = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((rng.integers(3, 6), 0.16), (rng.integers(10, 24), 0.08)):
        grey = rng.normal(0, 1, (cells, cells, 1)) + rng.normal(0, 0.25, (cells, cells, 3))
        grown = cv2.resize(grey.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        total += strength * rng.uniform(0, 1) * grown
    return total


def _draw_shape(rng: np.random.Generator, canvas: Float32[np.ndarray, "h w 3"]) -> None:
    height, width = canvas.shape[:2]
    is_skin = rng.random() < 0.15
    color = SKIN_LIKE[rng.integers(len(SKIN_LIKE))] * rng.uniform(0.6, 1.1) if is_skin else _paint(rng)
    corners = rng.integers(3, 9) if rng.random() < 0.7 else 24
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners)) if corners < 24 else np.linspace(0, 2 * np.pi, 24)
    axes = max(height, width) * rng.uniform(0.04, 0.4, 2)
    outline = axes * np.stack([np.cos(angles), np.sin(angles)], 1) @ _turn_2d(rng.uniform(0, np.pi))
    outline += rng.uniform(0, 1, 2) * [width, height]
    fill_smoothly(canvas, np.round(outline * 16).astype(np.int32), tuple(float(min(c, 1.0)) for c in color))


def _striped(rng: np.random.Generator, canvas: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    y, x = np.indices(canvas.shape[:2], np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.04, 0.25) * max(canvas.shape)
    wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * (2 * np.pi / period))
    strength = (rng.normal(0, 0.12) + rng.normal(0, 0.04, 3)).astype(np.float32)
    return np.asarray(canvas + np.tanh(3 * wave)[..., None].astype(np.float32) * strength)


def fill_smoothly(
    picture: Float32[np.ndarray, "h w 3"], corners: Int[np.ndarray, "n 2"], color: tuple[float, ...]
) -> None:
    """A polygon (sixteenths of a pixel) over the picture, in place, with an antialiased border.

    OpenCV antialiases 8-bit pictures only, hence the mask.
    """
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, 4)
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return
    part = picture[y : y + height, x : x + width]
    cover = mask[y : y + height, x : x + width, None].astype(np.float32) / 255
    part += cover * (np.asarray(color, np.float32) - part)


def _turn_2d(angle: float) -> Float[np.ndarray, "2 2"]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
