"""Numbers that judge keypoints: laws, the reference's formulas, and the solver that training uses."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keypoint_nvs.affine import affine_theta, warp_points_xy
from keypoint_nvs.metrics.consistency import consistency
from keypoint_nvs.metrics.keypoints import equivariance_errors_px320, token_stability
from keypoint_nvs.metrics.regression import (
    correct_shares,
    inter_ocular_errors,
    orientation_free_errors_px128,
    regression_errors,
    regression_errors_3d,
    summed_errors_px256,
    visible_errors,
)
from keypoint_nvs.regression import apply_linear
from keypoint_nvs.rig import zero123plus_rig
from posecore.cameras import project, transform, triangulate

SIDE = 160


def seen_by_rig(points, side=SIDE):
    """Pixels (b v k 2), K, cam_from_world of points (b k 3)."""
    rig = zero123plus_rig("v1.2")
    cameras = torch.from_numpy(rig.cam_from_world()).expand(len(points), -1, -1, -1)
    K = torch.from_numpy(rig.K(side)).expand(*cameras.shape[:2], 3, 3)
    pixels, _ = project(transform(cameras, points[:, None]), K)
    return pixels, K, cameras


@pytest.fixture
def points():
    return 0.3 * torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_projections_of_one_point_have_no_error_and_all_of_them_count(points):
    xy, K, cameras = seen_by_rig(points)
    result = consistency(xy, torch.ones(xy.shape[:-1]), K, cameras, SIDE)
    torch.testing.assert_close(result.points_world, points, rtol=0, atol=1e-6)
    assert result.counted.all()
    summary = result.summary()
    assert summary["median_px320"] < 1e-4
    assert summary["share_below_5px"] == summary["counted_share"] == 1
    apart = torch.stack([torch.pdist(p).mean() for p in points]).mean()
    assert summary["spread3d"] == pytest.approx(float(apart), abs=1e-6)


def test_an_error_is_told_in_pixels_of_views_320_wide_and_the_other_views_stay_right(points):
    xy, K, cameras = seen_by_rig(points)
    xy[:, 2, :, 0] += 40
    result = consistency(xy, torch.ones(xy.shape[:-1]), K, cameras, SIDE)
    torch.testing.assert_close(result.errors_px320[:, 2], torch.full((5, 4), 80.0).double(), rtol=0.05, atol=0)
    assert result.errors_px320[:, [0, 1, 3, 4, 5]].max() < 5
    assert result.summary()["share_below_5px"] == pytest.approx(5 / 6)
    assert (result.weights[:, 2] < 0.1).all()


def test_errors_do_not_depend_on_the_resolution(points):
    small, large = (
        consistency(xy + shift * side / 100, torch.ones(xy.shape[:-1]), K, cameras, side)
        for side in (100, 400)
        for xy, K, cameras in [seen_by_rig(points, side)]
        for shift in [torch.randn(xy.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)]
    )
    torch.testing.assert_close(small.errors_px320, large.errors_px320, rtol=1e-6, atol=1e-6)


def test_a_view_that_is_not_confident_is_neither_heard_nor_measured(points):
    xy, K, cameras = seen_by_rig(points)
    xy[:, 0] += 50
    confidence = torch.ones(xy.shape[:-1])
    confidence[:, 0] = 0.05
    result = consistency(xy, confidence, K, cameras, SIDE)
    assert result.errors_px320[:, 0].isnan().all()
    assert result.errors_px320[:, 1:].max() < 1e-4


def test_a_point_of_two_confident_views_is_neither_measured_nor_counted(points):
    xy, K, cameras = seen_by_rig(points)
    confidence = torch.full(xy.shape[:-1], 0.01)
    confidence[:, :2] = 1
    result = consistency(xy, confidence, K, cameras, SIDE)
    assert result.errors_px320.isnan().all()
    assert not result.counted.any()
    summary = result.summary()
    assert summary["counted_share"] == 0
    assert np.isnan(summary["median_px320"])
    assert np.isnan(summary["spread3d"])


def test_consistency_is_zero_error_and_zero_spread_where_all_tokens_mark_the_common_centre():
    xy, K, cameras = seen_by_rig(torch.zeros(2, 3, 3, dtype=torch.float64))
    summary = consistency(xy, torch.ones(xy.shape[:-1]), K, cameras, SIDE).summary()
    assert summary["median_px320"] < 1e-6
    assert summary["spread3d"] < 1e-6


def test_rays_and_the_linear_solver_agree_on_the_reference(reference):
    arrays = {name: torch.from_numpy(value) for name, value in reference("geometry").items()}
    cameras = torch.eye(4, dtype=torch.float64).repeat(7, 1, 1)
    cameras[:, :3] = arrays["world_to_camera_opencv"]
    K = arrays["K"].expand(7, 3, 3)
    result = consistency(arrays["uv"][None], torch.ones(1, 7, 8), K[None], cameras[None], 1.0)
    torch.testing.assert_close(result.points_world[0], arrays["points"], rtol=0, atol=1e-5)
    observed = consistency(arrays["observed_uv"][None], torch.ones(1, 7, 8), K[None], cameras[None], 1.0)
    solved, _ = triangulate(arrays["observed_uv"], arrays["projection"], observed.weights[0])
    torch.testing.assert_close(observed.points_world[0], solved)
    robust = (observed.points_world[0] - arrays["points"]).norm(dim=-1).median()
    plain = (arrays["dlt_unweighted"] - arrays["points"]).norm(dim=-1).median()
    assert robust < plain


@given(st.floats(-15, 15), st.floats(0.8, 1.0), st.floats(-0.25, 0.25), st.floats(-0.25, 0.25))
def test_keypoints_that_follow_the_warp_have_no_equivariance_error(angle, scale, x, y):
    theta = affine_theta(torch.tensor([angle]), torch.tensor([scale]), torch.tensor([[x, y]])).double()
    points = torch.rand(1, 9, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 63
    moved = warp_points_xy(points, theta, 64)
    errors = equivariance_errors_px320(points, moved, theta, 64)
    inside = ((moved >= -0.5) & (moved <= 63.5)).all(-1)
    assert torch.equal(errors.isnan(), ~inside)
    assert (errors[inside] < 1e-6).all()


def test_equivariance_errors_are_distances_in_the_picture_before_the_warp():
    theta = affine_theta(torch.tensor([90.0]), torch.tensor([0.5]), torch.zeros(1, 2)).double()
    middle = torch.full((1, 1, 2), 31.5, dtype=torch.float64)
    error = equivariance_errors_px320(middle, middle + torch.tensor([4.0, 0]), theta, 64)
    assert float(error) == pytest.approx(4 * 0.5 * 320 / 64)


def test_token_stability_is_the_share_of_own_choices_that_are_kept():
    selected = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]])
    assert token_stability(selected, torch.tensor([3, 2, 1, 4])) == 4 / 8


def test_every_protocol_gives_the_reference_numbers(reference):
    r = reference("sk_regression")
    estimate, target, visible = r["estimate"], r["target"], r["visible"].astype(bool)
    np.testing.assert_allclose(inter_ocular_errors(estimate, target), r["metric_inter_eye"], atol=1e-8)
    np.testing.assert_allclose(visible_errors(estimate, target, visible), r["metric_visible"], atol=1e-8)
    np.testing.assert_allclose(summed_errors_px256(estimate, target, visible), r["metric_mae256"], atol=1e-8)
    np.testing.assert_allclose(correct_shares(estimate, target), r["metric_pck6at256"], atol=1e-8)


def test_orientation_free_errors_are_the_references(reference):
    r = reference("sk_regression")
    estimate = apply_linear(r["source"], r["W_h36m"])
    errors = orientation_free_errors_px128(estimate, r["target_h36m"], r["swap_upstream"])
    np.testing.assert_allclose(errors, r["metric_orientation_invariant"], atol=1e-8)


def test_points_that_nobody_sees_are_in_no_number():
    rng = np.random.default_rng(0)
    target, visible = rng.random((6, 3, 2)), np.ones((6, 3), bool)
    visible[0, 1] = visible[1] = False
    estimate = target + np.array([0.03, 0.04])
    hidden = np.where(visible[..., None], target, np.nan)
    errors = visible_errors(estimate, hidden, visible)
    assert np.isnan(errors[1])
    np.testing.assert_allclose(np.delete(errors, 1), 0.05)
    np.testing.assert_allclose(summed_errors_px256(estimate, hidden, visible), 256 * 0.05 * visible.sum(1))
    assert np.isnan(correct_shares(estimate, hidden, visible)[1])


def test_a_linear_truth_is_found_and_the_mean_keypoint_is_worse():
    rng = np.random.default_rng(0)
    source, map_ = rng.random((80, 4, 2)), rng.normal(size=(8, 6)) / 4
    target = ((source.reshape(80, 8) - 0.5) @ map_ + 0.5).reshape(80, 3, 2)
    visible = rng.random((80, 3)) < 0.7
    target = np.where(visible[..., None], target, np.nan)
    errors = regression_errors(source[:50], target[:50], source[50:], target[50:], visible[:50], visible[50:])
    assert errors["error"] < 1e-9
    assert errors["mean_keypoint"] > 0.05
    cloud, rotation = rng.normal(size=(40, 4, 3)), np.linalg.qr(rng.normal(size=(3, 3)))[0]
    errors_3d = regression_errors_3d(cloud[:30], cloud[:30] @ rotation, cloud[30:], cloud[30:] @ rotation)
    assert errors_3d["error"] < 1e-9 < errors_3d["mean_keypoint"]


def test_ten_thousand_samples_take_less_than_two_seconds():
    generator = torch.Generator().manual_seed(0)
    xy, K, cameras = seen_by_rig(0.3 * torch.randn(1, 8, 3, generator=generator, dtype=torch.float64))
    xy = xy.expand(1700, -1, -1, -1) + torch.randn(1700, 6, 8, 2, generator=generator)
    rng = np.random.default_rng(0)
    target = rng.random((10_000, 8, 2))
    started = time.process_time()
    consistency(xy, torch.ones(xy.shape[:-1]), K.expand(1700, 6, 3, 3), cameras.expand(1700, 6, 4, 4), SIDE).summary()
    for protocol in (inter_ocular_errors, visible_errors, summed_errors_px256, correct_shares):
        protocol(target, target[::-1])
    regression_errors(target, target[::-1], target, target)
    assert time.process_time() - started < 2
