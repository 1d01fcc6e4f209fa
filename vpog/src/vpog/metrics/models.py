"""What of an object's model its pose errors depend on."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int64
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import cdist

PROBES = 16
"""Points that bound the error of a symmetry before all points are looked at; 8 and 32 are both slower."""


@dataclass(frozen=True, eq=False)
class EvaluationModel:
    """Points of one object, its size and the poses in which it looks the same."""

    points_mm: Float[np.ndarray, "v 3"]
    diameter_mm: float
    symmetries: Float[np.ndarray, "s 4 4"]
    """Transforms of the object onto itself, in mm, the identity first (`vpog.objects.models_info.symmetry_transforms`)."""

    def __post_init__(self) -> None:
        if len(self.points_mm) == 0 or not self.diameter_mm > 0 or len(self.symmetries) == 0:
            raise ValueError(
                f"an evaluation model needs points, a positive diameter and at least the identity as symmetry; got "
                f"{len(self.points_mm)} points, diameter {self.diameter_mm} mm, {len(self.symmetries)} symmetries"
            )

    @property
    def is_symmetric(self) -> bool:
        """Then its ADD error is ADD-S."""
        return len(self.symmetries) > 1

    @cached_property
    def hull_points_mm(self) -> Float[np.ndarray, "h 3"]:
        """Corners of the convex hull: the distance of two poses, convex in the point, is largest at one of them."""
        return np.asarray(self.points_mm[_hull_rows(self.points_mm)], np.float64)

    @cached_property
    def probe_points_mm(self) -> Float[np.ndarray, "m 3"]:
        """Some points of the hull that lie far from each other."""
        return np.asarray(self.hull_points_mm[_spread_rows(self.hull_points_mm, PROBES)])


def _hull_rows(points: np.ndarray) -> Int64[np.ndarray, " h"]:
    try:
        return np.asarray(ConvexHull(points).vertices, np.int64)
    except (QhullError, ValueError):  # flat models have no hull in space: all points stay
        return np.arange(len(points))


def _spread_rows(points: np.ndarray, count: int) -> Int64[np.ndarray, " m"]:
    """Each next row is the farthest from those before it; the first is the farthest from the middle."""
    rows = [int(np.linalg.norm(points - points.mean(0), axis=1).argmax())]
    nearest = cdist(points, points[rows])[:, 0]
    while len(rows) < min(count, len(points)):
        rows.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, cdist(points, points[rows[-1:]])[:, 0])
    return np.array(rows, np.int64)
