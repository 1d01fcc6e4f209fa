"""Metrics against the benchmarks' own numbers, small cases by hand, and masks that hide NaN."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.spatial import cKDTree

from posecore.metrics import (
    PAIRS_AT_ONCE,
    acceleration_error,
    auc,
    f_score,
    mpjpe,
    pa_mpjpe,
    pck,
    point_errors,
    root_aligned,
    scale_aligned,
    silhouette_iou,
)
from posecore.rotations import axis_angle_to_matrix

F64 = torch.float64


def points(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def close(actual, expected, atol=1e-9):
    expected = torch.as_tensor(np.asarray(expected), dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def test_the_mean_joint_error_is_one_number_a_sample_and_skips_points_that_are_not_valid():
    pred, target = torch.zeros(2, 3, 3), torch.zeros(2, 3, 3)
    target[0, 0, 0], target[0, 1, 1], target[1] = 3, 6, math.nan
    valid = torch.tensor([[True, True, True], [False, False, False]])
    assert mpjpe(pred, target, valid)[0] == 3
    assert mpjpe(pred, target, valid)[1].isnan()
    valid[0, 2] = False
    assert mpjpe(pred, target, valid)[0] == 4.5


def test_nan_in_points_that_are_not_valid_reaches_no_gradient():
    pred, target = points(2, 6, 3).requires_grad_(), points(2, 6, 3, seed=1)
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[:, 4], target[:, 4] = False, math.nan
    for metric in (mpjpe, pa_mpjpe, lambda *x: scale_aligned(*x)[valid]):
        (gradient,) = torch.autograd.grad(metric(pred, target, valid).sum(), pred)
        assert gradient.isfinite().all()
    assert not torch.autograd.grad(mpjpe(pred, target, valid).sum(), pred)[0][:, 4].any()


def test_alignment_takes_out_a_similarity_and_leaves_the_mirror_image_wrong():
    target = points(3, 12, 3)
    R = axis_angle_to_matrix(torch.tensor([1.0, 2, -0.5], dtype=F64))
    assert pa_mpjpe(2.5 * target @ R.T + 10, target).max() < 1e-12
    assert pa_mpjpe(-target, target).min() > 0.1
    with pytest.raises(ValueError, match="batch entries 1"):
        pa_mpjpe(target * torch.tensor([1.0, 0, 1])[:, None, None], target)
    some = pa_mpjpe(target * torch.tensor([1.0, 0, 1])[:, None, None], target, on_degenerate="nan")
    assert some.isnan().tolist() == [False, True, False]


def test_root_and_scale_alignment_take_out_what_they_say():
    target = points(3, 12, 3)
    assert mpjpe(root_aligned(target + 7), root_aligned(target)).max() < 1e-12
    assert mpjpe(root_aligned(target + 7, root=-1), root_aligned(target, root=-1)).max() < 1e-12
    assert not root_aligned(target, root=4)[:, 4].any()
    assert mpjpe(scale_aligned(0.1 * target - 3, target), target).max() < 1e-12


def test_the_share_of_correct_points_counts_the_threshold_itself_and_pools_the_batch():
    pred, target = torch.zeros(2, 2, 2), torch.zeros(2, 2, 2)
    target[0, 0, 0], target[0, 1, 1], target[1, 0, 0], target[1, 1] = 5, 6, 1, math.nan
    valid = torch.tensor([[True, True], [True, False]])
    assert pck(pred, target, 5.0, valid).item() == pytest.approx(2 / 3)
    assert pck(pred, target, torch.tensor([[4.0], [1]]), valid).item() == pytest.approx(1 / 3)
    assert pck(pred, target, 5.0, torch.zeros_like(valid)).isnan()


@given(errors=st.lists(st.floats(0, 2), min_size=1, max_size=30), steps=st.integers(2, 200))
def test_the_area_is_that_of_the_curve_of_shares(errors, steps):
    values = torch.tensor(errors, dtype=F64)
    thresholds = np.linspace(0.1, 1.3, steps)
    curve = [(values.numpy() <= x).mean() for x in torch.linspace(0.1, 1.3, steps, dtype=F64).numpy()]
    expected = trapezoid(curve, thresholds) / 1.2
    assert auc(values, 0.1, 1.3, steps).item() == pytest.approx(expected)


def test_the_area_is_one_for_perfect_points_and_leaves_out_what_is_not_valid():
    errors = torch.tensor([0.0, 0.0, math.nan])
    assert auc(errors, 0.0, 50.0, valid=torch.tensor([True, True, False])).item() == 1
    assert auc(torch.tensor([51.0]), 0.0, 50.0).item() == 0
    with pytest.raises(ValueError, match="lo < hi"):
        auc(errors, 50.0, 0.0)


def test_the_f_score_is_that_of_nearest_neighbours_from_a_tree(monkeypatch):
    pred, target = points(4, 60, 3), points(4, 50, 3, seed=1)
    expected = []
    for a, b in zip(pred.numpy(), target.numpy(), strict=True):
        precision, recall = (cKDTree(b).query(a)[0] < 0.5).mean(), (cKDTree(a).query(b)[0] < 0.5).mean()
        expected.append(2 * precision * recall / (precision + recall))
    close(f_score(pred, target, 0.5), expected)
    monkeypatch.setitem(PAIRS_AT_ONCE, "cpu", 1)
    close(f_score(pred.reshape(2, 2, 60, 3), target.reshape(2, 2, 50, 3), 0.5), np.reshape(expected, (2, 2)))
    assert f_score(pred, target + 100, 0.5).tolist() == [0, 0, 0, 0]
    assert f_score(pred, pred, 1e-6).tolist() == [1, 1, 1, 1]


def test_constant_velocity_has_no_acceleration_error_and_a_jump_counts_where_three_frames_are_valid():
    t = torch.arange(6.0)[:, None, None]
    target = torch.zeros(6, 2, 3)
    assert acceleration_error(t * torch.tensor([1.0, 2, 3]) + target, target) == 0
    pred = target.clone()
    pred[3, 0, 0] = 1  # second differences 1, -2, 1 in three of four frames of one of two points
    assert acceleration_error(pred, target).item() == pytest.approx(4 / 8)
    valid = torch.ones(6, 2, dtype=torch.bool)
    valid[5, 0] = False
    assert acceleration_error(pred, target, valid).item() == pytest.approx(3 / 7)
    with pytest.raises(ValueError, match="three frames or more"):
        acceleration_error(pred[:2], target[:2])


def test_the_overlap_of_masks_is_one_for_equal_and_for_empty_ones():
    a = torch.zeros(4, 4, 4)
    b = torch.zeros(4, 4, 4)
    a[0, :2], b[0, 1:3] = 1, 0.6
    a[1, 0], b[1, 3] = 1, 1
    a[2, 1], b[2, 1] = 0.9, 0.51
    assert silhouette_iou(a, b).tolist() == pytest.approx([1 / 3, 0, 1, 1])
    assert silhouette_iou(a > 0.5, b > 0.5).tolist() == pytest.approx([1 / 3, 0, 1, 1])


@pytest.mark.usefixtures("unchecked")
def test_different_shapes_are_refused_not_broadcast():
    for metric in (point_errors, mpjpe, silhouette_iou):
        with pytest.raises(ValueError, match=r"\(2, 5, 3\).* and target \(5, 3\) differ"):
            metric(torch.zeros(2, 5, 3), torch.zeros(5, 3))


def test_ten_thousand_samples_are_scored_at_once_as_one_by_one():
    pred, target = points(10_000, 21, 3).float(), points(10_000, 21, 3, seed=1).float()
    together = pa_mpjpe(pred, target)
    for i in (0, 5000, 9999):
        close(together[i], pa_mpjpe(pred[i], target[i]), atol=1e-6)
    assert mpjpe(pred, target).shape == (10_000,)


def test_the_original_systems_numbers_are_met(reference):
    arrays = reference("smil_regressor/metrics")
    pred, target = (torch.from_numpy(arrays[key]) for key in ("pred3d", "gt3d"))
    close(mpjpe(pred, target), arrays["mpjpe"], 1e-6)
    close(pa_mpjpe(pred, target), arrays["pa_mpjpe"], 1e-6)
    close(scale_aligned(pred, target), arrays["scale_aligned"], 1e-6)
    size = torch.from_numpy(arrays["image_wh"]).flip(-1)[:, None]  # keypoints are (y, x) in 0..1
    pred_px, target_px = (torch.from_numpy(arrays[key]) * size for key in ("pred_kp_yx01", "gt_kp_yx01"))
    valid = torch.from_numpy(arrays["visibility"]).bool() & target_px.any(-1)
    close(point_errors(pred_px, target_px)[valid], arrays["errors_px"], 1e-6)
    for threshold, share in zip(arrays["pck_thresholds"].tolist(), arrays["pck_values"], strict=True):
        close(pck(pred_px, target_px, threshold, valid), share)


def test_the_hand_benchmarks_numbers_are_met(reference):
    arrays = {key: torch.from_numpy(value) for key, value in reference("handvit/metrics").items()}
    pred, target = arrays["pred_joints"], arrays["gt_joints"]
    close(1000 * mpjpe(pred, target), arrays["hamer_mpjpe_mm"], 1e-6)
    close(1000 * pa_mpjpe(pred, target), arrays["hamer_pa_mm"], 1e-6)
    errors = point_errors(pred, target)
    close(auc(errors, 0.0, 0.05), arrays["joint_auc"], 1e-9)
    close(auc(errors, 0.0, 0.05, valid=arrays["vis_mask"]), arrays["vis_auc"], 1e-2)  # theirs: mean over keypoints
    for step in (3, 50, 99):
        close(pck(pred, target, arrays["thresholds"][step].item()), arrays["joint_pck"][step])
    for column, threshold in enumerate((0.005, 0.015)):
        scores = f_score(arrays["pred_verts"], arrays["gt_verts"], threshold)
        close(scores, arrays["fscore_5_15"][:, column, 0], 1e-9)
    sequences = arrays["formula_seq_pred_mm"], arrays["formula_seq_gt_mm"]
    close(acceleration_error(*sequences), arrays["formula_accel_error_per_seq"], 1e-9)
