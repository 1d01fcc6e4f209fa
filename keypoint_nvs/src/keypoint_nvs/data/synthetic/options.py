"""What made-up objects are made from."""

import math
from dataclasses import dataclass, field
from typing import Literal

from keypoint_nvs.rig import OBJECT_RADIUS, Rig, zero123plus_rig
from posecore.errors import InputError


@dataclass(frozen=True)
class SyntheticOptions:
    """Of a set of made-up objects; checked when it is made.

    Raises:
        InputError: A value cannot be, one line a problem.
    """

    objects: int = 600
    first_object: int = 0
    """Objects are numbered; those of (seed, number) are always the same. Splits take ranges that do not overlap."""
    frames: int = 1
    """Samples of each object: steps of one walk, seen by one and the same camera."""
    seed: int = 0
    view_px: int = 32
    rig: Rig = field(default_factory=lambda: zero123plus_rig("v1.2"))
    body_color: Literal["random", "fixed"] = "random"
    """Of body and legs, a colour for each object; head, snout and tail always have the same."""
    azimuth_range_deg: tuple[float, float] = (-180.0, 180.0)
    """Of the input view about the object; 0 looks it in the face, 90 stands to its left."""
    elevation_range_deg: tuple[float, float] = (-20.0, 45.0)
    """Of the input view."""
    distance_range: tuple[float, float] = (1.47, 1.8)
    """Of the input view from the object's middle, in the rig's unit."""
    cond_fov_deg: float = 40.0
    """Of the input view."""
    supersampling: int = 2
    """Rays along each side of a pixel; their share that meets the object is its alpha."""

    def __post_init__(self) -> None:
        if problems := [*_count_problems(self), *_range_problems(self), *_sight_problems(self)]:
            raise InputError(problems)


def _count_problems(options: SyntheticOptions) -> list[str]:
    least = {"objects": 1, "first_object": 0, "frames": 1, "seed": 0, "view_px": 8, "supersampling": 1}
    return [
        f"{name}: {getattr(options, name)}, must be at least {value}"
        for name, value in least.items()
        if getattr(options, name) < value
    ]


def _range_problems(options: SyntheticOptions) -> list[str]:
    bounds = {
        "azimuth_range_deg": (-360.0, 360.0),
        "elevation_range_deg": (-85.0, 85.0),
        "distance_range": (0.6, 100.0),
    }
    problems = []
    for name, (low, high) in bounds.items():
        first, last = getattr(options, name)
        if not low <= first <= last <= high:
            problems.append(f"{name}: {first:g} to {last:g}, must rise and lie within {low:g} to {high:g}")
    return problems


def _sight_problems(options: SyntheticOptions) -> list[str]:
    """The sphere of the object must lie within the input view; what is cut off could not be learnt.

    Not asked of the rig: Zero123++'s own cameras stand at 0.5 / tan(fov / 2) and cut the sphere by half a degree.
    """
    if options.rig.radius <= OBJECT_RADIUS:
        return [f"rig.radius: {options.rig.radius:g}, must be above {OBJECT_RADIUS:g}, the object's radius"]
    if not 0 < options.cond_fov_deg < 180:
        return [f"cond_fov_deg: {options.cond_fov_deg:g}, must be above 0 and below 180"]
    nearest = max(options.distance_range[0], 1.01 * OBJECT_RADIUS)  # nearer ones are told by their range
    needed = 2 * math.degrees(math.asin(OBJECT_RADIUS / nearest))
    if options.cond_fov_deg < needed - 1e-6:
        return [
            f"cond_fov_deg: {options.cond_fov_deg:g}, must be at least {needed:.4g} for objects at distance "
            f"{nearest:g} (distance_range) to fit into the picture"
        ]
    return []
