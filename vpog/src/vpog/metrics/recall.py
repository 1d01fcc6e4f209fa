"""Which estimate finds which true object: matching as in BOP, at many thresholds at once."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from vpog.metrics.pairs import Pairs

NOBODY = -1


@dataclass(frozen=True)
class Matches:
    """At k thresholds."""

    estimate_of_truth: Int64[np.ndarray, "k t"]
    """Row of the estimate that found it, -1: none did."""
    is_ignored: Bool[np.ndarray, "k e"]
    """Estimates that found a true object which does not count."""

    @property
    def found(self) -> Bool[np.ndarray, "k t"]:
        return np.asarray(self.estimate_of_truth != NOBODY)


def match_by_score(
    pairs: Pairs,
    errors: Float[np.ndarray, " n #k"],
    thresholds: Float[np.ndarray, " k"],
    num_estimates: int,
    counts: Bool[np.ndarray, " t"],
) -> Matches:
    """The surest estimate first takes the truth of lowest error among those left, if that is below the threshold (<).

    Args:
        errors: Of each pair; with one column for all thresholds, or one for each.
        counts: Truths that are to be found. One that does not count is taken only by an estimate that finds no other,
            which is then ignored.
    """
    of_truth = np.full((len(counts), len(thresholds)), NOBODY)
    ignored = np.zeros((num_estimates, len(thresholds)), bool)
    for places in pairs.grids(len(thresholds)):
        truths = pairs.truth[places[:, 0]]
        free = np.ones((*truths.shape, len(thresholds)), bool)
        for rank in range(places.shape[1]):
            estimates = pairs.estimate[places[:, rank, 0]]
            error = errors[places[:, rank]]
            within = free & (error < thresholds)
            eligible = within & counts[truths][..., None]
            rest = within & ~eligible & ~eligible.any(1, keepdims=True)
            best = np.where(eligible | rest, error, np.inf).argmin(1)
            groups, columns = np.nonzero((eligible | rest).any(1))
            row = best[groups, columns]
            free[groups, row, columns] = False
            of_truth[truths[groups, row], columns] = estimates[groups]
            ignored[estimates[groups], columns] = rest[groups, row, columns]
    return Matches(of_truth.T, ignored.T)


def assign_by_error(
    pairs: Pairs, errors: Float[np.ndarray, " n"], num_truths: int
) -> tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " t"]]:
    """Each truth gets the estimate that fits it, whatever its error: in each group, the pair of lowest error first.

    Returns the row of the estimate and of the pair for each truth, -1 where no estimate is left.
    """
    estimate, pair = np.full(num_truths, NOBODY), np.full(num_truths, NOBODY)
    for places in pairs.grids():
        groups, num_estimates, truths = places.shape
        # an error without bound is still assigned, after all others
        bounded = np.minimum(errors[places], np.finfo(float).max)
        free = np.ones(places.shape, bool)
        for _ in range(min(num_estimates, truths)):
            row, column = np.divmod(np.where(free, bounded, np.inf).reshape(groups, -1).argmin(1), truths)
            chosen = places[np.arange(groups), row, column]
            estimate[pairs.truth[chosen]] = pairs.estimate[chosen]
            pair[pairs.truth[chosen]] = chosen
            free[np.arange(groups), row] = False
            free[np.arange(groups), :, column] = False
    return estimate, pair


def best_of_each(
    group: Int64[np.ndarray, " e"], score: Float[np.ndarray, " e"], count: Int64[np.ndarray, " e"]
) -> Bool[np.ndarray, " e"]:
    """Whether a row is among the `count` best scores of its group; of equal ones the first."""
    order = np.lexsort((-score, group))
    ordered = group[order]
    first = np.searchsorted(ordered, ordered, "left")
    kept = np.zeros(len(group), bool)
    kept[order] = np.arange(len(group)) - first < count[order]
    return kept
