"""Which estimates can be meant by which true objects: all of the same object in the same picture."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from vpog.metrics.pose_errors import row_blocks


@dataclass(frozen=True)
class Pairs:
    """Every estimate of a group (one object in one picture) with every true instance of it.

    Ordered by group, then by falling score of the estimate (equal ones as given), then by row of the truth.
    """

    estimate: Int64[np.ndarray, " p"]
    """Row of the estimate."""
    truth: Int64[np.ndarray, " p"]
    group_start: Int64[np.ndarray, " g"]
    """First pair of each group."""
    group_estimates: Int64[np.ndarray, " g"]
    group_truths: Int64[np.ndarray, " g"]

    def __len__(self) -> int:
        return len(self.estimate)

    def grids(self, values_per_pair: int = 1) -> Iterator[Int64[np.ndarray, "_ e t"]]:
        """Places of pairs as (groups, estimates, truths): groups of equal shape together, so that none is padded.

        Args:
            values_per_pair: Groups come a few at a time where each pair stands for many numbers.
        """
        shapes = np.stack([self.group_estimates, self.group_truths], 1)
        for estimates, truths in np.unique(shapes, axis=0):
            groups = np.flatnonzero((shapes == (estimates, truths)).all(1))
            for rows in row_blocks(len(groups), int(estimates * truths) * values_per_pair):
                places = self.group_start[groups[rows], None] + np.arange(estimates * truths)
                yield places.reshape(-1, estimates, truths)


def pair_up(
    estimate_group: Int64[np.ndarray, " e"], score: Float[np.ndarray, " e"], truth_group: Int64[np.ndarray, " t"]
) -> Pairs:
    """All pairs of each group that has both; groups are any numbers."""
    groups = np.intersect1d(estimate_group, truth_group)
    estimates = np.lexsort((-score, estimate_group))
    truths = np.argsort(truth_group, kind="stable")
    first_estimate, last_estimate = _range_of(groups, estimate_group[estimates])
    first_truth, last_truth = _range_of(groups, truth_group[truths])
    num_estimates, num_truths = last_estimate - first_estimate, last_truth - first_truth
    sizes = num_estimates * num_truths
    starts = np.cumsum(sizes) - sizes
    within = np.arange(sizes.sum()) - starts.repeat(sizes)
    columns = num_truths.repeat(sizes)
    return Pairs(
        estimates[first_estimate.repeat(sizes) + within // columns],
        truths[first_truth.repeat(sizes) + within % columns],
        starts,
        num_estimates,
        num_truths,
    )


def _range_of(groups: np.ndarray, sorted_groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.searchsorted(sorted_groups, groups, "left"), np.searchsorted(sorted_groups, groups, "right")
