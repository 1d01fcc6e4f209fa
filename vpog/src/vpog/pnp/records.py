"""Points of objects and where they were seen, padded to the same number with weight 0."""

from dataclasses import dataclass
from enum import IntEnum

from jaxtyping import Bool, Float, Int64
from torch import Tensor


class Failure(IntEnum):
    """Why an object has no pose."""

    NONE = 0
    TOO_FEW_PAIRS = 1
    DEGENERATE = 2
    NOT_FINITE = 3
    NO_CONSENSUS = 4

    @property
    def reason(self) -> str:
        return _REASONS[self]


_REASONS = {
    Failure.NONE: "solved",
    Failure.TOO_FEW_PAIRS: "too few pairs of a point and a pixel",
    Failure.DEGENERATE: "the points lie on a line",
    Failure.NOT_FINITE: "a point, pixel, weight, intrinsic or start is not finite",
    Failure.NO_CONSENSUS: "no pose explains enough of the pairs",
}


@dataclass(frozen=True)
class Correspondences:
    """n pairs of a point and a pixel for each of b objects. Any unit of length; poses come out in the same."""

    points_obj: Float[Tensor, "b n 3"]
    pixels: Float[Tensor, "b n 2"]
    weights: Float[Tensor, "b n 2"]
    """Of the residuals in x and y, at least 0; 0: padding."""
    K: Float[Tensor, "b 3 3"]
    """Its last row is (0, 0, 1)."""


@dataclass(frozen=True)
class Poses:
    """What a solver found."""

    pose: Float[Tensor, "b 7"]
    """x, y, z of cam_from_obj, then the unit quaternion wxyz. NaN, as cost and covariance, where there is none."""
    cost: Float[Tensor, " b"]
    """Robust cost of the weighed residuals."""
    covariance: Float[Tensor, "b 6 6"]
    """Of the local coordinates: translation, then rotation as in EPro-PnP (half the angle)."""
    failure: Int64[Tensor, " b"]
    """A `Failure` for each object."""

    @property
    def is_solved(self) -> Bool[Tensor, " b"]:
        """False: too few or degenerate pairs, or no finite pose."""
        return self.failure == Failure.NONE

    def reasons(self) -> list[str]:
        """In words, one for each object; waits for the device."""
        return [Failure(code).reason for code in self.failure.tolist()]
