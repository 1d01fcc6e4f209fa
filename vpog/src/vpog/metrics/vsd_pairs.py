"""VSD of the estimates of whole pictures: models are rendered only where they can be seen, one object at a time."""

from collections.abc import Mapping
from itertools import groupby

import numpy as np
from jaxtyping import Float, Int64

from posecore.errors import InputError
from vpog.data.records import ImageSource
from vpog.metrics.estimate_columns import EstimateColumns
from vpog.metrics.models import EvaluationModel
from vpog.metrics.pairs import Pairs
from vpog.metrics.pose_errors import to_pixels, transformed
from vpog.metrics.truths import Pictures, Truths
from vpog.metrics.vsd import DepthRenderer, distances_of_depth, vsd_errors


def vsd_of_pairs(
    pairs: Pairs,
    estimates: EstimateColumns,
    truths: Truths,
    pictures: Pictures,
    models: Mapping[int, EvaluationModel],
    source: ImageSource,
    render_depth: DepthRenderer,
    taus: Float[np.ndarray, " k"],
    delta_mm: float,
) -> Float[np.ndarray, "n k"]:
    """Errors of each pair for each tau (in diameters). Each picture's depth is read once.

    Raises:
        InputError: A picture has no depth.
    """
    errors = np.zeros((len(pairs), len(taus)))
    groups = [np.arange(s, s + e * t) for s, e, t in _group_columns(pairs)]
    for picture, members in groupby(groups, key=lambda places: int(truths.picture[pairs.truth[places[0]]])):
        index = int(pictures.source_index[picture])
        depth_mm = source.read(index).depth_mm
        if depth_mm is None:
            raise InputError(f"{source.where(index)}: has no depth, so VSD cannot be computed; evaluate without VSD")
        for places in members:
            window = _Group(pairs.estimate[places], pairs.truth[places], estimates, truths, pictures.K[picture], models)
            errors[places] = window.errors(depth_mm, render_depth, taus, delta_mm)
    return errors


def _group_columns(pairs: Pairs) -> list[tuple[int, int, int]]:
    columns = pairs.group_start, pairs.group_estimates, pairs.group_truths
    return list(zip(*(column.tolist() for column in columns), strict=True))


class _Group:
    """One object of one picture: its estimates and truths, and the part of the picture that any of them covers."""

    def __init__(
        self,
        estimate: Int64[np.ndarray, " p"],
        truth: Int64[np.ndarray, " p"],
        estimates: EstimateColumns,
        truths: Truths,
        K: Float[np.ndarray, "3 3"],
        models: Mapping[int, EvaluationModel],
    ) -> None:
        self.obj_id = int(truths.obj_id[truth[0]])
        self.model = models[self.obj_id]
        estimate_rows, self.estimate = np.unique(estimate, return_inverse=True)
        truth_rows, self.truth = np.unique(truth, return_inverse=True)
        self.num_estimates = len(estimate_rows)
        self.poses = np.concatenate([estimates.cam_from_obj_mm[estimate_rows], truths.cam_from_obj_mm[truth_rows]])
        self.K = K

    def errors(
        self, depth_mm: Float[np.ndarray, "h w"], render_depth: DepthRenderer, taus: np.ndarray, delta_mm: float
    ) -> Float[np.ndarray, "p k"]:
        top, bottom, left, right = self._window(depth_mm.shape)
        K = self.K - np.outer([left, top, 0], self.K[2])
        seen = render_depth(self.obj_id, self.poses, np.tile(K, (len(self.poses), 1, 1)), (bottom - top, right - left))
        distances = distances_of_depth(np.concatenate([depth_mm[None, top:bottom, left:right], seen]), K)
        test, estimated, true = distances[0], distances[1 : 1 + self.num_estimates], distances[1 + self.num_estimates :]
        rows = zip(self.estimate, self.truth, strict=True)
        diameter = self.model.diameter_mm
        return np.stack([vsd_errors(test, estimated[e], true[t], taus, diameter, delta_mm) for e, t in rows])

    def _window(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """First and last row and column: outside nothing is rendered, so that nothing counts there. At least one pixel."""
        height, width = shape
        points = transformed(self.poses[:, :3], self.model.hull_points_mm)
        if points[:, 2].min() <= 0:
            return 0, height, 0, width
        px = to_pixels(self.K @ points)
        low = np.clip(np.floor(px.min((0, 2))), 0, [width - 1, height - 1]).astype(int)
        high = np.clip(np.ceil(px.max((0, 2))) + 1, low + 1, [width, height]).astype(int)
        return int(low[1]), int(high[1]), int(low[0]), int(high[0])
