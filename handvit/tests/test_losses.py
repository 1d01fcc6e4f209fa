"""Laws of every loss term: the truth has none, missing labels do not count, any split of a batch gives the same."""

import math
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handvit.config.loss import TRANSLATION_TERMS, LossConfig
from handvit.losses import TERMS, LossSettings, Scene, denominators, loss_terms, robust_l1, total_loss
from handvit.losses.distances import heatmap_cross_entropy, nearest_axis_angle, project_mm
from handvit.losses.joints import reprojection_term
from handvit.losses.parameters import axis_angle_term
from handvit.model.prediction import HandPrediction
from handvit.posing import last_frames
from posecore.errors import InputError
from posecore.rotations import axis_angle_to_matrix, geodesic_distance

sys.path.append(str(Path(__file__).parent))
from hand_scenes import PATCH, kind_of, make_batch, perturbed, standin, true_prediction

SETTINGS = LossSettings(False, PATCH, 2.0, frames="all")
NORMED = replace(SETTINGS, norm_by_hand=True, heatmap_sigma=0.09)
WITH_ENTROPY = ("trans", "uv")
"""Their smallest value is the entropy of the target, not 0."""


@pytest.fixture(scope="module")
def hand():
    return standin()


def flat(batch):
    """The same clips without 3D labels."""
    return replace(batch, joint_3d_valid=torch.zeros_like(batch.joint_3d_valid))


def scene_of(hand, name, norm=False, t=3):
    batch = make_batch(hand, t=t)
    batch = flat(batch) if name == "img_2d" else batch
    return batch, true_prediction(make_batch(hand, t=t), kind_of(name), norm)


def value_of(hand, name, prediction, batch, settings=SETTINGS):
    return loss_terms(prediction, batch, hand, [name], settings)[name].mean()


@pytest.mark.parametrize("name", [name for name in TERMS if name not in WITH_ENTROPY])
def test_the_truth_has_no_loss_and_a_finite_gradient(hand, name):
    batch, prediction = scene_of(hand, name)
    prediction, leaves = perturbed(prediction, amount=0.0)
    loss = value_of(hand, name, prediction, batch)
    loss.backward()
    assert loss < 2e-3  # mm and px of hands 700 mm away, in float32
    assert all(x.grad is None or x.grad.isfinite().all() for x in leaves.values())


@pytest.mark.parametrize("name", WITH_ENTROPY)
@pytest.mark.parametrize("settings", [SETTINGS, NORMED], ids=["mm", "hand sizes"])
def test_a_heat_map_like_its_target_has_the_smallest_cross_entropy(hand, name, settings):
    batch, prediction = scene_of(hand, name, settings.norm_by_hand)
    best, _ = perturbed(prediction, 0.0)
    worse, _ = perturbed(prediction, 1.0)
    scores = [value_of(hand, name, p, batch, settings) for p in (best, worse)]
    assert scores[0] < scores[1]


@pytest.mark.parametrize("name", TERMS)
def test_what_is_off_has_a_loss_and_a_gradient_that_gradients_can_follow(hand, name):
    batch, prediction = scene_of(hand, name)
    prediction, leaves = perturbed(prediction)
    loss = value_of(hand, name, prediction, batch)
    loss.backward()
    assert loss > 1e-4
    assert any(x.grad is not None and x.grad.abs().max() > 0 for x in leaves.values())


@pytest.mark.parametrize("name", TERMS)
def test_the_gradient_is_the_derivative(name):
    hand = standin(torch.float64)
    batch = make_batch(hand, b=1, t=3)
    batch = flat(batch) if name == "img_2d" else batch
    prediction, leaves = perturbed(true_prediction(make_batch(hand, b=1, t=3), kind_of(name)), 0.1)
    loss = value_of(hand, name, prediction, batch, replace(SETTINGS, detach_shape=False))
    known = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    g = torch.Generator().manual_seed(3)
    steps = [1e-6 * torch.randn(x.shape, generator=g, dtype=x.dtype) for x in leaves.values()]
    expected = sum((k * s).sum() for k, s in zip(known, steps, strict=True) if k is not None)
    around = []
    for sign in (1, -1):
        moved = {n: (x.detach() + sign * s) for (n, x), s in zip(leaves.items(), steps, strict=True)}
        around.append(value_of(hand, name, rebuilt(prediction, moved), batch, replace(SETTINGS, detach_shape=False)))
    difference = (around[0] - around[1]) / 2
    torch.testing.assert_close(expected, difference, rtol=2e-4, atol=1e-11)


def rebuilt(prediction, leaves):
    """The prediction that these leaves make."""
    translation = replace(prediction.translation, root=leaves["root"])
    if translation.heatmaps:
        maps = tuple(
            replace(h, log_probabilities=leaves[f"map{i}"].log_softmax(-1)) for i, h in enumerate(translation.heatmaps)
        )
        translation = replace(translation, heatmaps=maps)
    if translation.bins is not None:
        bins = replace(translation.bins, logits=leaves["logits"], residuals=leaves["residuals"])
        translation = replace(translation, bins=bins)
    if translation.log_depth is not None:
        translation = replace(translation, log_depth=leaves["log_depth"])
    if translation.uv_log_probabilities is not None:
        uv = leaves["uv"].flatten(-2).log_softmax(-1).reshape(leaves["uv"].shape)
        translation = replace(translation, uv_log_probabilities=uv)
    return replace(
        prediction,
        rotations=axis_angle_to_matrix(leaves["turns"]),
        betas=leaves["betas"],
        translation=translation,
    )


MASKS = ("joint_2d_valid", "joint_3d_valid", "has_mano", "has_intr")
LABELS = ("joint_img", "joint_patch", "joint_cam_mm", "mano_pose", "mano_shape")


def without(batch, clips):
    """Labels of some clips missing, with nan in their place."""
    changed = {name: getattr(batch, name).clone() for name in MASKS + LABELS}
    for name, value in changed.items():
        value[clips] = 0 if name in MASKS else torch.nan
    return replace(batch, **changed)


WITH_SIZES = ("theta", "shape", "trans", "rel", "img", "vertices", "cam", "velocity", "acceleration")
"""Terms of networks whose root is in hand sizes."""


@pytest.mark.parametrize(
    ("name", "settings"), [(name, SETTINGS) for name in TERMS] + [(name, NORMED) for name in WITH_SIZES]
)
def test_missing_labels_may_be_nan_and_do_not_count(hand, name, settings):
    batch, prediction = scene_of(hand, name, settings.norm_by_hand)
    prediction, leaves = perturbed(prediction)
    loss = value_of(hand, name, prediction, without(batch, [1]), settings)
    kept = [0, 2]
    fewer = replace_rows(batch, kept)
    alone = value_of(hand, name, rows(prediction, kept), fewer, settings)
    torch.testing.assert_close(loss, alone, rtol=1e-5, atol=1e-6)
    loss.backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in leaves.values())


@pytest.mark.parametrize("name", TERMS)
def test_nothing_labelled_is_a_zero_that_keeps_the_graph(hand, name):
    batch, prediction = scene_of(hand, name)
    prediction, leaves = perturbed(prediction)
    loss = value_of(hand, name, prediction, without(batch, [0, 1, 2]))
    loss.backward()
    assert loss == 0
    given_gradients = [x.grad for x in leaves.values() if x.grad is not None]
    assert given_gradients
    assert all((g == 0).all() for g in given_gradients)


def rows(value, kept):
    """Some clips of a prediction."""
    if isinstance(value, torch.Tensor):
        return value[kept] if value.ndim > 1 else value
    if isinstance(value, tuple):
        return tuple(rows(item, kept) for item in value)
    if value is None or isinstance(value, bool):
        return value
    return replace(value, **{field.name: rows(getattr(value, field.name), kept) for field in fields(value)})


def replace_rows(batch, kept):
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    picked = {
        n: x[kept] if isinstance(x, torch.Tensor) else tuple(x[i] for i in kept)
        for n, x in values.items()
        if x is not None
    }
    return replace(batch, **picked)


@pytest.mark.parametrize("kind", TRANSLATION_TERMS)
def test_two_parts_of_a_batch_add_up_to_the_whole_with_any_masks(hand, kind):
    config = LossConfig(vertices=0.1, cam=0.1, velocity=0.1, acceleration=0.1, frames="all")
    weights = config.term_weights(kind, norm_by_hand=False)
    batch = make_batch(hand, b=4, t=3)
    prediction, _ = perturbed(true_prediction(batch, kind))
    g = torch.Generator().manual_seed(0)
    masks = {name: (torch.rand(getattr(batch, name).shape, generator=g) > 0.4).float() for name in MASKS}
    masks["joint_3d_valid"][3] = 0
    batch = replace(batch, **masks)
    names = list(weights)
    parts = [[0, 1], [2, 3]]
    counts = [denominators(replace_rows(batch, part), names, SETTINGS) for part in parts]
    totals = {name: sum(count[name] for count in counts) for name in names}
    whole = total_loss(loss_terms(prediction, batch, hand, names, SETTINGS), weights)
    shares = []
    for part in parts:
        terms = loss_terms(rows(prediction, part), replace_rows(batch, part), hand, names, SETTINGS)
        shares.append(total_loss(terms, weights, totals))
    for name, value in whole.items():
        torch.testing.assert_close(shares[0][name] + shares[1][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_denominators_are_the_counts_of_the_terms(hand, name):
    batch, prediction = scene_of(hand, name)
    batch = without(batch, [1])
    term = loss_terms(prediction, batch, hand, [name], SETTINGS)[name]
    assert term.count == denominators(batch, [name], SETTINGS)[name] > 0


def test_the_last_frame_alone_is_supervised_whether_the_network_answers_for_one_frame_or_all(hand):
    batch = make_batch(hand, t=3)
    prediction, _ = perturbed(true_prediction(batch))
    settings = replace(SETTINGS, frames="last")
    names = ["theta", "trans", "img"]
    last = HandPrediction(**{f.name: cut(getattr(prediction, f.name)) for f in fields(prediction)})
    from_all = loss_terms(prediction, batch, hand, names, settings)
    from_one = loss_terms(last, batch, hand, names, settings)
    alone = loss_terms(last, last_frames(batch, 1), hand, names, SETTINGS)
    for name in names:
        assert from_all[name].mean() == from_one[name].mean() == alone[name].mean()
        assert denominators(batch, [name], settings)[name] == from_all[name].count


def cut(value):
    """The last frame of a part of a prediction."""
    if isinstance(value, torch.Tensor):
        return value[:, -1:] if value.ndim > 1 else value
    if isinstance(value, tuple):
        return tuple(cut(item) for item in value)
    if value is None or isinstance(value, bool):
        return value
    return replace(value, **{field.name: cut(getattr(value, field.name)) for field in fields(value)})


def test_one_predicted_frame_against_all_labelled_frames_is_refused_and_not_broadcast(hand):
    batch = make_batch(hand, t=3)
    one = true_prediction(last_frames(batch, 1))
    with pytest.raises(ValueError, match=r"\(3, 1\), the targets have \(3, 3\)"):
        Scene(one, batch, hand, SETTINGS)


def test_a_hand_of_implausible_size_counts_only_where_the_root_does_not_matter(hand):
    batch = make_batch(hand)
    broken = batch.joint_cam_mm.clone()
    broken[0, 0, 9:13] = broken[0, 0, 9:10]  # a middle finger of no length
    broken[1, 0, 12] += 500.0
    counts = denominators(replace(batch, joint_cam_mm=broken), ["trans", "img", "rel"], NORMED)
    assert counts["trans"] == 4
    assert counts["img"] == 4 * 21
    assert counts["rel"] == 6 * 21
    prediction, leaves = perturbed(true_prediction(batch, norm_by_hand=True))
    terms = loss_terms(prediction, replace(batch, joint_cam_mm=broken), hand, ["trans", "img"], NORMED)
    total_loss(terms, {"trans": 1.0, "img": 1.0})["total"].backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in leaves.values())
    assert leaves["root"].grad[0, 0].abs().max() == 0
    assert leaves["root"].grad[0, 1].abs().max() > 0


def test_a_hand_without_one_joint_of_its_middle_finger_has_no_size(hand):
    batch = make_batch(hand)
    valid = batch.joint_3d_valid.clone()
    valid[0, 0, 11] = 0
    counts = denominators(replace(batch, joint_3d_valid=valid), ["trans", "cam"], NORMED)
    assert counts["trans"] == 5
    assert counts["cam"] == 5 * 21
    assert denominators(replace(batch, joint_3d_valid=valid), ["trans"], SETTINGS)["trans"] == 6


@pytest.mark.parametrize("name", ["rel", "img", "cam"])
def test_joints_teach_the_shape_only_when_it_is_not_detached(hand, name):
    batch, prediction = scene_of(hand, name)
    gradients = []
    for detach in (True, False):
        moved, leaves = perturbed(prediction)
        value_of(hand, name, moved, batch, replace(SETTINGS, detach_shape=detach)).backward()
        gradients.append(leaves["betas"].grad)
    assert gradients[0] is None
    assert gradients[1].abs().max() > 0


def test_two_dimensional_samples_teach_through_the_patch_and_others_do_not(hand):
    batch = make_batch(hand)
    mixed = replace(batch, joint_3d_valid=batch.joint_3d_valid * torch.tensor([1.0, 0.0, 1.0])[:, None, None])
    counts = denominators(mixed, ["img", "img_2d"], SETTINGS)
    assert counts["img"] == 4 * 21
    assert counts["img_2d"] == 2 * 21
    prediction, leaves = perturbed(true_prediction(batch))
    value_of(hand, "img_2d", prediction, mixed).backward()
    moved = leaves["root"].grad.abs().sum((-1, -2))
    assert moved[1] > 0
    assert moved[0] == moved[2] == 0


def test_the_patch_error_is_the_image_error_times_the_patch_scale(hand):
    batch, prediction = scene_of(hand, "img")
    prediction, _ = perturbed(prediction)
    image, patch = (
        value_of(hand, "img", prediction, batch, replace(SETTINGS, reprojection_space=space, reprojection_norm="l1"))
        for space in ("image", "patch")
    )
    scale = PATCH / (batch.patch_bbox[..., 2] - batch.patch_bbox[..., 0])
    assert scale.min() * image < patch < scale.max() * image


def test_the_geodesic_pose_error_is_the_mean_angle(hand):
    batch = make_batch(hand)
    prediction, leaves = perturbed(true_prediction(batch))
    loss = value_of(hand, "theta", prediction, batch, replace(SETTINGS, pose_error="geodesic"))
    target = axis_angle_to_matrix(batch.mano_pose.unflatten(-1, (16, 3)))
    torch.testing.assert_close(loss, geodesic_distance(prediction.rotations, target).mean())
    loss.backward()
    assert leaves["turns"].grad.isfinite().all()


@given(
    st.lists(st.floats(-1, 1), min_size=6, max_size=6),
    st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 3.0, math.pi - 1e-6, math.pi, math.pi + 0.1, 6.0, 9.0]),
    st.floats(0, math.pi),
)
def test_the_loss_of_two_rotation_vectors_is_that_of_the_nearest_representatives(axes, true_angle, angle):
    raw = torch.tensor(axes, dtype=torch.float64).reshape(2, 3) + torch.tensor([0.0, 0.0, 1e-3]).double()
    axis = raw / raw.norm(dim=-1, keepdim=True)
    prediction, target = axis[0] * angle, axis[1] * true_angle
    moved = nearest_axis_angle(target, prediction)
    torch.testing.assert_close(axis_angle_to_matrix(moved), axis_angle_to_matrix(target), rtol=0, atol=1e-8)
    others = [target + 2 * math.pi * k * axis[1] for k in range(-4, 5)] if true_angle > 0 else [target]
    nearest = min(float((prediction - other).norm()) for other in others)
    assert float((prediction - moved).norm()) <= nearest + 1e-9


def test_the_pose_loss_does_not_jump_where_a_turn_passes_pi():
    angles = torch.linspace(math.pi - 0.02, math.pi + 0.02, 9, dtype=torch.float64)
    axis = torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64)
    wrapped = torch.where(angles > math.pi, angles - 2 * math.pi, angles)[:, None] * axis
    target = (math.pi - 0.05) * axis
    losses = [float(axis_angle_term(p[None], target[None], torch.ones(()).double(), "l1").mean()) for p in wrapped]
    assert np.abs(np.diff(losses)).max() < 0.005


@pytest.mark.parametrize("turn", [0.0, math.pi - 1e-7, math.pi])
def test_the_pose_gradient_is_finite_at_the_identity_and_at_half_turns(hand, turn):
    batch = make_batch(hand)
    pose = torch.zeros(3, 2, 16, 3)
    pose[..., 2] = turn
    batch = replace(batch, mano_pose=-pose.flatten(-2))
    turns = pose.requires_grad_()
    prediction = replace(true_prediction(batch), rotations=axis_angle_to_matrix(turns))
    loss = value_of(hand, "theta", prediction, batch)
    loss.backward()
    assert loss < 1e-5
    assert turns.grad.isfinite().all()


@given(st.floats(-1e6, 1e6), st.floats(0.1, 500))
def test_the_robust_norm_is_continuous_even_and_rises_no_faster_than_one(x, delta):
    value = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    out = robust_l1(value, delta)
    out.backward()
    assert 0 <= out <= abs(x) + 1e-9
    assert robust_l1(-value, delta) == out
    assert value.grad.abs() <= 1
    assert value.grad * x >= 0


def test_a_joint_behind_the_camera_projects_from_one_millimetre_and_has_a_finite_gradient():
    joints = torch.tensor([[[10.0, 5.0, -300.0], [10.0, 5.0, 0.0], [10.0, 5.0, 600.0]]], requires_grad=True)
    camera = (torch.tensor([[500.0, 500.0]]), torch.tensor([[64.0, 64.0]]))
    truth = torch.tensor([[[0.0, 0.0, 600.0]]]).expand(1, 3, 3)
    torch.testing.assert_close(project_mm(joints, *camera)[0, 0], torch.tensor([5064.0, 2564.0]))
    loss = reprojection_term(joints, truth, camera, torch.ones(1, 3), "robust", 84.0, None).mean()
    loss.backward()
    assert joints.grad.isfinite().all()
    assert (joints.grad[0, :, :2] > 0).all()


@given(st.floats(-2000, 2000), st.sampled_from([0.01, 0.5, 2.0]))
def test_a_root_outside_of_the_bins_or_between_them_still_teaches(target, sigma):
    centers = torch.linspace(-600, 600, 64, dtype=torch.float64)
    scores = torch.zeros(1, 64, dtype=torch.float64, requires_grad=True)
    heatmap_cross_entropy(scores.log_softmax(-1), centers, torch.tensor([target]).double(), sigma).sum().backward()
    nearest = int((centers - target).abs().argmin())  # of two equally near bins each has half
    assert scores.grad[0, nearest] < -0.4


def test_a_head_without_what_a_term_needs_is_told_so(hand):
    batch = make_batch(hand)
    for name, kind in (
        ("trans", "log_depth"),
        ("bins", "softargmax3d"),
        ("uv", "softargmax3d"),
        ("log_depth", "softargmax3d"),
    ):
        with pytest.raises(ValueError, match="translation head does not give"):
            loss_terms(true_prediction(batch, kind), batch, hand, [name], SETTINGS)


def test_both_published_groupings_give_their_weights():
    assert LossConfig().term_weights("softargmax3d", norm_by_hand=True) == {
        "theta": 3.0, "shape": 3.0, "trans": 0.05, "rel": 0.012, "img": 0.002, "img_2d": 0.0005,
    }  # fmt: skip
    assert LossConfig().term_weights("softargmax3d", norm_by_hand=False)["trans"] == 0.001
    grouped = LossConfig.model_validate({"weights": {"kind": "grouped"}})
    assert grouped.published_weights(True) == {"theta": 1.0, "shape": 1.0, "trans": 1.0, "rel": 0.0001, "img": 0.001}
    other = LossConfig.model_validate({"weights": {"theta": 2.81, "shape": 1.38, "trans": 0.123, "rel": 0.000305}})
    assert other.published_weights(True)["trans"] == 0.123


def test_each_translation_head_is_taught_by_its_own_terms():
    for kind, terms in TRANSLATION_TERMS.items():
        weights = LossConfig().term_weights(kind, norm_by_hand=False)
        every = {term for group in TRANSLATION_TERMS.values() for term in group}
        assert set(weights) & every == set(terms)


def test_without_global_supervision_only_relative_joints_are_left():
    assert LossConfig(supervise_global=False).term_weights("softargmax3d", True) == {"rel": 0.012}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"velocity": 1.0}, r"loss.velocity is 1: it needs loss.frames"),
        ({"supervise_global": False, "weights": {"rel": 0}}, r"loss.supervise_global false"),
        ({"weights": {"kind": "grouped", "rel": 1}}, r"weights.rel: no such field"),
        ({"img_2d": -1}, "img_2d"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(values, told):
    with pytest.raises(InputError, match=told):
        LossConfig.from_dict(values)


def test_settings_take_every_field_from_the_configuration():
    config = LossConfig.model_validate(
        {
            "frames": "all", "detach_shape": False, "pose_error": "geodesic", "parameter_norm": "l2", "joint_norm": "l2",
            "reprojection_norm": "l1", "reprojection_delta_px": 5.0, "reprojection_space": "patch",
            "heatmap_target": "upstream", "uv_sigma_cells": 2.0, "residual_beta": 0.3,
        }
    )  # fmt: skip
    settings = LossSettings.of(config, True, 48)
    assert settings.heatmap_sigma == 0.09
    assert LossSettings.of(config, False, 48).heatmap_sigma == 2.0
    plain = LossSettings.of(LossConfig(), True, 64)
    same = [f.name for f in fields(settings) if getattr(settings, f.name) == getattr(plain, f.name)]
    assert same == ["norm_by_hand", "heatmap_sigma"]
