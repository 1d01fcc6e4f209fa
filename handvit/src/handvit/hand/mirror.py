"""Left hands as mirror images (x -> -x) of right hands.

Convention: the point (1, 2, 3) becomes (-1, 2, 3); the axis-angle (1, 2, 3) becomes (1, -2, -3); betas stay.
"""

import dataclasses

import numpy as np
from jaxtyping import Float
from torch import Tensor

from posecore.bodymodel import BodyArrays

_POINT = (-1.0, 1.0, 1.0)
_AXIS = (1.0, -1.0, -1.0)
SHARED_BASIS_BELOW = 1.0
"""Sum of |left - right| of the x shape directions (m); the released left file, which carries the right hand's, has 0."""


def mirror_points(points: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    return points * points.new_tensor(_POINT)


def mirror_rotations(rotations: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
    """M R M, with M the mirror."""
    signs = rotations.new_tensor(_POINT)
    return rotations * signs[:, None] * signs


def mirror_axis_angle(pose: Float[Tensor, "*b k"]) -> Float[Tensor, "*b k"]:
    """Axis-angles of any number of joints, one after the other: 3, 45 or 48 numbers."""
    signs = pose.new_tensor(_AXIS * (pose.shape[-1] // 3))
    return pose * signs


def mirror_arrays(arrays: BodyArrays) -> BodyArrays:
    """The other hand: with mirrored poses and the same betas it is the mirror image, its normals outward again."""
    point, axis = np.array(_POINT), np.tile(_AXIS, len(arrays.parents) - 1)
    features = np.tile(np.outer(point, point).ravel(), len(arrays.parents) - 1)  # M (R - I) M, row-major
    posedirs = arrays.posedirs
    return dataclasses.replace(
        arrays,
        template=arrays.template * point,
        faces=arrays.faces[:, ::-1].copy(),
        shapedirs=arrays.shapedirs * point[:, None],
        joints=None if arrays.joints is None else arrays.joints * point,
        posedirs=None if posedirs is None else posedirs * point[:, None] * features,
        hands_mean=None if arrays.hands_mean is None else arrays.hands_mean * axis,
        hands_components=None if arrays.hands_components is None else arrays.hands_components * axis,
    )


def fix_left_shapes(left: BodyArrays, right: BodyArrays) -> BodyArrays:
    """The left hand with shape directions that are the mirror image of the right's.

    The released MANO_LEFT carries the right hand's: then x is turned round. Files that are right already stay.
    """
    difference = np.abs(left.shapedirs[:, 0] - right.shapedirs[:, 0]).sum()
    if difference >= SHARED_BASIS_BELOW:
        return left
    return dataclasses.replace(left, shapedirs=left.shapedirs * np.array(_POINT)[:, None])
