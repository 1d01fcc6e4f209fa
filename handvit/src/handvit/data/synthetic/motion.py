"""What a synthetic hand and its camera do over a clip: poses, root, intrinsics, times. Geometry only; no pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from handvit.data.synthetic.anatomy import Anatomy, finger_rotations, random_angles, turn

FRAME_MS = 1000 / 30
"""Time between frames of the synthetic camera."""
KEY_SPACING = 9
"""Frames from one key pose to the next."""
SMOOTHING = 9
"""Width of the Hann window over the line between key poses, frames; odd."""


@dataclass(frozen=True)
class Difficulty:
    """How far synthetic clips vary, and how much the pictures suffer. Labels stay exact."""

    depth_mm: tuple[float, float] = (350.0, 1100.0)
    """Least and greatest depth of the wrist."""
    fill: tuple[float, float] = (0.45, 0.85)
    """Length of the outstretched hand as a share of the picture's shorter side; the focal length follows from it."""
    rotation_range_deg: float = 180.0
    """The root turns this far from fingers up, palm towards the camera; 180: anywhere, uniformly."""
    articulation: float = 1.0
    """Share of the anatomical range of the fingers that is used."""
    shape_std: float = 1.0
    """Standard deviation of the shape coefficients, limited to two of it."""
    off_centre: float = 0.6
    """How much of the room beside the hand it strays into; above 1 it is cut off by the picture's border."""
    occluders: float = 0.25
    """Share of clips in which something passes before the hand."""
    blur: float = 0.15
    """Share of frames with motion blur."""
    noise: float = 0.03
    """Greatest standard deviation of sensor noise, of a full range of 1; each frame has its own noise."""
    glove: float = 0.0
    """Share of clips in which the hand wears a glove whose fingers have colours of their own (after Wang and Popovic,
    Real-time hand-tracking with a color glove, SIGGRAPH 2009): a small network tells them apart much sooner."""
    dropped_frames: float = 0.1
    """Share of frames that the camera lost: times jump there."""
    camera_shake_deg: float = 0.4
    """Standard deviation of the camera's unsteadiness."""


STANDARD = Difficulty()


@dataclass(frozen=True)
class Motion:
    """T frames of a right hand before a camera; radians, metres, pixels, milliseconds."""

    rotations: Float[np.ndarray, "t 16 3 3"]
    """Of MANO's joints, the root's in the frame of a steady camera."""
    betas: Float[np.ndarray, " 10"]
    centre_px: Float[np.ndarray, "t 2"]
    """Where the middle of the joints is seen by a steady camera."""
    depth_m: Float[np.ndarray, " t"]
    """Of the wrist, from a steady camera."""
    shake: Float[np.ndarray, "t 3"]
    """Axis-angle that turns the whole scene before the camera."""
    K: Float[np.ndarray, "3 3"]
    timestamp_ms: Float[np.ndarray, " t"]


def random_motion(
    rng: np.random.Generator, anatomy: Anatomy, frames: int, size: tuple[int, int], difficulty: Difficulty
) -> Motion:
    """Draw a clip; over several frames everything moves smoothly.

    Args:
        size: Height and width of the pictures.
    """
    kept = _kept_frames(rng, frames, difficulty.dropped_frames)
    depth = rng.uniform(*difficulty.depth_mm) / 1000
    fill = rng.uniform(*difficulty.fill)
    K = _intrinsics(rng, size, fill * min(size) * depth / anatomy.length)
    angles = smooth_track(rng, lambda n: random_angles(rng, n, difficulty.articulation), kept)
    sway = smooth_track(rng, lambda n: rng.normal(0, 0.35 if frames > 1 else 0.0, (n, 3)), kept)
    low, high = (bound / 1000 for bound in difficulty.depth_mm)
    depths = np.clip(smooth_track(rng, lambda n: depth + rng.normal(0, 0.03, n), kept), low, high)
    return Motion(
        rotations=np.concatenate(
            [(turn(sway) @ _root(rng, anatomy, difficulty))[:, None], finger_rotations(anatomy, angles)], 1
        ),
        betas=difficulty.shape_std * np.clip(rng.normal(size=10), -2, 2),
        centre_px=_centres(rng, kept, size, fill, difficulty.off_centre),
        depth_m=depths,
        shake=smooth_track(rng, lambda n: rng.normal(0, np.radians(difficulty.camera_shake_deg), (n, 3)), kept, 3, 3),
        K=K,
        timestamp_ms=kept * FRAME_MS,
    )


def smooth_track(
    rng: np.random.Generator,
    draw: Callable[[int], np.ndarray],
    at: Float[np.ndarray, " t"],
    spacing: int = KEY_SPACING,
    smoothing: int = SMOOTHING,
) -> np.ndarray:
    """A path through random keys, read at frames `at` (ascending from 0): (t, ...).

    Every point is a convex mixture of keys, so limits that hold for them hold on the way.

    Args:
        draw: Gives n keys, (n, ...).
    """
    half = smoothing // 2
    last = int(at[-1]) + 2 * half
    keys = draw(last // spacing + 3)
    position = (np.arange(last + 1) + rng.uniform(0, spacing)) / spacing
    before = position.astype(int)
    share = (position - before).reshape(-1, *[1] * (keys.ndim - 1))
    line = (1 - share) * keys[before] + share * keys[before + 1]
    window = np.hanning(smoothing + 2)[1:-1]
    smooth: np.ndarray = sliding_window_view(line, smoothing, axis=0) @ (window / window.sum())
    return np.asarray(smooth[at.astype(int)])


def _kept_frames(rng: np.random.Generator, frames: int, dropped: float) -> Float[np.ndarray, " t"]:
    """Numbers of the frames that were not lost, from 0."""
    lost = rng.geometric(1 - dropped, frames) - 1
    lost[0] = 0
    return np.asarray(np.arange(frames) + np.cumsum(lost), dtype=np.float64)


def _intrinsics(rng: np.random.Generator, size: tuple[int, int], focal: float) -> Float[np.ndarray, "3 3"]:
    """Pixels not quite square, the optical axis off the picture's middle, as after a crop."""
    height, width = size
    cx = (width - 1) / 2 + rng.normal(0, 0.12) * width
    cy = (height - 1) / 2 + rng.normal(0, 0.12) * height
    return np.array([[focal, 0, cx], [0, focal * rng.uniform(0.97, 1.03), cy], [0, 0, 1]])


def _root(rng: np.random.Generator, anatomy: Anatomy, difficulty: Difficulty) -> Float[np.ndarray, "3 3"]:
    """Turned from fingers up (-y), palm towards the camera (-z), by up to the range about any axis."""
    hand_axes = np.stack([anatomy.forward, anatomy.palm, np.cross(anatomy.forward, anatomy.palm)], 1)
    upright = np.stack([[0.0, -1, 0], [0.0, 0, -1], [1.0, 0, 0]], 1) @ hand_axes.T
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    limit = np.radians(difficulty.rotation_range_deg)
    return np.asarray(turn(axis * _uniform_angle(rng, limit)) @ upright)


def _uniform_angle(rng: np.random.Generator, limit: float) -> float:
    """Angle of a rotation drawn uniformly from those of at most `limit` radians: density 1 - cos."""
    angles = np.linspace(0, limit, 1025)
    share = angles - np.sin(angles)
    return float(np.interp(rng.random() * share[-1], share, angles))


def _centres(
    rng: np.random.Generator, kept: Float[np.ndarray, " t"], size: tuple[int, int], fill: float, off_centre: float
) -> Float[np.ndarray, "t 2"]:
    ends = np.array([size[1], size[0]], float)
    room = off_centre * np.maximum(ends - 0.8 * fill * min(size), 0.1 * ends) / 2
    start = rng.uniform(-1, 1, 2)
    path = smooth_track(rng, lambda n: np.clip(start + rng.normal(0, 0.25, (n, 2)), -1, 1), kept)
    return np.asarray((ends - 1) / 2 + room * path)
