"""Measurements against the published evaluation's numbers, and the laws that they obey."""

import time
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from smil_regressor import metrics
from smil_regressor.data.sample import collate


def measured(batch, joints, K=None, cameras=None, masks=None):
    parents = [-1, *range(batch.keypoints_world.shape[1] - 1)]
    K, cameras = batch.K if K is None else K, batch.cam_from_world if cameras is None else cameras
    return metrics.measure(batch, joints, batch.rotations, K, cameras, masks, parents)


@pytest.fixture
def batch(make_sample):
    return collate([make_sample(views=3, joints=8, seed=seed) for seed in range(4)])


def test_3d_errors_are_the_published_ones(reference, make_sample):
    wanted = reference("metrics")
    truth, found = torch.from_numpy(wanted["gt3d"]), torch.from_numpy(wanted["pred3d"])
    batch = replace(collate([make_sample(views=1, joints=20, seed=s) for s in range(5)]), keypoints_world=truth)
    ours = measured(batch, found)
    np.testing.assert_allclose(ours.mpjpe.mean(1), wanted["mpjpe"], rtol=1e-6)
    np.testing.assert_allclose(ours.pa_mpjpe.mean(1)[:4], wanted["pa_mpjpe"][:4], rtol=1e-4)
    assert ours.pa_mpjpe.mean(1)[4] >= wanted["pa_mpjpe"][4] - 1e-6, "the last sample is a mirror image: no rotation"


def test_2d_errors_and_pck_are_the_published_ones(reference, make_sample):
    wanted = reference("metrics")
    side, n, joints = 32, *wanted["visibility"].shape
    batch = collate([make_sample(views=1, joints=joints, resolution=side, seed=s) for s in range(n)])

    def pixels(yx01):
        return torch.from_numpy(yx01[..., ::-1] * side - 0.5).float()[:, None]

    labelled = wanted["visibility"] * (wanted["gt_kp_yx01"] != 0).any(-1)
    batch = replace(
        batch,
        keypoints_px=pixels(wanted["gt_kp_yx01"]),
        visibility=torch.from_numpy(labelled)[:, None],
        native_size_wh=torch.from_numpy(wanted["image_wh"]).float()[:, None],
    )
    found = pixels(wanted["pred_kp_yx01"])[:, 0]
    rays = torch.cat([found, torch.ones_like(found[..., :1])], -1)
    eye = torch.eye(4).expand(n, 1, 4, 4)
    ours = measured(batch, rays, eye[..., :3, :3], eye)
    errors = ours.px_native[~np.isnan(ours.px_native)]
    np.testing.assert_allclose(errors, wanted["errors_px"], rtol=1e-4, atol=1e-3)
    summary = metrics.summarise(ours)
    for threshold, value in zip(wanted["pck_thresholds"], wanted["pck_values"], strict=True):
        if int(threshold) in metrics.PCK_THRESHOLDS_PX and threshold == int(threshold):
            assert summary[f"pck_native@{int(threshold)}px"] == pytest.approx(value)
    assert summary["pck_native@5px"] == pytest.approx(wanted["pck_at_5"].item())


def test_the_truth_has_no_error(batch):
    ours = measured(batch, batch.keypoints_world, masks=batch.masks)
    for name in ("px_input", "px_native", "mpjpe", "pa_mpjpe", "root_aligned", "scale_aligned", "angle_deg",
                 "bone_length_percent", "triangulation", "reprojection_px"):  # fmt: skip
        values = getattr(ours, name)
        assert np.nanmax(np.abs(values)) < 2e-2, name
        assert not np.isnan(values[:, :1]).all() or name == "bone_length_percent", name
    assert (ours.iou == 1).all()


@given(seed=st.integers(0, 2**31), scale=st.floats(0.2, 5))
def test_alignment_takes_away_exactly_what_it_names(seed, scale, make_sample):
    rng = np.random.default_rng(seed)
    batch = collate([make_sample(views=1, joints=8, seed=seed % 7)])
    truth = batch.keypoints_world.double()
    shift = torch.from_numpy(rng.normal(size=3))
    moved = measured(batch, (truth + shift))
    assert moved.root_aligned.max() < 1e-6
    np.testing.assert_allclose(moved.mpjpe, shift.norm(), rtol=1e-5)
    grown = measured(batch, truth[:, :1] + scale * (truth - truth[:, :1]) + shift)
    assert grown.scale_aligned.max() < 1e-6
    turn = torch.from_numpy(Rotation.random(rng=rng).as_matrix())
    similar = measured(batch, scale * truth @ turn.T + shift)
    assert similar.pa_mpjpe.max() < 1e-6
    assert similar.bone_length_percent == pytest.approx(100 * abs(scale - 1), abs=1e-3)


def test_what_is_unknown_is_nan_and_enters_no_mean(batch):
    known = batch.has_keypoints_world.clone()
    known[0, 3:] = False
    known[1] = False
    seen = batch.visibility.clone()
    seen[:, 1] = 0
    partial = replace(batch, has_keypoints_world=known, visibility=seen, has_mask=torch.zeros_like(batch.has_mask))
    ours = measured(partial, batch.keypoints_world + 1)
    assert np.isnan(ours.mpjpe[0, 3:]).all()
    assert np.isnan(ours.mpjpe[1]).all()
    assert np.isnan(ours.px_input[:, 1]).all()
    summary = metrics.summarise(ours)
    assert summary["mpjpe_units"] == pytest.approx(3**0.5, rel=1e-5)
    assert "iou" not in summary
    assert "pck_mask@0.1" not in summary
    assert all(np.isfinite(value) for value in summary.values())


def test_a_joint_behind_the_camera_misses_every_threshold_and_is_counted(batch):
    away = batch.cam_from_world.clone()
    away[0, 0, 2, 3] -= 100
    ours = measured(batch, batch.keypoints_world, cameras=away)
    assert np.isinf(ours.px_input[0, 0]).all()
    summary = metrics.summarise(ours)
    assert summary["behind_camera_percent"] == pytest.approx(100 / 12)
    assert summary["pck_input@50px"] == pytest.approx(11 / 12)
    assert summary["px_input"] < 1e-2


def test_reports_by_joint_view_and_session_average_to_the_summary(batch):
    noise = torch.randn(batch.keypoints_world.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    ours = measured(batch, batch.keypoints_world + noise)
    summary = metrics.summarise(ours, 1000.0)
    joints = metrics.by_joint(ours, [f"j{i}" for i in range(8)], 1000.0)
    assert np.mean([row["mpjpe_mm"] for row in joints]) == pytest.approx(summary["mpjpe_mm"])
    views = metrics.by_view(ours, ["a", "b", "c"])
    assert np.mean([row["px_native"] for row in views]) == pytest.approx(summary["px_native"])
    sessions = metrics.by_session(ours, 1000.0)
    assert [(row["session"], row["samples"]) for row in sessions] == [("session0", 2), ("session1", 1), ("session2", 1)]
    mean = np.average([row["mpjpe_mm"] for row in sessions], weights=[row["samples"] for row in sessions])
    assert mean == pytest.approx(summary["mpjpe_mm"])


def test_joined_batches_are_measured_as_one(batch):
    whole = measured(batch, batch.keypoints_world + 0.1)
    rows = [{f.name: getattr(batch, f.name) for f in fields(batch)} for _ in range(2)]
    halves = [replace(batch, **{k: v[part] for k, v in row.items() if v is not None})
              for row, part in zip(rows, (slice(0, 1), slice(1, 4)), strict=True)]  # fmt: skip
    joined = metrics.concatenate([measured(half, half.keypoints_world + 0.1) for half in halves])
    assert metrics.summarise(joined) == pytest.approx(metrics.summarise(whole))
    assert joined.key == whole.key


def test_the_area_under_pck_is_that_of_the_drawn_curve(batch):
    ours = measured(
        batch, batch.keypoints_world + torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(1)) * 0.5
    )
    known = ours.px_input[~np.isnan(ours.px_input)]
    thresholds = np.linspace(0, 50, 20001)
    curve = (known[None] <= thresholds[:, None]).mean(1)
    area = ((curve[1:] + curve[:-1]) / 2).mean()
    assert metrics.summarise(ours)["pck_input_auc"] == pytest.approx(area, abs=1e-3)


def test_ten_thousand_samples_are_summarised_in_a_second():
    rng = np.random.default_rng(0)
    n, v, j = 10_000, 3, 55
    shapes = {"px_input": (n, v, j), "px_native": (n, v, j), "reprojection_px": (n, v, j), "mask_side_px": (n, v),
              "box_side_px": (n, v), "iou": (n, v), "bone_length_percent": (n, j - 1)}  # fmt: skip
    names = [f.name for f in fields(metrics.Measurements) if f.name not in ("key", "session")]
    columns = {name: rng.random(shapes.get(name, (n, j))) for name in names}
    many = metrics.Measurements(key=("k",) * n, session=tuple(f"s{i % 50}" for i in range(n)), **columns)
    started = time.process_time()
    metrics.summarise(many)
    metrics.by_joint(many, [str(i) for i in range(j)])
    metrics.by_session(many)
    assert time.process_time() - started < 3, "about 0.7 s on a quiet core"
