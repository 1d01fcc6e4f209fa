"""The cameras from which a model draws its views: fixed, relative to the input view.

The world frame is the input view's: z up, the object at the origin, the input camera at azimuth 0.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64

from keypoint_nvs.config.model import RIGS, RigConfig
from keypoint_nvs.poses import azimuth_deg_of, orbit_cameras, pose_difference_deg, turn_world
from posecore.errors import InputError

OBJECT_RADIUS = 0.5
"""Of the sphere that holds the object and touches the sides of the pictures at its height."""
AZIMUTHS_DEG = (30.0, 90.0, 150.0, 210.0, 270.0, 330.0)
ELEVATIONS_DEG = {"v1.1": (30.0, -20.0) * 3, "v1.2": (20.0, -10.0) * 3}
FOV_DEG = {"v1.1": 47.1, "v1.2": 30.0}


@dataclass(frozen=True)
class Rig:
    """View i looks from azimuth_deg[i], elevation_deg[i] at the origin, and lies at tile (i // cols, i % cols)."""

    azimuth_deg: tuple[float, ...]
    """Relative to the input view, growing to the camera's right."""
    elevation_deg: tuple[float, ...]
    """Absolute: from the horizontal plane, whatever the input view's."""
    fov_deg: float
    """Of the side of each (square) view."""
    radius: float
    """Distance of the cameras from the origin, in the world's unit."""
    rows: int = 3
    cols: int = 2
    name: str = "free"
    """As a store calls it."""

    def __post_init__(self) -> None:
        for field in ("azimuth_deg", "elevation_deg"):
            if len(getattr(self, field)) != self.rows * self.cols:
                raise ValueError(f"{field} has {len(getattr(self, field))} angles for {self.rows} x {self.cols} views")

    @property
    def num_views(self) -> int:
        return self.rows * self.cols

    def cam_from_world(self) -> Float64[np.ndarray, "v 4 4"]:
        """Cameras of all views, OpenCV axes."""
        return orbit_cameras(np.array(self.azimuth_deg), np.array(self.elevation_deg), self.radius)

    def K(self, size_px: int) -> Float64[np.ndarray, "3 3"]:
        """Intrinsics of each view `size_px` wide and high; pixel centres at integers."""
        focal = size_px / (2 * math.tan(math.radians(self.fov_deg) / 2))
        centre = (size_px - 1) / 2
        return np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])

    def pose_errors_deg(
        self,
        cam_from_world: Float[np.ndarray, "*batch v 4 4"],
        cond_cam_from_world: Float[np.ndarray, "*batch 4 4"] | None = None,
    ) -> Float64[np.ndarray, "*batch v"]:
        """How far each view is turned from the rig's, see `pose_difference_deg`.

        The world is first turned about its z axis until the input view (`cond_cam_from_world`) is at azimuth 0; None: it
        is there already. Elevations are absolute: the world's z axis must point up.
        """
        if cond_cam_from_world is not None:
            cam_from_world = turn_world(cam_from_world, azimuth_deg_of(cond_cam_from_world)[..., None])
        return pose_difference_deg(cam_from_world, self.cam_from_world())


def zero123plus_rig(version: Literal["v1.1", "v1.2"]) -> Rig:
    """The six cameras of a released model.

    v1.2 (zero123plus, issue 73): an object within a sphere of radius 0.5, from 0.5 / tan(15 deg). In v1.1 (issue 47) the
    object is as large as in the input; the distance is that at which such a sphere fills the view, a choice of unit.
    """
    if version not in FOV_DEG:
        raise InputError(f"rig: zero123plus {version!r} is not known; v1.1 and v1.2 are")
    fov_deg = FOV_DEG[version]
    radius = OBJECT_RADIUS / math.tan(math.radians(fov_deg) / 2)
    return Rig(AZIMUTHS_DEG, ELEVATIONS_DEG[version], fov_deg, radius, name=f"zero123plus-{version}")


def rig_of(rig: str | RigConfig) -> Rig:
    """The rig that a configuration or a store names (`zero123plus-v1.1`, `zero123plus-v1.2`), or one of its own."""
    if isinstance(rig, RigConfig):
        return Rig(tuple(rig.azimuth_deg), tuple(rig.elevation_deg), rig.fov_deg, rig.radius, rig.rows, rig.cols)
    if rig == "zero123plus-v1.1":
        return zero123plus_rig("v1.1")
    if rig == "zero123plus-v1.2":
        return zero123plus_rig("v1.2")
    raise InputError(f"rig: {rig!r} is not known; {' and '.join(RIGS)} are, or give a rig's angles")
