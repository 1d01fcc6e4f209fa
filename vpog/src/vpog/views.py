"""The directions that templates are rendered from, and what a pose says about the direction it is seen from.

Convention: a direction is a unit vector from the object towards the camera, in the object's frame. At R = I the camera
looks along +z of the object, so its direction is (0, 0, -1): the negated third ROW of the rotation, never a column.
"""

from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Int64

from posecore.errors import InputError

Level = Literal[0, 1, 2]
"""How often the icosahedron is divided: 0, 1, 2 for 42, 162, 642 views."""
Distribution = Literal["all", "upper"]
"""upper: only views from z >= 0."""
DirectionRule = Literal["camera_centre", "optical_axis"]
NUM_VIEWS = (42, 162, 642)
POLE = 1e-9
"""Views whose x and y are below this look along z."""


def view_directions(level: Level) -> Float64[np.ndarray, "v 3"]:
    """Directions of a level in the order of the template files; read-only.

    The order cannot be derived (it follows elevation, and rounding where that is equal), so the numbers are shipped.

    Raises:
        InputError: There is no such level.
    """
    if level not in range(len(NUM_VIEWS)):
        raise InputError(f"templates.level: is {level!r}; there are 0 (42 views), 1 (162 views) and 2 (642 views)")
    return _table()[level]


def view_subset(level: Level, distribution: Distribution = "all") -> Int64[np.ndarray, " n"]:
    """View ids that a distribution keeps, ascending."""
    directions = view_directions(level)
    return np.flatnonzero(directions[:, 2] >= 0) if distribution == "upper" else np.arange(len(directions))


def view_rotations(level: Level, distribution: Distribution = "all") -> Float64[np.ndarray, "v 3 3"]:
    """Object -> camera rotations (OpenCV axes) of the views; the object's +z points upwards in the picture.

    Convention: seen from (1, 0, 0), the rows are x = (0, 1, 0), y = (0, 0, -1), z = (-1, 0, 0).
    """
    forward = -view_directions(level)[view_subset(level, distribution)]
    is_pole = (np.abs(forward[:, :2]) < POLE).all(1)
    downwards = np.where(is_pole[:, None], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0])
    right = np.cross(downwards, forward)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack([right, np.cross(forward, right), forward], axis=1)


def direction_of(
    cam_from_obj_mm: Float[np.ndarray, "*batch 4 4"], rule: DirectionRule = "camera_centre"
) -> Float64[np.ndarray, "*batch 3"]:
    """Where the camera is as seen from the object.

    Args:
        rule: camera_centre: of the camera's centre, -R^T t: what a crop round the object shows. optical_axis: against
            the camera's axis, -R[2]: what public selectors use; off the axis it differs by the angle between the axis
            and the ray to the object (up to 35 degrees in the usual pictures).

    Raises:
        InputError: The object lies in the camera's centre.
    """
    poses = np.asarray(cam_from_obj_mm, dtype=np.float64)
    if rule == "optical_axis":
        return -poses[..., 2, :3]
    towards = -(np.swapaxes(poses[..., :3, :3], -1, -2) @ poses[..., :3, 3:])[..., 0]
    length = np.linalg.norm(towards, axis=-1, keepdims=True)
    if not (length > 0).all():
        raise InputError("cam_from_obj_mm: a translation is (0, 0, 0), so the object has no direction to the camera")
    return np.asarray(towards / length)


def allocentric_rotation(cam_from_obj_mm: Float[np.ndarray, "*batch 4 4"]) -> Float64[np.ndarray, "*batch 3 3"]:
    """The rotation that the object would have on the optical axis, looking the same: R_ray^T R.

    R_ray is the shortest rotation from the axis to the ray through the object's origin, so that the third row of the
    result, negated, is `direction_of` by camera_centre.

    Raises:
        InputError: An object lies in the camera's centre, or straight behind it.
    """
    poses = np.asarray(cam_from_obj_mm, dtype=np.float64)
    length = np.linalg.norm(poses[..., :3, 3], axis=-1)
    safe = np.where(length > 0, length, 1.0)[..., None]
    x, y, z = np.moveaxis(poses[..., :3, 3] / safe, -1, 0)
    if not ((length > 0) & (z > -1 + 1e-12)).all():
        raise InputError("cam_from_obj_mm: an object lies in the camera's centre or straight behind it")
    share = 1.0 / (1.0 + z)
    rows = (1 - x * x * share, -x * y * share, x, -x * y * share, 1 - y * y * share, y, -x, -y, z)
    cam_from_ray = np.stack(rows, axis=-1).reshape(*z.shape, 3, 3)
    return np.asarray(np.swapaxes(cam_from_ray, -1, -2) @ poses[..., :3, :3])


def inplane_angle(
    query_rot: Float[np.ndarray, "*#batch 3 3"], template_rot: Float[np.ndarray, "*#batch 3 3"]
) -> Float64[np.ndarray, "*batch"]:
    """The angle theta, in (-pi, pi], by which Rz(theta) brings a template's rotation nearest to the query's.

    What remains after it is exactly the angle between the two viewing directions (the axes' z rows).
    Convention: for query_rot = Rz(0.3) template_rot it is 0.3.
    """
    a = np.asarray(query_rot, dtype=np.float64) @ np.swapaxes(template_rot, -1, -2)
    return np.asarray(np.arctan2(a[..., 1, 0] - a[..., 0, 1], a[..., 0, 0] + a[..., 1, 1]))


def rotations_about_axis(angles: Float[np.ndarray, " n"]) -> Float64[np.ndarray, "n 3 3"]:
    """Rz of each angle (radians): turns about the camera's axis. Rz(pi / 2) takes x to y."""
    cosine, sine = np.cos(angles), np.sin(angles)
    zero, one = np.zeros_like(cosine), np.ones_like(cosine)
    return np.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], axis=-1).reshape(-1, 3, 3)


@cache
def _table() -> tuple[Float64[np.ndarray, "_ 3"], ...]:
    with (
        resources.files("vpog").joinpath("view_table.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as table,
    ):
        levels = tuple(np.asarray(table[f"level_{level}"]) for level in range(len(NUM_VIEWS)))
    for directions in levels:
        directions.setflags(write=False)
    return levels
