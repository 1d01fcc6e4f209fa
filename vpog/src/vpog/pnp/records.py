"""Points of objects and where they were seen, padded to the same number with weight 0."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Correspondences:
    """n pairs of a point and a pixel for each of b objects. Any unit of length; poses come out in the same."""

    points_obj: Float[Tensor, "b n 3"]
    pixels: Float[Tensor, "b n 2"]
    weights: Float[Tensor, "b n 2"]
    """Of the residuals in x and y, at least 0; 0: padding."""
    K: Float[Tensor, "b 3 3"]


@dataclass(frozen=True)
class Poses:
    """What a solver found."""

    pose: Float[Tensor, "b 7"]
    """x, y, z of cam_from_obj, then the unit quaternion wxyz."""
    cost: Float[Tensor, " b"]
    """Robust cost of the weighed residuals."""
    covariance: Float[Tensor, "b 6 6"]
    """Of the local coordinates: translation, then rotation as in EPro-PnP (half the angle)."""
    is_solved: Bool[Tensor, " b"]
    """False: too few or degenerate pairs, or no finite pose; the pose is then NaN."""
