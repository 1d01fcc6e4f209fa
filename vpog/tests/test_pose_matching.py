"""Which estimate finds which object, and the recall and precision that follow."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vpog.metrics.pairs import pair_up
from vpog.metrics.precision import RECALL_POINTS, interpolated_precision
from vpog.metrics.recall import assign_by_error, best_of_each, match_by_score

seeds = st.integers(0, 2**32 - 1)
ALL = 2**30


def test_matches_and_recalls_are_those_of_the_public_toolkit(reference):
    vectors = reference("pose_errors")
    truths, rows, thresholds = vectors["match_gts"], vectors["match_errs"], vectors["match_ths"]
    counts = truths[:, 4] > 0
    truth_group = (truths[:, 0] * 100 + truths[:, 2]).astype(int)
    ids, first = np.unique(rows[:, 2].astype(int), return_index=True)
    group, score = (rows[first, 0] * 100 + rows[first, 1]).astype(int), rows[first, 3]
    error_of = {(int(est), int(im), int(gt)): error for im, _, est, _, gt, error in rows}
    for most, column in ((ALL, 0), (1, 2)):
        kept = np.flatnonzero(best_of_each(group, score, np.full(len(group), most)))
        pairs = pair_up(group[kept], score[kept], truth_group)
        keys = zip(ids[kept][pairs.estimate], truths[pairs.truth, 0], truths[pairs.truth, 1], strict=True)
        errors = np.array([error_of[int(e), int(im), int(gt)] for e, im, gt in keys])
        matches = match_by_score(pairs, errors[:, None], thresholds, len(kept), counts)
        found = matches.found & counts
        groups = truth_group[counts]
        wanted = np.array([min(most, n) for n in np.unique(groups, return_counts=True)[1]])
        np.testing.assert_allclose(found.sum(1) / wanted.sum(), vectors["match_recall"][:, column], atol=1e-12)
        objects = truths[counts, 2]
        of_group = np.array([objects[groups == g][0] for g in np.unique(groups)])
        per_object = [
            found[:, counts][:, objects == obj].sum(1) / wanted[of_group == obj].sum() for obj in np.unique(objects)
        ]
        np.testing.assert_allclose(np.mean(per_object, 0), vectors["match_recall"][:, column + 1], atol=1e-12)
        if most == ALL:
            chosen = np.where(found, ids[matches.estimate_of_truth], -1)
            np.testing.assert_array_equal(chosen, vectors["match_est_ids_all"])


def greedy(groups_e, scores, groups_t, error, threshold, counts):
    """The rule said once more, one estimate after the other."""
    taken, ignored = {}, set()
    for e in np.argsort(-scores, kind="stable"):
        mine = [t for t in range(len(groups_t)) if groups_t[t] == groups_e[e] and t not in taken]
        mine = [t for t in mine if error[e, t] < threshold]
        counting = [t for t in mine if counts[t]] or mine
        if counting:
            best = min(counting, key=lambda t: error[e, t])
            taken[best] = e
            if not counts[best]:
                ignored.add(e)
    return taken, ignored


@given(seed=seeds)
def test_matching_many_thresholds_at_once_is_the_greedy_rule_at_each(seed):
    rng = np.random.default_rng(seed)
    num_estimates, num_truths = rng.integers(0, 14), rng.integers(0, 10)
    groups_e, groups_t = rng.integers(0, 4, num_estimates), rng.integers(0, 4, num_truths)
    scores, error = rng.integers(0, 5, num_estimates) / 4.0, rng.uniform(size=(num_estimates, num_truths))
    counts, thresholds = rng.uniform(size=num_truths) < 0.7, np.array([0.0, 0.2, 0.6, 2.0])
    pairs = pair_up(groups_e, scores, groups_t)
    matches = match_by_score(pairs, error[pairs.estimate, pairs.truth][:, None], thresholds, int(num_estimates), counts)
    for k, threshold in enumerate(thresholds):
        taken, ignored = greedy(groups_e, scores, groups_t, error, threshold, counts)
        expected = [taken.get(t, -1) for t in range(num_truths)]
        assert matches.estimate_of_truth[k].tolist() == expected
        assert set(np.flatnonzero(matches.is_ignored[k])) == ignored


@given(seed=seeds)
def test_the_assignment_takes_the_pair_of_lowest_error_first_and_leaves_nobody_who_could_have_one(seed):
    rng = np.random.default_rng(seed)
    groups_e, groups_t = rng.integers(0, 3, 8), rng.integers(0, 3, 6)
    error = rng.uniform(size=(8, 6))
    error[rng.uniform(size=error.shape) < 0.2] = np.inf
    pairs = pair_up(groups_e, np.zeros(8), groups_t)
    estimate, pair = assign_by_error(pairs, error[pairs.estimate, pairs.truth], 6)
    for group in range(3):
        of_e, of_t = np.flatnonzero(groups_e == group), np.flatnonzero(groups_t == group)
        chosen = estimate[of_t][estimate[of_t] >= 0]
        assert len(set(chosen)) == len(chosen) == min(len(of_e), len(of_t))
        if len(of_e) and len(of_t):
            lowest = np.unravel_index(error[np.ix_(of_e, of_t)].argmin(), (len(of_e), len(of_t)))
            if np.isfinite(error[np.ix_(of_e, of_t)].min()):
                assert estimate[of_t[lowest[1]]] == of_e[lowest[0]]
    has = pair >= 0
    np.testing.assert_array_equal(pairs.truth[pair[has]], np.flatnonzero(has))


@given(seed=seeds)
def test_precision_is_the_mean_over_101_recalls_of_the_best_precision_there_or_beyond(seed):
    rng = np.random.default_rng(seed)
    count, extra = rng.integers(0, 30), rng.integers(0, 5)
    right, judged = rng.uniform(size=(2, count)) < 0.5, rng.uniform(size=(2, count)) < 0.8
    positives = int(max(1, (right & judged).sum(1).max() + extra))
    expected = []
    for k in range(2):
        hits = (right & judged)[k].cumsum()
        points = [(h / positives, h / n) for h, n in zip(hits, judged[k].cumsum(), strict=True) if n]
        best = [max((p for r, p in points if r >= recall), default=0.0) for recall in RECALL_POINTS]
        expected.append(np.mean(best))
    np.testing.assert_allclose(interpolated_precision(right, judged, positives), expected, rtol=0, atol=1e-12)


def test_equal_scores_are_taken_in_the_order_given():
    group, score = np.array([3, 3, 1, 3]), np.array([0.5, 0.5, 0.9, 0.5])
    assert best_of_each(group, score, np.full(4, 2)).tolist() == [True, True, True, False]
