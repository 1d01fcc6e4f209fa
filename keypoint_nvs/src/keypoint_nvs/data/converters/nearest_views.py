"""Which of some free views stand nearest to those of a rig."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.optimize import linear_sum_assignment

from keypoint_nvs.poses import azimuth_deg_of, pose_difference_deg, turn_world
from keypoint_nvs.rig import Rig


@dataclass(frozen=True)
class ChosenViews:
    """An input view and one view for each of the rig's."""

    cond: int
    targets: Int64[np.ndarray, " v"]
    errors_deg: Float64[np.ndarray, " v"]
    """How far each is turned from the rig's."""


def nearest_views(cam_from_world: Float[np.ndarray, "n 4 4"], rig: Rig) -> ChosenViews:
    """Every view is tried as the input view; the rig's views then get different ones with the least sum of angles.

    The input view whose farthest target is nearest wins; of equal ones (to 0.001 degrees) the first. Zero123++'s rig looks
    the same after a turn by 120 degrees, so that there can be several.
    """
    worlds = turn_world(cam_from_world[None], azimuth_deg_of(cam_from_world)[:, None])  # (input view, view)
    errors = pose_difference_deg(worlds[:, :, None], rig.cam_from_world())
    choices = [_assigned(cond, errors[cond]) for cond in range(len(errors))]
    return min(choices, key=lambda choice: round(float(choice.errors_deg.max()), 3))


def _assigned(cond: int, errors_deg: Float64[np.ndarray, "n v"]) -> ChosenViews:
    rig_views, views = linear_sum_assignment(errors_deg.T)
    return ChosenViews(cond, views.astype(np.int64), errors_deg[views, rig_views])
