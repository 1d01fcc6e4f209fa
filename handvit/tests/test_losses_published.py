"""The losses beside the published code's values."""

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from handvit.data.sample import Batch
from handvit.losses import (
    Axis3DLoss,
    HeatmapCELoss,
    Keypoint3DLoss,
    LossSettings,
    ManoPoseLoss,
    Vertex3DLoss,
    denominators,
    loss_terms,
    reprojection,
    robust_l1,
    total_loss,
)
from handvit.losses.distances import heatmap_cross_entropy, heatmap_cross_entropy_2d
from handvit.model.prediction import HandPrediction, Heatmap, TranslationPrediction
from handvit.posing import pose_hands
from posecore.rotations import axis_angle_to_matrix, matrix_to_axis_angle

sys.path.append(str(Path(__file__).parent))
from hand_scenes import reference_hand

EXACT = {"rtol": 0.0, "atol": 1e-10}


@pytest.fixture(scope="module")
def given(reference):
    return {name: torch.from_numpy(np.asarray(value)) for name, value in reference("losses").items()}


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_masked_means_are_the_published_ones(given, norm):
    g = given
    joints = Keypoint3DLoss(norm)(g["pred_joint"], g["gt_joint"], g["joint_valid"])
    vertices = Vertex3DLoss(norm)(g["pred_vert"], g["gt_vert"], g["frame_valid"])
    axis = Axis3DLoss(norm)(g["pred_pose"], g["gt_pose"], g["frame_valid"])
    theta, shape = ManoPoseLoss(norm)(g["pred_pose"], g["pred_shape"], g["gt_pose"], g["gt_shape"], g["frame_valid"])
    for value, name in (
        (joints, "keypoint3d"),
        (vertices, "verts"),
        (axis, "axis3d"),
        (theta, "param"),
        (shape, "shape"),
    ):
        torch.testing.assert_close(value, g[f"loss_{name}_{norm}"], **EXACT)


def test_a_scale_multiplies_and_an_empty_mask_gives_zero_with_a_graph(given):
    scaled = Keypoint3DLoss(scale=1e-3)(given["pred_joint"], given["gt_joint"], given["joint_valid"])
    torch.testing.assert_close(scaled, given["loss_keypoint3d_l1_scale1e-3"], **EXACT)
    joints = given["pred_joint"].clone().requires_grad_()
    empty = Keypoint3DLoss()(joints, given["gt_joint"] * torch.nan, torch.zeros_like(given["joint_valid"]))
    empty.backward()
    assert empty == given["loss_keypoint3d_allmasked"] == 0
    assert torch.equal(joints.grad, torch.zeros_like(joints))


def test_the_robust_norm_is_the_published_one_but_has_a_gradient_at_zero(given):
    x = given["robust_x"].clone().requires_grad_()
    value = robust_l1(x, 84.0)
    torch.testing.assert_close(value, given["robust_value"], **EXACT)
    value.sum().backward()
    assert given["robust_x"][0] == 0
    assert x.grad[0] == 0
    torch.testing.assert_close(x.grad[1:], given["robust_grad"][1:], **EXACT)


@pytest.mark.parametrize(("sigma", "name"), [(0.09, "hm_ce_sigma009"), (0.5, "hm_ce_sigma05")])
def test_heat_map_cross_entropies_of_the_upstream_kind_are_the_published_ones(given, sigma, name):
    value = heatmap_cross_entropy(given["hm_logp"], given["hm_grid"], given["hm_gt"], sigma, "upstream")
    torch.testing.assert_close(value, given[name], **EXACT)
    mean = HeatmapCELoss(sigma, "upstream")(
        given["hm_logp"], given["hm_grid"], given["hm_gt"], torch.ones_like(given["hm_gt"])
    )
    torch.testing.assert_close(mean, given[name].mean(), **EXACT)


def test_the_normalised_kind_differs_by_the_published_epsilon_alone_where_bins_are_fine(given):
    inside = given["hm_gt"].abs() < 2.5
    exact = heatmap_cross_entropy(given["hm_logp"], given["hm_grid"], given["hm_gt"], 0.5)
    torch.testing.assert_close(exact[inside], given["hm_ce_sigma05"][inside], rtol=1e-8, atol=0)


def test_the_two_dimensional_heat_map_has_x_along_the_columns(given):
    value = heatmap_cross_entropy_2d(
        given["hm2_logp"], given["hm2_x"], given["hm2_y"], given["hm2_gt"], 4.0, "upstream"
    )
    torch.testing.assert_close(value, given["hm2_ce_sigma4"], **EXACT)


@pytest.fixture(scope="module")
def bundle(reference):
    given = {name: torch.from_numpy(np.asarray(value)) for name, value in reference("bundle_loss").items()}
    tips = tuple(given["tips_used"].tolist())
    return given, reference_hand(reference("mano_model"), tips=tips, joint_source="regressed")


def absolute(hand, pose):
    """The published code's poses are offsets from the mean pose."""
    return pose.double() + torch.cat([torch.zeros(3, dtype=torch.float64), hand.hands_mean])


def published_batch(given, hand):
    b, t = given["has_mano"].shape
    empty = {field.name: torch.zeros(b, t) for field in fields(Batch) if field.name not in ("key", "data_source")}
    named = ("mano_shape", "focal", "princpt", "has_mano", "joint_3d_valid", "has_intr")
    return Batch(
        key=("a", "b", "c"),
        data_source=("", "", ""),
        **empty
        | {name: given[name].double() for name in named}
        | {"joint_cam_mm": given["joint_cam"].double(), "mano_pose": absolute(hand, given["mano_pose"])},
    )


def published_prediction(given, hand, run):
    maps = tuple(
        Heatmap(given[f"{run}_log_hm_{axis}"].double(), given[f"{run}_centers_{axis}"].double()) for axis in "xyz"
    )
    pose = absolute(hand, given["pose_pred"])
    b, t, _ = pose.shape
    return HandPrediction(
        rotations=axis_angle_to_matrix(pose.reshape(b, t, 16, 3)),
        pose_params=pose,
        betas=given["shape_pred"].double(),
        translation=TranslationPrediction(given[f"{run}_trans_pred"].double(), heatmaps=maps),
        tokens=torch.zeros(b, t, 4),
    )


@pytest.mark.parametrize("run", ["norm", "abs"])
def test_the_whole_weighed_loss_is_the_published_one(bundle, run):
    given, hand = bundle
    batch, prediction = published_batch(given, hand), published_prediction(given, hand, run)
    norm = run == "norm"
    settings = LossSettings(norm, 64, 0.09 if norm else 2.0, frames="all", heatmap_target="upstream")
    names = ["theta", "shape", "trans", "rel", "img"]
    weights = dict(zip(names, given["weights_theta_shape_trans_rel_img"].tolist(), strict=True))
    terms = loss_terms(prediction, batch, hand, names, settings)
    values = total_loss(terms, weights, denominators(batch, names, settings))
    published = {"rel": "joint_rel", "img": "joint_img"}
    for name in names:
        expected = given[f"{run}_loss_{published.get(name, name)}"].double()
        torch.testing.assert_close(values[name], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(values["total"], given[f"{run}_loss"].double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("run", ["norm", "abs"])
def test_posed_joints_and_vertices_are_the_published_ones(bundle, run):
    given, hand = bundle
    size = given["norm_scale_gt"].double() if run == "norm" else None
    prediction = published_prediction(given, hand, run)
    posed = pose_hands(hand, prediction, norm_by_hand=run == "norm", hand_size_mm=size, with_vertices=True)
    expected = given[f"{run}_joint_cam_pred"].double()
    torch.testing.assert_close(posed.joint_cam_mm, expected, rtol=1e-5, atol=2e-3)
    first = given[f"{run}_verts_rel_pred_first20"].double()
    torch.testing.assert_close(posed.vertices_rel_mm[..., :20, :], first, rtol=1e-5, atol=2e-3)


def test_reprojection_in_patch_pixels_is_reprojection_in_image_pixels_times_the_patch_scale():
    g = torch.Generator().manual_seed(0)
    target = torch.tensor([0.0, 0.0, 600.0]) + 50 * torch.randn(4, 21, 3, generator=g)
    prediction = target + torch.randn(4, 21, 3, generator=g)
    camera = (torch.full((4, 2), 500.0), torch.full((4, 2), 100.0))
    valid = torch.ones(4, 21)
    box = torch.tensor([10.0, 20.0, 138.0, 148.0]).expand(4, 4)
    image = reprojection(prediction, target, *camera, valid)
    patch = reprojection(prediction, target, *camera, valid, patch_bbox=box, patch_size=64)
    torch.testing.assert_close(patch, image / 2)
    with pytest.raises(ValueError, match="both"):
        reprojection(prediction, target, *camera, valid, patch_bbox=box)


def test_rotation_vectors_of_one_rotation_have_no_loss(given):
    vectors = given["pred_pose"].reshape(4, 3, 16, 3)
    longer = vectors * (1 + 2 * torch.pi / vectors.norm(dim=-1, keepdim=True))
    loss = Axis3DLoss()(
        matrix_to_axis_angle(axis_angle_to_matrix(vectors)).flatten(-2), longer.flatten(-2), torch.ones(4, 3).double()
    )
    assert loss < 1e-9
