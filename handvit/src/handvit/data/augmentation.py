"""The geometric draw of one clip: a new camera, another distance, and the error of a detector's box."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

from handvit.config.augmentation import AugmentationConfig


def _zeros(count: int) -> Float[np.ndarray, " {count}"]:
    return np.zeros(count)


@dataclass(frozen=True)
class GeometricDraw:
    """Shared by the frames of a clip. The defaults change nothing but the box (`box`)."""

    rotation_rad: float = 0.0
    """The camera's roll, before the tilt."""
    tilt: Float[np.ndarray, " 3"] = field(default_factory=lambda: _zeros(3))
    """Axis-angle."""
    rigid_depth: float = 1.0
    """The hand moves along its ray to this times its distance."""
    depth_scale: float = 1.0
    """All depths times this; stretches the hand."""
    focal_scale: float = 1.0
    princpt_noise: Float[np.ndarray, " 2"] = field(default_factory=lambda: _zeros(2))
    """The principal point moves by this share of its distance from the first pixel."""
    box: Literal["joints", "corners"] = "corners"
    """What the new box is the tight box of: the moved valid joints, or the old box's corners."""
    box_shift: Float[np.ndarray, " 2"] = field(default_factory=lambda: _zeros(2))
    """Shares of the box's longer side."""
    box_scale: float = 1.0


def draw_geometry(rng: np.random.Generator, config: AugmentationConfig) -> GeometricDraw | None:
    """One clip's draw; None where augmentation is off. The same state of `rng` gives the same draw."""
    if not config.enabled:
        return None
    direction = rng.uniform(0.0, 2 * math.pi)
    tilt_rad = math.radians(config.tilt_max_deg) * rng.uniform()
    return GeometricDraw(
        rotation_rad=math.radians(config.rotation_deg) * rng.uniform(),
        tilt=tilt_rad * np.array([math.cos(direction), math.sin(direction), 0.0]),
        rigid_depth=rng.uniform(*config.rigid_depth),
        depth_scale=rng.uniform(*config.depth_scale),
        focal_scale=rng.uniform(*config.focal_scale),
        princpt_noise=config.princpt_std * rng.standard_normal(2),
        box=config.box,
        box_shift=config.box_shift * rng.uniform(-1.0, 1.0, 2),
        box_scale=math.exp(rng.uniform(*np.log(config.box_scale))),
    )
