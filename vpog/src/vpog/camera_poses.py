"""Poses from what pictures show: first guesses from a box, updates seen in a crop, a template and a 2D similarity.

All lengths of a call are in the same unit, whichever it is; poses are cam_from_obj. These are the formulas of CosyPose,
MegaPose and GigaPose, so that their outputs can be read and compared.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from posecore.errors import InputError
from vpog.views import rotations_about_axis

UPRIGHT = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
"""The object's z axis points upwards in the picture, its x axis towards the camera."""


class TemplateMatch(NamedTuple):
    """Templates that queries look like, and how their crops map onto each other."""

    template_pose: Float[np.ndarray, "b 4 4"]
    template_K: Float[np.ndarray, "b 3 3"]
    """Of the whole template picture."""
    template_crop: Float[np.ndarray, "b 3 3"]
    """Crop from picture, pixels."""
    query_K: Float[np.ndarray, "b 3 3"]
    query_crop: Float[np.ndarray, "b 3 3"]
    query_from_template: Float[np.ndarray, "b 3 3"]
    """2D similarity from the template's crop to the query's: s Rz(theta) and a shift."""


def pose_from_box(
    box_xyxy: Float[np.ndarray, "b 4"],
    points_obj: Float[np.ndarray, "b n 3"],
    K: Float[np.ndarray, "b 3 3"],
    rotations: Float[np.ndarray, "b 3 3"] | None = None,
) -> Float64[np.ndarray, "b 4 4"]:
    """A pose whose origin projects to the box's centre, as far away as makes its points as large as the box.

    Args:
        box_xyxy: x1, y1 are its last pixels, so that it is x1 - x0 + 1 wide.
        points_obj: Of the object's surface.
        rotations: None: UPRIGHT.

    Raises:
        InputError: A box has no positive size, or the points have no extent in x or y.
    """
    rotation = np.broadcast_to(UPRIGHT if rotations is None else rotations, (len(K), 3, 3))
    sides = box_xyxy[:, 2:] - box_xyxy[:, :2] + 1
    if not (np.isfinite(sides).all() and (sides > 0).all()):
        raise InputError(
            f"box: is {np.asarray(box_xyxy).tolist()}; expected finite x0, y0, x1, y1 with x1 >= x0, y1 >= y0"
        )
    focal = np.asarray(K, dtype=np.float64)[:, [0, 1], [0, 1]]
    ray = ((box_xyxy[:, :2] + box_xyxy[:, 2:]) / 2 - K[:, :2, 2]) / focal
    turned = points_obj @ np.swapaxes(rotation, 1, 2)
    extent = turned[..., :2].max(1) - turned[..., :2].min(1)
    depth = (focal * extent / sides).mean(1)
    if not (depth > 0).all():
        raise InputError("points_obj: an object's points have no extent, so its distance cannot be told from its box")
    return _poses(rotation, np.concatenate([ray, np.ones((len(ray), 1))], axis=1) * depth[:, None])


def updated_pose(
    cam_from_obj: Float[np.ndarray, "b 4 4"],
    K: Float[np.ndarray, "b 3 3"],
    shift_scale: Float[np.ndarray, "b 3"],
    turn: Float[np.ndarray, "b 3 3"],
    reference_cam: Float[np.ndarray, "b 3"],
) -> Float64[np.ndarray, "b 4 4"]:
    """The pose after a change as a refiner sees it.

    Args:
        shift_scale: How many pixels (of K's picture) the reference point moves in x and y, and by what its depth is
            multiplied.
        turn: Of the object about the reference point, in the camera's axes.
        reference_cam: The point before the change, in the camera's frame.
    """
    focal = np.asarray(K, dtype=np.float64)[:, [0, 1], [0, 1]]
    depth = reference_cam[:, 2:] * shift_scale[:, 2:]
    moved_xy = (shift_scale[:, :2] / focal + reference_cam[:, :2] / reference_cam[:, 2:]) * depth
    arm = cam_from_obj[:, :3, 3] - reference_cam
    moved = np.concatenate([moved_xy, depth], axis=1) + (turn @ arm[..., None])[..., 0]
    return _poses(turn @ cam_from_obj[:, :3, :3], moved)


def relative_scale(
    source_pose: Float[np.ndarray, "b 4 4"],
    target_pose: Float[np.ndarray, "b 4 4"],
    source_K: Float[np.ndarray, "b 3 3"],
    target_K: Float[np.ndarray, "b 3 3"],
    source_crop: Float[np.ndarray, "b 3 3"],
    target_crop: Float[np.ndarray, "b 3 3"],
) -> Float64[np.ndarray, " b"]:
    """How many times as large an object is in the target's crop as in the source's; by fx and the depth of its origin.

    The crops are crop-from-picture maps; K are those of the pictures.
    """
    nearness = source_pose[:, 2, 3] / target_pose[:, 2, 3]
    zoom = _scales(target_crop) * target_K[:, 0, 0] / (_scales(source_crop) * source_K[:, 0, 0])
    return np.asarray(nearness * zoom, dtype=np.float64)


def gigapose_inplane_angle(
    source_rot: Float[np.ndarray, "b 3 3"], target_rot: Float[np.ndarray, "b 3 3"]
) -> Float64[np.ndarray, " b"]:
    """The turn in the picture's plane as GigaPose labels it, in 0 .. 2 pi: an Euler angle of target source^T.

    Of R = Ry Rx Rz, extrinsic z, x, y, it is the angle of Rz. `views.inplane_angle` is the turn that leaves the least
    rotation; both agree where the two viewing directions do.
    """
    relative = target_rot @ np.swapaxes(source_rot, 1, 2)
    return np.asarray(np.arctan2(relative[:, 1, 0], relative[:, 1, 1]) % (2 * np.pi), dtype=np.float64)


def pose_from_template(match: TemplateMatch) -> Float64[np.ndarray, "b 4 4"]:
    """The query's pose where its crop is the template's crop after a 2D similarity.

    The template's rotation is turned by the similarity's angle, its origin's pixel is carried over, and its depth is
    divided by the scale, times the ratio of the focal lengths (fx).
    """
    picture_map = np.linalg.inv(match.query_crop.astype(np.float64)) @ match.query_from_template @ match.template_crop
    scale = _scales(picture_map)
    turn = rotations_about_axis(np.arctan2(picture_map[:, 1, 0], picture_map[:, 0, 0]))
    origin = match.template_pose[:, :3, 3:].astype(np.float64)
    pixel = match.template_K @ (origin / origin[:, 2:])
    ray = np.linalg.solve(match.query_K.astype(np.float64), picture_map @ pixel)[..., 0]
    depth = origin[:, 2, 0] / scale * match.query_K[:, 0, 0] / match.template_K[:, 0, 0]
    return _poses(turn @ match.template_pose[:, :3, :3], ray * depth[:, None])


def _scales(matrices: np.ndarray) -> Float64[np.ndarray, " b"]:
    return np.asarray(np.linalg.norm(np.asarray(matrices, dtype=np.float64)[:, :2, 0], axis=1))


def _poses(rotation: np.ndarray, translation: np.ndarray) -> Float64[np.ndarray, "b 4 4"]:
    poses = np.tile(np.eye(4), (len(rotation), 1, 1))
    poses[:, :3, :3] = rotation
    poses[:, :3, 3] = translation
    return poses
