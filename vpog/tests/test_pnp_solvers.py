"""Costs, the batched solver and starts out of nothing."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posecore.rotations import quaternion_wxyz_to_matrix
from vpog.pnp.cost import adaptive_delta, linearise, pose_costs
from vpog.pnp.lm import covariance_of, gauss_newton, solve_lm
from vpog.pnp.poses import moved, pose_from_matrix, pose_to_matrix, quaternion_tangent
from vpog.pnp.records import Correspondences, Failure
from vpog.pnp.settings import LmSettings, StartSettings
from vpog.pnp.start import centre_translation, random_sample_start


@pytest.fixture(scope="module")
def vectors(reference):
    return {name: torch.from_numpy(np.asarray(array)) for name, array in reference("epropnp").items()}


@pytest.fixture(scope="module")
def noisy(vectors):
    return Correspondences(vectors["x3d"], vectors["x2d"], vectors["w2d"], vectors["K"])


@pytest.fixture(scope="module")
def clean(vectors):
    return Correspondences(vectors["x3d"], vectors["uv_exact"], vectors["clean/w2d"], vectors["K"])


def by_point(rows):
    """All x then all y, to x and y of each point in turn."""
    return rows.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def padded(pairs, by, garbage=0.0):
    def pad(values):
        return torch.nn.functional.pad(values, (0, 0, 0, by), value=garbage)

    weights = torch.nn.functional.pad(pairs.weights, (0, 0, 0, by))
    return Correspondences(pad(pairs.points_obj), pad(pairs.pixels), weights, pairs.K)


def assert_same_pose(pose, truth, atol):
    sign = torch.sign((pose[:, 3:] * truth[:, 3:]).sum(-1, keepdim=True))
    torch.testing.assert_close(pose[:, :3], truth[:, :3], rtol=0, atol=atol)
    torch.testing.assert_close(sign * pose[:, 3:], truth[:, 3:], rtol=0, atol=atol)


def test_residuals_costs_and_jacobian_equal_the_reference(vectors, noisy):
    delta = adaptive_delta(noisy)
    linear = linearise(noisy, vectors["pose_gt"], delta, float(vectors["z_min"]))
    torch.testing.assert_close(delta, vectors["delta"], rtol=0, atol=1e-9)
    torch.testing.assert_close(by_point(linear.residual), vectors["residual"], rtol=0, atol=1e-9)
    torch.testing.assert_close(by_point(linear.jacobian_transposed.mT), vectors["jacobian"], rtol=0, atol=1e-9)
    torch.testing.assert_close(linear.cost, vectors["cost_gt"], rtol=0, atol=1e-9)
    costs = pose_costs(noisy, vectors["pose_gt"][:, None], delta, 0.1)
    torch.testing.assert_close(costs[:, 0], vectors["cost_gt"], rtol=0, atol=1e-9)
    tangent = quaternion_tangent(vectors["pose_gt"][:, 3:])
    torch.testing.assert_close(tangent, vectors["quat_tangent"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("iterations", [1, 2, 5, 10, 30])
def test_the_solver_takes_the_steps_of_the_reference(vectors, noisy, iterations):
    found = solve_lm(noisy, vectors["pose_init"], LmSettings(num_iterations=iterations))
    torch.testing.assert_close(found.pose, vectors[f"lm{iterations}/pose"], rtol=0, atol=1e-8)
    torch.testing.assert_close(found.cost, vectors[f"lm{iterations}/cost"], rtol=0, atol=1e-8)
    torch.testing.assert_close(found.covariance, vectors[f"lm{iterations}/cov"], rtol=1e-6, atol=0)


def test_gauss_newton_takes_the_steps_of_the_reference(vectors, noisy):
    found = solve_lm(noisy, vectors["pose_init"], LmSettings(num_iterations=5, gauss_newton=True))
    torch.testing.assert_close(found.pose, vectors["gn5/pose"], rtol=0, atol=1e-8)
    before = solve_lm(noisy, vectors["pose_init"], LmSettings(num_iterations=4, gauss_newton=True))
    torch.testing.assert_close(
        before.cost, vectors["gn5/cost"], rtol=0, atol=1e-8
    )  # theirs is that of the last step's start
    squared, gradient = linearise(noisy, vectors["pose_init"], adaptive_delta(noisy), 0.1).normal_equations()
    torch.testing.assert_close(gauss_newton(squared, gradient), vectors["gn_step_at_init"], rtol=0, atol=1e-9)


def test_the_jacobian_is_the_derivative_of_the_residuals(vectors, noisy):
    delta = torch.full((4,), 1e9, dtype=torch.float64)  # no robust scale, which the Jacobian takes as given

    def residual(step):
        return linearise(noisy, moved(vectors["pose_init"], step), delta, 0.1).residual

    numeric = torch.autograd.functional.jacobian(residual, torch.zeros(4, 6, dtype=torch.float64))
    own = torch.stack([numeric[i, :, i] for i in range(4)])
    stated = linearise(noisy, vectors["pose_init"], delta, 0.1).jacobian_transposed.mT
    torch.testing.assert_close(stated, own, rtol=0, atol=1e-8)


def test_points_behind_z_min_have_no_derivative_and_a_finite_cost(vectors, noisy):
    behind = vectors["pose_gt"].clone()
    behind[:, 2] = -5.0
    linear = linearise(noisy, behind, adaptive_delta(noisy), 0.1)
    assert linear.jacobian_transposed.abs().max() == 0
    assert linear.cost.isfinite().all()


@given(step=st.lists(st.floats(-0.3, 0.3), min_size=6, max_size=6))
def test_a_step_keeps_the_quaternion_a_unit_and_moves_as_the_tangent_says(step):
    pose = torch.tensor([[0.1, -0.2, 3.0, 0.5, -0.5, 0.5, 0.5]], dtype=torch.float64)
    after = moved(pose, torch.tensor([step], dtype=torch.float64))
    assert after[0, 3:].norm().item() == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(after[0, :3], pose[0, :3] + torch.tensor(step[:3], dtype=torch.float64))


def test_a_local_rotation_turns_by_twice_its_length_the_other_way():
    start = torch.tensor([[0, 0, 1, 1, 0, 0, 0]], dtype=torch.float64)
    after = moved(start, torch.tensor([[0, 0, 0, 0, 0, 1e-3]], dtype=torch.float64))
    turn = quaternion_wxyz_to_matrix(after[0, 3:])
    assert torch.atan2(turn[1, 0], turn[0, 0]).item() == pytest.approx(-2e-3, rel=1e-5)


def test_poses_of_clean_pairs_are_found_from_nothing(vectors, clean):
    start = random_sample_start(clean, torch.arange(4), StartSettings(), LmSettings())
    found = solve_lm(clean, start, LmSettings(num_iterations=30))
    assert found.is_solved.all()
    assert_same_pose(found.pose, vectors["pose_gt"], 1e-9)


def test_the_first_guess_of_the_translation_equals_the_reference(vectors, noisy):
    torch.testing.assert_close(centre_translation(noisy), vectors["rslm_center_t"], rtol=0, atol=1e-9)


def test_an_object_starts_the_same_whoever_its_neighbours_are(clean):
    seeds = torch.tensor([11, 12, 13, 14])
    together = random_sample_start(clean, seeds, StartSettings(8), LmSettings())
    alone = Correspondences(clean.points_obj[2:3], clean.pixels[2:3], clean.weights[2:3], clean.K[2:3])
    torch.testing.assert_close(random_sample_start(alone, seeds[2:3], StartSettings(8), LmSettings()), together[2:3])


@pytest.mark.parametrize("garbage", [0.0, 1e6, float("nan")])
def test_padding_changes_nothing_whatever_it_holds(vectors, noisy, garbage):
    plain = solve_lm(noisy, vectors["pose_init"], LmSettings())
    with_padding = solve_lm(padded(noisy, 7, garbage), vectors["pose_init"], LmSettings())
    torch.testing.assert_close(with_padding.pose, plain.pose, rtol=0, atol=1e-10)
    torch.testing.assert_close(with_padding.covariance, plain.covariance)


def broken(pairs, how):
    points, pixels, weights = pairs.points_obj.clone(), pairs.pixels.clone(), pairs.weights.clone()
    if how is Failure.TOO_FEW_PAIRS:
        weights[1, 5:] = 0
    elif how is Failure.DEGENERATE:
        points[1] = points[1, :1] * torch.linspace(-1, 1, points.shape[1], dtype=points.dtype)[:, None]
    else:
        pixels[1, 3, 0] = torch.nan
    return replace(pairs, points_obj=points, pixels=pixels, weights=weights)


@pytest.mark.parametrize("how", [Failure.TOO_FEW_PAIRS, Failure.DEGENERATE, Failure.NOT_FINITE])
def test_an_object_that_cannot_be_solved_says_why_and_spoils_no_other(vectors, noisy, how):
    found = solve_lm(broken(noisy, how), vectors["pose_init"], LmSettings())
    assert found.failure.tolist() == [0, int(how), 0, 0]
    assert found.reasons()[1] == how.reason
    assert found.pose[1].isnan().all()
    assert found.cost[1].isnan()
    others = [0, 2, 3]
    torch.testing.assert_close(found.pose[others], vectors["lm10/pose"][others], rtol=0, atol=1e-8)
    start = random_sample_start(broken(noisy, how), torch.arange(4), StartSettings(4), LmSettings())
    assert start.isnan().all(-1).tolist() == [False, True, False, False]


def test_a_start_that_is_not_finite_is_a_failure(vectors, noisy):
    start = vectors["pose_init"].clone()
    start[3, 0] = torch.inf
    assert solve_lm(noisy, start, LmSettings()).failure.tolist() == [0, 0, 0, int(Failure.NOT_FINITE)]


def test_single_precision_answers_in_single_precision_and_autocast_changes_nothing(vectors, noisy):
    single = Correspondences(*(values.float() for values in vars(noisy).values()))
    found = solve_lm(single, vectors["pose_init"].float(), LmSettings())
    assert found.pose.dtype == torch.float32
    torch.testing.assert_close(found.pose.double(), vectors["lm10/pose"], rtol=0, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(solve_lm(single, vectors["pose_init"].float(), LmSettings()).pose, found.pose)


def test_the_covariance_is_what_noise_does_to_the_pose(clean, vectors):
    """Monte Carlo: unit noise on weighed pixels; local coordinates of the poses found scatter as the covariance says."""
    copies, noise = 1500, torch.Generator().manual_seed(0)
    one = [values[:1].expand(copies, *values.shape[1:]) for values in vars(clean).values()]
    weights = torch.ones_like(one[2])
    pixels = one[1] + torch.randn(one[1].shape, generator=noise, dtype=torch.float64)
    pairs = Correspondences(one[0], pixels, weights, one[3])
    truth = vectors["pose_gt"][:1].expand(copies, 7)
    found = solve_lm(pairs, truth, LmSettings(num_iterations=4, relative_delta=100.0))
    dw = torch.einsum("bij,bi->bj", quaternion_tangent(truth[:, 3:]), found.pose[:, 3:])
    steps = torch.cat([found.pose[:, :3] - truth[:, :3], dw], -1)
    squared, _ = linearise(
        replace(pairs, pixels=one[1]), truth, torch.full((copies,), 1e9).double(), 0.1
    ).normal_equations()
    torch.testing.assert_close(steps.var(0), covariance_of(squared[:1])[0].diagonal(), rtol=0.15, atol=0)


def test_the_solver_agrees_with_opencvs_refinement(clean, vectors):
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(clean.pixels.shape, generator=generator, dtype=torch.float64)
    pairs = replace(clean, pixels=clean.pixels + noise, weights=torch.ones_like(clean.weights))
    found = solve_lm(pairs, vectors["pose_gt"], LmSettings(num_iterations=20, relative_delta=1e4))
    ours = pose_to_matrix(found.pose, torch.ones(4, dtype=torch.float64)).numpy()
    for i in range(4):
        points, pixels, K = (v[i].numpy() for v in (pairs.points_obj, pairs.pixels, pairs.K))
        _, rvec, tvec = cv2.solvePnP(points, pixels, K, None, flags=cv2.SOLVEPNP_SQPNP)
        rvec, tvec = cv2.solvePnPRefineLM(points, pixels, K, None, rvec, tvec)
        np.testing.assert_allclose(cv2.Rodrigues(rvec)[0], ours[i, :3, :3], atol=1e-5)
        np.testing.assert_allclose(tvec[:, 0], ours[i, :3, 3], atol=1e-5)


def test_a_pose_survives_the_way_to_seven_numbers_and_back(vectors):
    unit_mm = torch.tensor([80.0, 100, 120, 200], dtype=torch.float64)
    matrix = pose_to_matrix(vectors["pose_gt"], unit_mm)
    back = pose_from_matrix(matrix, unit_mm)
    assert_same_pose(back, vectors["pose_gt"], 1e-12)
    assert pose_to_matrix(torch.full((1, 7), torch.nan), torch.ones(1)).isnan().all()
