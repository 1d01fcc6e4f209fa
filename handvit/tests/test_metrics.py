"""Metrics beside the official scripts' values, and their laws."""

import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handvit.metrics import (
    ConstantFit,
    Frames,
    best_constant,
    breakdown,
    by_joint,
    concatenate,
    concatenate_frames,
    frames_of,
    joint_auc,
    keypoint_mean,
    measure,
    motion_errors,
    mrrpe,
    summarise,
    sums_and_counts,
    validation_sums,
    write_csv,
)
from handvit.metrics.measure import camera_scaled, depth_aligned, pa_aligned
from handvit.metrics.surfaces import f_scores
from handvit.posing import last_frames, pose_hands
from posecore.errors import InputError
from posecore.metrics import auc, f_score
from posecore.rotations import axis_angle_to_matrix

sys.path.append(str(Path(__file__).parent))
from hand_scenes import PATCH, make_batch, perturbed, standin, true_prediction

OFFICIAL = {"rtol": 0.0, "atol": 1e-6}


def rows(joints, truth, valid=None, **changes):
    """Frames of joints alone, mm."""
    n = len(joints)
    everywhere = np.ones((n, 21), bool)
    values = {
        "key": tuple(f"s: clip{i}[0]" for i in range(n)),
        "sequence": ("clip",) * n,
        "image": ("",) * n,
        "source_index": ("",) * n,
        "data_source": ("DexYCB",) * n,
        "is_left": np.zeros(n, bool),
        "timestamp_ms": np.arange(n) * 40.0,
        "joint_cam_mm": np.asarray(joints, float),
        "true_joint_cam_mm": np.asarray(truth, float),
        "joint_3d_valid": everywhere if valid is None else valid,
        "joint_patch": np.zeros((n, 21, 2)),
        "true_joint_patch": np.zeros((n, 21, 2)),
        "joint_2d_valid": everywhere,
        "hand_size_mm": np.full(n, 90.0),
        "size_valid": np.ones(n, bool),
        "has_mano": np.zeros(n, bool),
    }
    return Frames(**values | changes)


@pytest.fixture(scope="module")
def official(reference):
    return reference("metrics_joints")


@pytest.fixture(scope="module")
def official_rows(official):
    """The official joints, in mm."""
    return rows(1000 * official["pred_joints"], 1000 * official["gt_joints"])


def test_joint_means_and_areas_are_the_official_ones(official, official_rows):
    m = measure(official_rows, allow_reflection=True)
    out = summarise(m)
    np.testing.assert_allclose(out["mpjpe_mm"] / 1000, official["joint_mean"], **OFFICIAL)
    np.testing.assert_allclose(out["pa_mpjpe_mm"] / 1000, official["joint_pa_mean"], **OFFICIAL)
    np.testing.assert_allclose(out["auc"], official["joint_auc"], **OFFICIAL)
    np.testing.assert_allclose(out["auc_pa"], official["joint_pa_auc"], **OFFICIAL)
    np.testing.assert_allclose(out["mpjpe_rel_mm"], official["dexycb_rr_mean_mm"], **OFFICIAL)
    np.testing.assert_allclose(out["auc_rel"], official["dexycb_rr_auc"], **OFFICIAL)


def test_means_with_a_mask_are_the_official_ones(official, official_rows):
    m = measure(replace(official_rows, joint_3d_valid=official["vis_mask"]))
    np.testing.assert_allclose(keypoint_mean(m.joint) / 1000, official["vis_mean"], **OFFICIAL)
    np.testing.assert_allclose(joint_auc(m.joint), official["vis_auc"], **OFFICIAL)


def test_alignment_without_reflection_is_that_of_the_published_method(official, official_rows):
    m = measure(official_rows)
    np.testing.assert_allclose(m.joint.mean(1), official["hamer_mpjpe_mm"], **OFFICIAL)
    np.testing.assert_allclose(m.joint_pa.mean(1), official["hamer_pa_mm"], **OFFICIAL)
    pred, truth = (torch.from_numpy(official[name]) for name in ("pred_joints", "gt_joints"))
    np.testing.assert_allclose(pa_aligned(pred, truth).numpy(), official["joints_pa_hamer"], **OFFICIAL)
    mirrored = pa_aligned(pred, truth, allow_reflection=True)
    np.testing.assert_allclose(mirrored.numpy(), official["joints_pa_freihand"], **OFFICIAL)


def test_a_mirrored_hand_is_perfect_only_where_reflection_is_allowed(official_rows):
    strict, lenient = (measure(official_rows, allow_reflection=flag).joint_pa[6].mean() for flag in (False, True))
    assert strict > 5.0
    assert lenient < 1e-6


def test_sums_and_counts_under_masks_are_the_published_ones(official, official_rows):
    m = measure(replace(official_rows, joint_3d_valid=official["joint_mask"][:, 0]))
    total, count = sums_and_counts(m)["mpjpe_mm"]
    np.testing.assert_allclose([total / 1000, count], official["cs_mpjpe_sum_count"], **OFFICIAL)
    framed = np.repeat(official["frame_mask"], 21, 1)
    total, count = sums_and_counts(measure(replace(official_rows, joint_3d_valid=framed)))["rte_mm"]
    np.testing.assert_allclose([total / 1000, count], official["cs_rte_sum_count"], **OFFICIAL)


@pytest.fixture(scope="module")
def official_meshes(reference):
    full = reference("metrics")
    n = len(full["gt_verts"])
    frames = rows(
        1000 * full["pred_joints"],
        1000 * full["gt_joints"],
        has_mano=np.ones(n, bool),
        vertices_mm=1000 * full["pred_verts"].astype(float),
        true_vertices_mm=1000 * full["gt_verts"].astype(float),
    )
    return full, frames


def test_mesh_errors_and_f_scores_are_the_official_ones(official_meshes):
    full, frames = official_meshes
    m = measure(frames, allow_reflection=True)
    out = summarise(m)
    np.testing.assert_allclose(out["mpvpe_mm"] / 1000, full["vert_mean"], **OFFICIAL)
    np.testing.assert_allclose(out["pa_mpvpe_mm"] / 1000, full["vert_pa_mean"], **OFFICIAL)
    np.testing.assert_allclose(out["auc_vertices"], full["vert_auc"], **OFFICIAL)
    # One sample fits exactly: which of its vertices meet the threshold 0 is rounding.
    np.testing.assert_allclose(out["auc_vertices_pa"], full["vert_pa_auc"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(np.stack([m.f_5, m.f_15], 1), full["fscore_5_15"][..., 0], **OFFICIAL)
    np.testing.assert_allclose(np.stack([m.f_5_pa, m.f_15_pa], 1), full["fscore_pa_5_15"][..., 0], **OFFICIAL)
    framed = measure(replace(frames, has_mano=full["frame_mask"][:, 0]), with_f_scores=False)
    total, count = sums_and_counts(framed)["mpvpe_mm"]
    np.testing.assert_allclose([total / 1000, count], full["cs_mpvpe_sum_count"], **OFFICIAL)
    scores = f_scores(full["pred_verts"].astype(float), full["gt_verts"].astype(float), (0.005, 0.015))
    np.testing.assert_allclose(scores, full["fscore_5_15"], **OFFICIAL)


def test_f_scores_are_those_of_all_pairs_of_points():
    g = torch.Generator().manual_seed(0)
    pred, target = (40 * torch.randn(3, 60, 3, generator=g, dtype=torch.float64) for _ in range(2))
    target[2] = pred[2]
    pred[1] += 500
    scores = f_scores(pred.numpy(), target.numpy(), (5.0, 15.0))
    for k, threshold in enumerate((5.0, 15.0)):
        np.testing.assert_allclose(scores[:, k, 0], f_score(pred, target, threshold).numpy(), atol=1e-12)
    assert scores[2, :, 0].tolist() == [1.0, 1.0]
    assert scores[1, :, 0].tolist() == [0.0, 0.0]


def test_a_point_exactly_at_the_threshold_is_outside():
    pred, target = np.zeros((1, 1, 3)), np.array([[[5.0, 0.0, 0.0]]])
    assert f_scores(pred, target, (5.0, 15.0))[0, :, 0].tolist() == [0.0, 1.0]


def test_motion_errors_are_the_formulas(official):
    pred, truth = official["formula_seq_pred_mm"], official["formula_seq_gt_mm"]
    parts = []
    for i in range(2):
        part = rows(pred[i], truth[i], sequence=(f"video{i}",) * 12)
        parts.append(measure(part))
        np.testing.assert_allclose(
            motion_errors(parts[i])["acceleration"].mean(), official["formula_accel_error_per_seq"][i], atol=1e-9
        )
    m = concatenate(parts)
    motion = motion_errors(m)
    np.testing.assert_allclose(motion["acceleration"].mean(), official["formula_accel_error"], atol=1e-9)
    np.testing.assert_allclose(motion["jitter"].mean(), official["formula_jerk_pred"], atol=1e-9)
    np.testing.assert_allclose(motion["acceleration_s2"], motion["acceleration"] / 0.04**2, rtol=1e-12)


def test_motion_does_not_depend_on_the_order_of_rows_and_stops_at_gaps_and_ends(official):
    pred, truth = official["formula_seq_pred_mm"][0], official["formula_seq_gt_mm"][0]
    frames = rows(pred, truth)
    shuffled = np.random.default_rng(0).permutation(12)
    mixed = rows(pred[shuffled], truth[shuffled], timestamp_ms=frames.timestamp_ms[shuffled])
    both = [motion_errors(measure(f))["acceleration"] for f in (frames, mixed)]
    np.testing.assert_allclose(both[0], both[1])
    late = frames.timestamp_ms + 500 * (np.arange(12) >= 6)
    gap = motion_errors(measure(replace(frames, timestamp_ms=late)))
    assert len(gap["acceleration"]) == 8
    assert len(gap["jitter"]) == 6
    split = replace(frames, sequence=("a",) * 5 + ("b",) * 7)
    assert len(motion_errors(measure(split))["acceleration"]) == 3 + 5
    assert len(motion_errors(measure(rows(pred[:2], truth[:2])))["acceleration"]) == 0


def test_relative_root_errors_of_two_hands_are_the_formula(official):
    left, right = ("formula_mrrpe_left", "formula_mrrpe_right")
    hands = []
    for name, is_left in ((left, True), (right, False)):
        pred, truth = (np.repeat(official[f"{name}_{end}"][:, None], 21, 1) for end in ("pred", "gt"))
        hands.append(rows(pred, truth, is_left=np.full(5, is_left), image=tuple(f"image{i}" for i in range(5))))
    m = measure(concatenate_frames(hands))
    np.testing.assert_allclose(mrrpe(m), official["formula_mrrpe"], atol=1e-9)
    alone = measure(hands[0])
    assert len(mrrpe(alone)) == 0
    assert "mrrpe_mm" not in summarise(alone)


@settings(max_examples=15)
@given(st.integers(0, 2**31 - 1), st.floats(-300, 300), st.floats(0.3, 3))
def test_alignments_remove_what_they_are_for(seed, shift, scale):
    g = torch.Generator().manual_seed(seed)
    truth = 40 * torch.randn(2, 21, 3, generator=g, dtype=torch.float64) + torch.tensor([0.0, 0.0, 700.0])
    known = torch.rand(2, 21, generator=g) > 0.3
    moved = truth + torch.tensor([0.0, 0.0, shift])
    close = {"rtol": 0, "atol": 1e-8}
    torch.testing.assert_close(depth_aligned(moved, truth, known), truth, **close)
    torch.testing.assert_close(camera_scaled(scale * truth, truth, known), truth, **close)
    R = axis_angle_to_matrix(torch.randn(2, 1, 3, generator=g, dtype=torch.float64))[:, 0]
    torch.testing.assert_close(pa_aligned(scale * truth @ R.mT + shift, truth, known), truth, **close)


def test_hidden_labels_do_not_count_and_may_be_nan(official_rows):
    valid = np.ones((8, 21), bool)
    valid[2] = False
    valid[3, 0] = False
    valid[4, 5:] = False
    truth = np.where(valid[..., None], official_rows.true_joint_cam_mm, np.nan)
    m = measure(replace(official_rows, joint_3d_valid=valid, true_joint_cam_mm=truth))
    assert np.isnan(m.joint[~valid]).all()
    assert np.isfinite(m.joint[valid]).all()
    assert np.isnan(m.joint_rel[3]).all()
    assert np.isnan([m.root[2], m.root[3]]).all()
    assert np.isfinite(m.joint_pa[4, :5]).all()
    assert np.isfinite(m.joint_pa[3, 1:]).all()
    total, count = sums_and_counts(m)["mpjpe_mm"]
    assert count == valid.sum()
    np.testing.assert_allclose(total / count, m.joint[valid].mean())


def test_areas_of_meshes_are_those_of_all_their_vertices():
    g = np.random.default_rng(0)
    truth = g.normal(0, 50, (3, 778, 3))
    pred = truth + g.normal(0, 12, truth.shape)
    joints = np.zeros((3, 21, 3))
    meshes = {"has_mano": np.array([True, False, True]), "vertices_mm": pred, "true_vertices_mm": truth}
    m = measure(rows(joints, joints, **meshes), with_f_scores=False)
    errors = torch.from_numpy(np.linalg.norm(pred - truth, axis=-1))
    assert np.isnan(m.vertex[1])
    assert np.isnan(m.f_5).all()
    np.testing.assert_allclose(m.vertex_auc[[0, 2]], [float(auc(errors[i], 0.0, 50.0)) for i in (0, 2)], atol=1e-12)


@pytest.fixture(scope="module")
def evaluated():
    """A batch with patches, its true and a wrong prediction."""
    hand = standin()
    batch = make_batch(hand, b=4, t=3)
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    network = torch.where(batch.is_left[:, None, None, None], flip, torch.eye(3)).expand(4, 3, 3, 3)
    batch = replace(batch, patches=torch.zeros(4, 3, 3, PATCH, PATCH), camera_from_network=network)
    return hand, batch, true_prediction(batch), perturbed(true_prediction(batch))[0]


def posed(hand, prediction, with_vertices=True):
    return pose_hands(hand, prediction, norm_by_hand=False, with_vertices=with_vertices)


def test_the_truth_has_no_error_in_any_metric(evaluated):
    hand, batch, truth, _ = evaluated
    out = summarise(measure(frames_of(batch, posed(hand, truth), hand)))
    perfect = {name: value for name, value in out.items() if name.startswith(("auc", "f@", "pa_f@"))}
    assert len(perfect) == 9
    assert min(perfect.values()) > 0.994  # an exact fit misses the threshold 0 by rounding
    for name in (
        "mpjpe_mm",
        "mpjpe_rel_mm",
        "pa_mpjpe_mm",
        "mpvpe_mm",
        "pa_mpvpe_mm",
        "rte_mm",
        "depth_mm",
        "error_2d_px",
    ):
        assert abs(out[name]) < 2e-3, name
    assert out["acceleration_mm"] < 5e-3
    assert out["behind_camera_percent"] == out["implausible_size_percent"] == 0


def test_left_hands_are_mirrored_back_and_errors_stay(evaluated):
    hand, batch, _, wrong = evaluated
    frames = frames_of(batch, posed(hand, wrong), hand)
    left = frames.is_left
    assert left.tolist() == [False] * 3 + [True] * 3 + [False] * 3 + [True] * 3
    original = batch.joint_cam_mm.flatten(0, 1).numpy()
    np.testing.assert_array_equal(frames.true_joint_cam_mm[left], original[left] * [-1, 1, 1])
    np.testing.assert_array_equal(frames.true_joint_cam_mm[~left], original[~left])
    plain = frames_of(replace(batch, camera_from_network=torch.eye(3).expand(4, 3, 3, 3)), posed(hand, wrong), hand)
    mirrored, straight = measure(frames, with_f_scores=False), measure(plain, with_f_scores=False)
    for name in ("joint", "joint_rel", "joint_pa", "root", "vertex", "vertex_pa", "depth"):
        np.testing.assert_allclose(getattr(mirrored, name), getattr(straight, name), rtol=1e-5, atol=1e-4)


def test_rows_of_a_clip_follow_one_another_and_know_their_sequence(evaluated):
    hand, batch, _, wrong = evaluated
    frames = frames_of(batch, posed(hand, wrong, with_vertices=False), hand)
    assert frames.key[:4] == ("shard.tar: clip0[0]",) * 3 + ("shard.tar: clip1[0]",)
    assert frames.sequence[:4] == ("shard.tar: clip0",) * 3 + ("shard.tar: clip1",)
    np.testing.assert_array_equal(frames.timestamp_ms, batch.timestamp_ms.flatten().numpy())
    assert frames.vertices_mm is None
    m = measure(frames)
    assert np.isnan(m.vertex).all()
    assert "mpvpe_mm" not in summarise(m)


def test_batches_measured_apart_are_the_whole(evaluated):
    hand, batch, _, wrong = evaluated
    whole = frames_of(batch, posed(hand, wrong), hand)
    half = len(whole) // 2
    parts = [
        Frames(**{f.name: getattr(whole, f.name)[span] for f in fields(Frames)})
        for span in (slice(0, half), slice(half, None))
    ]
    together, apart = measure(whole), concatenate([measure(part) for part in parts])
    for field in fields(together):
        np.testing.assert_array_equal(getattr(together, field.name), getattr(apart, field.name))
    assert summarise(apart) == summarise(together)
    joined = concatenate_frames(parts)
    assert joined.key == whole.key
    sums = [sums_and_counts(measure(part)) for part in parts]
    for name, pair in sums_and_counts(together).items():
        np.testing.assert_allclose(np.add(sums[0][name], sums[1][name]), pair, rtol=1e-12)
    with pytest.raises(ValueError, match="vertices_mm: some parts"):
        concatenate_frames([parts[0], replace(parts[1], vertices_mm=None)])


def test_validation_sums_are_means_of_the_summary_where_everything_is_labelled(evaluated):
    hand, batch, _, wrong = evaluated
    sums = validation_sums(posed(hand, wrong), batch, hand)
    out = summarise(measure(frames_of(batch, posed(hand, wrong), hand), with_f_scores=False))
    for name in ("mpjpe_mm", "mpjpe_rel_mm", "pa_mpjpe_mm", "rte_mm", "error_2d_px", "mpvpe_mm"):
        total, count = sums[name]
        assert total.dtype == torch.float64
        np.testing.assert_allclose(float(total / count), out[name], rtol=1e-9)


def test_joints_behind_the_camera_are_counted_and_not_averaged(evaluated):
    hand, batch, truth, _ = evaluated
    there = posed(hand, truth, with_vertices=False)
    joints = there.joint_cam_mm.clone()
    joints[0, 0, 3, 2] = -10.0
    out = summarise(measure(frames_of(batch, replace(there, joint_cam_mm=joints), hand)))
    np.testing.assert_allclose(out["behind_camera_percent"], 100 / (12 * 21))
    assert out["error_2d_px"] < 1e-2


def test_predictions_for_other_frames_than_the_batch_has_are_refused(evaluated):
    hand, batch, truth, _ = evaluated
    whole = posed(hand, truth)
    with pytest.raises(ValueError, match=r"\(4, 3\), labelled \(4, 1\)"):
        frames_of(last_frames(batch, 1), whole, hand)
    with pytest.raises(ValueError, match="no patches"):
        frames_of(replace(batch, patches=None), whole, hand)


def test_the_breakdown_covers_datasets_depths_and_sides(evaluated, tmp_path):
    hand, batch, _, wrong = evaluated
    m = measure(frames_of(batch, posed(hand, wrong), hand), with_f_scores=False)
    table = breakdown(m)
    for group in ("dataset", "depth", "side"):
        mine = [row for row in table if row["group"] == group]
        assert sum(row["samples"] for row in mine) == len(m)
        mean = sum(row["samples"] * row["mpjpe_mm"] for row in mine) / len(m)
        np.testing.assert_allclose(mean, m.joint.mean(), rtol=1e-9)
    assert {row["value"] for row in table if row["group"] == "dataset"} == {"DexYCB", "HO3D_v3", "InterHand2.6M"}
    write_csv(tmp_path / "table.csv", table)
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert len(lines) == len(table) + 1
    joints = by_joint(m)
    np.testing.assert_allclose(np.mean([row["mpjpe_mm"] for row in joints]), summarise(m)["mpjpe_mm"])


def test_depth_bins_are_those_of_the_true_root(official_rows):
    truth = official_rows.true_joint_cam_mm.copy()
    truth[:, :, 2] += np.array([100, 499.9, 500, 650, 700, 900, 1099, 5000])[:, None] - truth[:, :1, 2]
    table = breakdown(measure(replace(official_rows, true_joint_cam_mm=truth)))
    counts = {row["value"]: row["samples"] for row in table if row["group"] == "depth"}
    assert counts == {
        "0-500 mm": 2, "500-700 mm": 2, "700-900 mm": 1, "900-1100 mm": 2, "1100 mm and more": 1,
    }  # fmt: skip


def constant_of(*batches):
    fit = ConstantFit()
    for batch in batches:
        fit.add(batch)
    return fit.answer()


def test_the_constant_hand_is_the_mean_of_the_labels_and_knows_hands_that_are_all_alike(evaluated):
    hand, batch, _, _ = evaluated
    answer = constant_of(batch)
    np.testing.assert_allclose(answer.joint_rel_mm, batch.joint_rel_mm.double().mean((0, 1)), atol=1e-9)
    np.testing.assert_allclose(answer.root_mm, batch.joint_cam_mm[..., 0, :].double().mean((0, 1)), atol=1e-9)
    same = make_batch(hand, b=1, t=1)
    same = replace(same, patches=torch.zeros(1, 1, 3, PATCH, PATCH))
    summaries = {n: summarise(measure(frames_of(same, p, hand))) for n, p in constant_of(same).answers(same).items()}
    assert summaries["mean"]["mpjpe_mm"] < 1e-3
    assert summaries["box"]["mpjpe_mm"] < 1e-2
    assert summaries["shape"]["pa_mpjpe_mm"] < 1e-3


def test_the_box_tells_the_constant_hand_where_it_is_and_the_aligned_mean_its_shape(evaluated):
    hand, _, _, _ = evaluated
    train, test = make_batch(hand, b=32, t=4, seed=1), make_batch(hand, b=8, t=4, seed=2)
    test = replace(test, patches=torch.zeros(8, 4, 3, PATCH, PATCH))
    parts = [make_rows(train, slice(0, 16)), make_rows(train, slice(16, 32))]
    answer, again = constant_of(train), constant_of(*parts)
    for field in fields(answer):
        np.testing.assert_allclose(getattr(answer, field.name), getattr(again, field.name), rtol=1e-9, atol=1e-9)
    answers = answer.answers(test)
    summaries = {name: summarise(measure(frames_of(test, p, hand))) for name, p in answers.items()}
    assert summaries["box"]["error_2d_px"] < summaries["mean"]["error_2d_px"]
    assert summaries["shape"]["pa_mpjpe_mm"] < summaries["mean"]["pa_mpjpe_mm"]
    best = best_constant(summaries)
    assert best["error_2d_px"] == summaries["box"]["error_2d_px"]
    assert best["pa_mpjpe_mm"] == summaries["shape"]["pa_mpjpe_mm"]
    assert best["auc_pa"] == max(s["auc_pa"] for s in summaries.values())
    assert not [name for name in best if name.startswith(("acceleration", "jitter"))]


def make_rows(batch, span):
    values = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(batch, **{n: x[span] for n, x in values.items() if x is not None})


def test_labels_without_any_whole_hand_have_no_constant_answer(evaluated):
    batch = evaluated[1]
    with pytest.raises(InputError, match="no frame has all 21"):
        constant_of(replace(batch, joint_3d_valid=torch.zeros_like(batch.joint_3d_valid)))
    with pytest.raises(InputError, match="no frame has all 21"):
        ConstantFit().answer()
