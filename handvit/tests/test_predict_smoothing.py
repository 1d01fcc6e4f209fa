"""The One-Euro filter of points and rotations: its published formula, and laws of what is filtered."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

sys.path.append(str(Path(__file__).parent))

from random_runs import SMALL, noise_picture, random_predictor

from handvit.predict import Hands
from handvit.reposing import posed_again
from handvit.smoothing import ROOT, ROTATIONS, OneEuro, OneEuroFilter, smooth_track

SETTINGS = OneEuro(rest_hz=1.2, speed_gain=0.3, derivative_hz=0.9)


def published(values, times, rest_hz, beta, derivative_hz):
    """The filter of one number as in the paper's appendix."""

    def alpha(cutoff, rate):
        tau, period = 1 / (2 * math.pi * cutoff), 1 / rate
        return 1 / (1 + tau / period)

    filtered, speed, out = values[0], 0.0, [values[0]]
    for i in range(1, len(values)):
        rate = 1 / (times[i] - times[i - 1])
        # As in the authors' later code, the derivative is that of the filtered signal.
        change = (values[i] - filtered) * rate
        speed += alpha(derivative_hz, rate) * (change - speed)
        filtered += alpha(rest_hz + beta * abs(speed), rate) * (values[i] - filtered)
        out.append(filtered)
    return np.array(out)


def run(one_euro, values, times):
    return np.stack([one_euro(value, time) for value, time in zip(values, times, strict=True)])


signals = st.lists(st.floats(-1, 1), min_size=3, max_size=20)
seeds = st.integers(0, 10_000)


@given(steps=signals, seed=seeds)
def test_points_along_a_line_are_filtered_by_the_published_formula(steps, seed):
    rng = np.random.default_rng(seed)
    values, times = 100 * np.array(steps), np.cumsum(rng.uniform(0.01, 0.1, len(steps)))
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    found = run(OneEuroFilter.of_points(SETTINGS), values[:, None, None] * direction, times)
    expected = published(values, times, SETTINGS.rest_hz, SETTINGS.speed_gain, SETTINGS.derivative_hz)
    np.testing.assert_allclose(found[:, 0], expected[:, None] * direction, atol=1e-9)


@given(steps=signals, seed=seeds)
def test_rotations_about_one_axis_are_filtered_as_their_angle(steps, seed):
    rng = np.random.default_rng(seed)
    angles, times = 1.4 * np.array(steps), np.cumsum(rng.uniform(0.01, 0.1, len(steps)))
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    matrices = Rotation.from_rotvec(angles[:, None] * axis).as_matrix()
    found = run(OneEuroFilter.of_rotations(SETTINGS), matrices[:, None], times)
    expected = published(angles, times, SETTINGS.rest_hz, SETTINGS.speed_gain, SETTINGS.derivative_hz)
    np.testing.assert_allclose(found[:, 0], Rotation.from_rotvec(expected[:, None] * axis).as_matrix(), atol=1e-9)


@given(seed=seeds)
def test_rotations_seen_by_a_turned_camera_are_filtered_to_the_same_rotations(seed):
    rng = np.random.default_rng(seed)
    matrices = Rotation.from_rotvec(rng.normal(size=(8, 3))).as_matrix()[:, None]
    camera = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    times = np.arange(8) / 30
    here = run(OneEuroFilter.of_rotations(SETTINGS), matrices, times)
    there = run(OneEuroFilter.of_rotations(SETTINGS), camera @ matrices, times)
    np.testing.assert_allclose(there, camera @ here, atol=1e-9)


def test_a_hand_that_rests_is_left_where_it_is_and_its_trembling_shrinks_to_a_third():
    still = np.tile([[10.0, -5.0, 600.0]], (60, 1, 1))
    times = np.arange(60) / 30
    np.testing.assert_array_equal(run(OneEuroFilter.of_points(ROOT), still, times), still)
    noisy = still + np.random.default_rng(0).normal(0, 2, still.shape)
    calm = run(OneEuroFilter.of_points(ROOT), noisy, times)
    assert np.diff(calm, axis=0).std() < np.diff(noisy, axis=0).std() / 3
    turns = Rotation.from_rotvec(np.random.default_rng(1).normal(0, 0.05, (60, 3))).as_matrix()[:, None]
    calm = run(OneEuroFilter.of_rotations(ROTATIONS), turns, times)
    steps = [Rotation.from_matrix((x[:-1].mT @ x[1:])[:, 0]).magnitude().mean() for x in (turns, calm)]
    assert steps[1] < steps[0] / 3


def test_a_hand_that_moves_fast_lags_less_than_behind_a_fixed_cutoff():
    times = np.arange(60) / 30
    moving = 1000 * times[:, None, None] * [1.0, 0, 0]
    lag = moving - run(OneEuroFilter.of_points(ROOT), moving, times)
    fixed = moving - run(OneEuroFilter.of_points(replace(ROOT, speed_gain=0.0)), moving, times)
    assert lag[-1, 0, 0] < fixed[-1, 0, 0] / 3


def test_time_that_stands_still_is_refused_and_a_reset_begins_anew():
    one_euro = OneEuroFilter.of_points(ROOT)
    one_euro(np.zeros((1, 3)), 1.0)
    with pytest.raises(ValueError, match=r"^time 1\.0 s is not after the last, 1\.0 s"):
        one_euro(np.ones((1, 3)), 1.0)
    one_euro.reset()
    np.testing.assert_array_equal(one_euro(np.ones((1, 3)), 1.0), np.ones((1, 3)))


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return random_predictor(tmp_path_factory.mktemp("run"), *SMALL)


@pytest.fixture(scope="module")
def track(predictor):
    """A left hand in ten frames that have nothing to do with each other."""
    K = np.array([[300.0, 0, 70.5], [0, 310.0, 66.0], [0, 0, 1]])
    parts = [predictor(noise_picture(90, 120, seed), [[20, 20, 80, 70]], "left", K) for seed in range(10)]
    betas = np.random.default_rng(0).normal(0, 1, (10, 10)).astype(np.float32)
    return posed_again(replace(Hands.concatenated(parts), betas=betas), predictor.loaded.hand)


def test_a_track_gets_one_shape_the_median_and_everything_else_follows(predictor, track):
    times = np.arange(10) * 33.3
    hand = predictor.loaded.hand
    smooth = posed_again(smooth_track(track, times, hand, norm_by_hand=False), hand)
    assert (smooth.betas == np.median(track.betas, axis=0)).all()
    assert np.ptp(smooth.hand_size_mm) < 1e-3
    again = posed_again(smooth.without_vertices(), hand)
    np.testing.assert_array_equal(again.vertices_mm, smooth.vertices_mm)
    np.testing.assert_allclose(smooth.joints_mm[:, 0], smooth.root_mm, atol=1e-3)
    assert np.diff(smooth.rotations, axis=0).std() < np.diff(track.rotations, axis=0).std() / 2
    determinant = np.linalg.det(smooth.rotations)
    np.testing.assert_allclose(determinant, 1, atol=1e-5)


def test_a_root_in_hand_sizes_goes_with_the_size_of_the_one_shape_so_that_it_keeps_its_pixel(predictor, track):
    hand = predictor.loaded.hand
    lone = track.rows([4])  # one frame: nothing to filter
    others = replace(track, root_mm=np.tile(lone.root_mm, (10, 1)), hand_size_mm=track.hand_size_mm)
    smooth = smooth_track(others.rows([4, 4, 4]), np.arange(3) * 1000.0, hand, norm_by_hand=True)
    np.testing.assert_allclose(smooth.root_mm, np.tile(lone.root_mm, (3, 1)), rtol=1e-5)
    mixed = smooth_track(others, np.arange(10) * 1000.0, hand, norm_by_hand=True)
    size = posed_again(mixed, hand).hand_size_mm
    np.testing.assert_allclose(mixed.root_mm, others.root_mm * (size / track.hand_size_mm)[:, None], rtol=1e-5)


def test_after_a_gap_the_filter_begins_anew(predictor, track):
    times = np.array([0, 33, 66, 100, 700, 733, 766, 800, 833, 866], float)
    smooth = smooth_track(track, times, predictor.loaded.hand, norm_by_hand=False)
    np.testing.assert_allclose(smooth.root_mm[4], track.root_mm[4], rtol=1e-6)
    later = smooth_track(track.rows(range(4, 10)), times[4:], predictor.loaded.hand, norm_by_hand=False)
    np.testing.assert_allclose(smooth.rotations[4:], later.rotations, atol=1e-6)
