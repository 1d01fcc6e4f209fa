"""Predictions become hands in space: joints and meshes around the wrist, sizes, frames."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from handvit.hand import SIZE_RANGE_MM
from handvit.posing import last_frames, last_prediction, pose_hands, true_hand_size_mm

sys.path.append(str(Path(__file__).parent))
from hand_scenes import make_batch, standin, true_prediction


@pytest.fixture(scope="module", params=["kinematic", "regressed"])
def hand(request):
    return standin(joint_source=request.param)


def test_the_true_parameters_and_root_give_the_true_joints(hand):
    batch = make_batch(hand)
    posed = pose_hands(hand, true_prediction(batch), norm_by_hand=False, with_vertices=True)
    torch.testing.assert_close(posed.joint_cam_mm, batch.joint_cam_mm, rtol=0, atol=1e-3)
    torch.testing.assert_close(posed.joint_rel_mm, batch.joint_rel_mm, rtol=0, atol=1e-3)
    tips = posed.vertices_rel_mm[..., list(hand.tips), :]
    torch.testing.assert_close(tips, posed.joint_rel_mm[..., [4, 8, 12, 16, 20], :], rtol=0, atol=1e-3)
    assert posed.size_valid.all()


def test_a_root_in_hand_sizes_is_multiplied_with_the_given_size():
    hand = standin()
    batch = make_batch(hand)
    prediction = true_prediction(batch, norm_by_hand=True)
    size = true_hand_size_mm(batch)
    posed = pose_hands(hand, prediction, norm_by_hand=True, hand_size_mm=size)
    torch.testing.assert_close(posed.joint_cam_mm, batch.joint_cam_mm, rtol=0, atol=2e-3)
    twice = pose_hands(hand, prediction, norm_by_hand=True, hand_size_mm=2 * size)
    torch.testing.assert_close(twice.root_mm, 2 * posed.root_mm)
    torch.testing.assert_close(twice.joint_rel_mm, posed.joint_rel_mm)


def test_without_a_given_size_it_is_that_of_the_predicted_shape_in_rest_pose(hand):
    batch = make_batch(hand)
    prediction = true_prediction(batch, norm_by_hand=True)
    posed = pose_hands(hand, prediction, norm_by_hand=True)
    torch.testing.assert_close(posed.hand_size_mm, hand.rest_size_mm(prediction.betas))
    curled = replace(prediction, rotations=prediction.rotations.flip(0))
    torch.testing.assert_close(pose_hands(hand, curled, norm_by_hand=True).hand_size_mm, posed.hand_size_mm)


def test_a_batch_of_several_clips_keeps_its_shape_with_hand_sizes(hand):
    posed = pose_hands(hand, true_prediction(make_batch(hand, b=4, t=3), norm_by_hand=True), norm_by_hand=True)
    assert posed.joint_cam_mm.shape == (4, 3, 21, 3)
    assert posed.hand_size_mm.shape == (4, 3)


def test_sizes_outside_of_what_hands_have_are_not_valid_and_stay_finite(hand):
    batch = make_batch(hand, b=1, t=4)
    low, high = SIZE_RANGE_MM
    size = torch.tensor([[0.0, low, 90.0, high]])
    prediction = true_prediction(batch, norm_by_hand=True)
    posed = pose_hands(hand, prediction, norm_by_hand=True, hand_size_mm=size)
    assert posed.size_valid.tolist() == [[False, False, True, False]]
    assert posed.joint_cam_mm.isfinite().all()
    assert pose_hands(hand, prediction, norm_by_hand=False, hand_size_mm=size).size_valid.all()


def test_the_true_size_is_the_length_of_the_middle_finger_and_needs_its_four_joints():
    hand = standin()
    batch = make_batch(hand)
    bones = batch.joint_cam_mm[..., 10:13, :] - batch.joint_cam_mm[..., 9:12, :]
    torch.testing.assert_close(true_hand_size_mm(batch), bones.norm(dim=-1).sum(-1))
    for joint, known in ((8, True), (9, False), (12, False), (13, True)):
        valid = batch.joint_3d_valid.clone()
        valid[..., joint] = 0
        nan = torch.where(valid[..., None] > 0, batch.joint_cam_mm, torch.nan)
        size = true_hand_size_mm(replace(batch, joint_3d_valid=valid, joint_cam_mm=nan))
        assert ((size > 0) == known).all()


def test_a_detached_shape_gets_no_gradient_and_the_pose_does():
    hand = standin()
    batch = make_batch(hand)
    prediction = true_prediction(batch)
    betas, rotations = prediction.betas.clone().requires_grad_(), prediction.rotations.clone().requires_grad_()
    moved = replace(prediction, betas=betas, rotations=rotations)
    pose_hands(hand, moved, norm_by_hand=False, detach_shape=True).joint_rel_mm.square().sum().backward()
    assert betas.grad is None
    assert rotations.grad.abs().max() > 0


def test_autocast_and_half_precision_heads_do_not_reach_the_hand_model(hand):
    batch = make_batch(hand)
    prediction = true_prediction(batch)
    plain = pose_hands(hand, prediction, norm_by_hand=False, with_vertices=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = pose_hands(hand, prediction, norm_by_hand=False, with_vertices=True)
    assert cast.vertices_cam_mm.dtype == torch.float32
    assert torch.equal(cast.vertices_cam_mm, plain.vertices_cam_mm)
    half = replace(prediction, betas=prediction.betas.bfloat16())
    assert pose_hands(hand, half, norm_by_hand=False).joint_cam_mm.dtype == torch.float32


def test_the_last_frames_of_a_batch_and_of_a_prediction_are_its_last(hand):
    batch = make_batch(hand, t=4)
    last = last_frames(batch, 1)
    assert last.timestamp_ms.shape == (3, 1)
    assert torch.equal(last.joint_cam_mm[:, 0], batch.joint_cam_mm[:, 3])
    assert torch.equal(last_frames(batch, 2).mano_pose, batch.mano_pose[:, 2:])
    assert last.key == batch.key
    assert last.is_left.shape == (3,)
    assert last_frames(batch, 4) is batch
    prediction = last_prediction(true_prediction(batch))
    assert torch.equal(prediction.betas[:, 0], batch.mano_shape[:, 3])
    assert prediction.translation.heatmaps[0].centers.ndim == 1
    for wrong in (0, 5):
        with pytest.raises(ValueError, match="clips of 4"):
            last_frames(batch, wrong)
