"""From keypoints to landmarks."""

import numpy as np
import pytest

from keypoint_nvs.regression import HUMAN36M_SWAP, HUMAN36M_SWAP_UPSTREAM, apply_linear, fit_linear, fit_linear_swapped
from posecore.errors import InputError, RunError


def test_fits_are_the_references(reference):
    data = reference("sk_regression")
    close = {"rtol": 0, "atol": 1e-8}
    W = fit_linear(data["source"], data["target"])
    np.testing.assert_allclose(W, data["W"], **close)
    np.testing.assert_allclose(apply_linear(data["source"], W), data["estimate"], **close)
    np.testing.assert_allclose(fit_linear(data["source"], data["target"], data["visible"]), data["W_visible"], **close)


def test_swaps_of_human36m_are_the_references_and_the_intended_one_undoes_itself(reference):
    data = reference("sk_regression")
    assert list(HUMAN36M_SWAP) == data["swap_intended"].tolist()
    assert list(HUMAN36M_SWAP_UPSTREAM) == data["swap_upstream"].tolist()
    assert [HUMAN36M_SWAP[joint] for joint in HUMAN36M_SWAP] == list(range(32))
    for swap in (HUMAN36M_SWAP, HUMAN36M_SWAP_UPSTREAM):
        W = fit_linear_swapped(data["source"], data["target_h36m"], np.array(swap))
        np.testing.assert_allclose(W, data["W_h36m"], rtol=0, atol=1e-8)


def test_labels_that_were_exchanged_are_found_again():
    rng = np.random.default_rng(0)
    source = rng.uniform(0.2, 0.8, (400, 4, 2))
    W = rng.normal(0, 0.4, (8, 4))
    target = apply_linear(source, W)
    swap = np.array([1, 0])
    mixed = target.copy()
    exchanged = rng.random(400) < 0.25
    mixed[exchanged] = target[exchanged][:, swap]
    first, last = fit_linear(source, mixed), fit_linear_swapped(source, mixed, swap, max_changed=0)
    truth = fit_linear(source, target)
    assert abs(first - truth).max() > 0.05
    np.testing.assert_allclose(last, truth, rtol=0, atol=1e-9)


def test_all_visible_is_the_same_as_no_visibility_and_a_hidden_landmark_is_named():
    rng = np.random.default_rng(1)
    source, target = rng.random((30, 3, 2)), rng.random((30, 4, 2))
    np.testing.assert_allclose(
        fit_linear(source, target, np.ones((30, 4), bool)), fit_linear(source, target), atol=1e-9
    )
    visible = np.ones((30, 4), bool)
    visible[:, 2] = False
    with pytest.raises(InputError, match="landmark 2 is visible in none of the 30 pictures; leave it out"):
        fit_linear(source, target, visible)


def test_a_fit_that_keeps_changing_is_told():
    rng = np.random.default_rng(2)
    with pytest.raises(RunError, match=r"still [1-9][0-9]* pictures exchange left and right after 1 rounds"):
        fit_linear_swapped(
            rng.random((50, 2, 2)), rng.random((50, 2, 2)), np.array([1, 0]), max_changed=0, max_rounds=1
        )
