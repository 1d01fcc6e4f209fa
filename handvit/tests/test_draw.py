"""Pictures of hands: what is drawn lies where it should, and inputs stay as they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from handvit.data.synthetic import Difficulty, SyntheticSet, synthetic_records
from handvit.draw import (
    FINGER_COLORS,
    PREDICTION,
    TRUTH,
    Case,
    Figure,
    case_sheet,
    clip_strip,
    distribution_strip,
    draw_box,
    draw_hand,
    draw_mesh_outline,
    draw_meshes,
    draw_pair,
    draw_record,
    enlarged,
    enlarged_K,
    enlarged_points,
    joint_colors,
    labelled_meshes_mm,
    project_mm,
    side_view,
)
from handvit.hand import read_hand
from posecore.errors import InputError

GREY = np.full((120, 160, 3), 120, np.uint8)
K = np.array([[200.0, 0, 79.5], [0, 200.0, 59.5], [0, 0, 1]])


@pytest.fixture(scope="module")
def hand():
    return read_hand(None)


@pytest.fixture(scope="module")
def posed(hand):
    """Joints and vertices (mm) of a flat hand, palm towards the camera, 500 mm away."""
    output = hand(torch.eye(3).expand(1, 16, 3, 3), torch.zeros(1, 10))
    turned = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]).T
    joints, vertices = (1000 * points[0] @ turned for points in output)
    shift = torch.tensor([0.0, 0, 500]) - joints.mean(0)
    return (joints + shift).double().numpy(), (vertices + shift).double().numpy()


@pytest.fixture(scope="module")
def record(hand):
    wanted = SyntheticSet(1, 5, (96, 128), 3, "train", left_share=1.0, difficulty=Difficulty(off_centre=0.0))
    return next(synthetic_records(wanted, hand))


def painted(picture, before=GREY) -> np.ndarray:
    return (picture.astype(int) != before).any(2)


def reddish(picture) -> np.ndarray:
    return picture[..., 0].astype(int) > picture[..., 1].astype(int) + 60


def greenish(picture) -> np.ndarray:
    return picture[..., 1].astype(int) > picture[..., 0].astype(int) + 60


def test_each_finger_is_drawn_in_its_own_colour_at_its_tip(posed):
    points = project_mm(posed[0], K)
    picture = draw_hand(GREY, points)
    for finger, color in enumerate(FINGER_COLORS):
        x, y = points[4 + 4 * finger].round().astype(int)
        np.testing.assert_allclose(picture[y, x], color, atol=2)
    assert len({tuple(color) for color in joint_colors().tolist()}) == 21
    assert (GREY == 120).all()


def test_invalid_joints_are_not_drawn_and_numbers_are_only_where_they_are_wanted(posed):
    points, valid = project_mm(posed[0], K), np.zeros(21, bool)
    assert not painted(draw_hand(GREY, points, valid)).any()
    assert not painted(draw_hand(GREY, points, valid, numbered=True)).any()
    valid[8] = True
    plain, numbered = draw_hand(GREY, points, valid), draw_hand(GREY, points, valid, numbered=True)
    assert painted(plain).sum() < 40
    assert painted(numbered).sum() > painted(plain).sum() + 10


def test_truth_is_green_and_prediction_red(posed):
    truth = project_mm(posed[0] - [30, 0, 0], K)
    found = project_mm(posed[0] + [30, 0, 0], K)
    picture = draw_pair(GREY, truth, found)
    columns = np.arange(160)
    assert greenish(picture).sum() > 100
    assert (greenish(picture).sum(0) @ columns) / greenish(picture).sum() < 80
    assert (reddish(picture).sum(0) @ columns) / reddish(picture).sum() > 80


def test_a_box_far_outside_of_the_picture_leaves_it_as_it_is():
    assert not painted(draw_box(GREY, np.array([500.0, 500, 1e9, 1e9]))).any()
    inside = painted(draw_box(GREY, np.array([20.0, 30, 100, 90])))
    assert inside[60, 20]
    assert inside[30, 60]
    assert not inside[60, 60]


def test_the_outline_surrounds_the_joints_and_its_inside_stays_clear(posed, hand):
    picture = draw_mesh_outline(GREY, posed[1], hand.faces.numpy(), K)
    line = painted(picture)
    x, y = project_mm(posed[0], K)[9].round().astype(int)
    assert not line[y, x]
    assert line[y, :x].any()
    assert line[y, x:].any()
    assert line[:y, x].any()


def test_where_two_hands_cross_the_nearer_is_seen_whatever_their_order(posed, hand):
    near, far = posed[1] + [4, 0, -40], posed[1] + [-4, 0, 40]
    red, blue = (255, 0, 0), (0, 0, 255)
    faces = hand.faces.numpy()
    x, y = project_mm(posed[0], K)[9].round().astype(int)
    for meshes, colors in (((near, far), (red, blue)), ((far, near), (blue, red))):
        pixel = draw_meshes(GREY, meshes, faces, K, colors, opacity=1.0)[y, x].astype(int)
        assert pixel[0] > pixel[2] + 80


def test_no_mesh_and_a_mesh_behind_the_camera_draw_nothing(posed, hand):
    faces = hand.faces.numpy()
    assert not painted(draw_meshes(GREY, [], faces, K)).any()
    assert not painted(draw_meshes(GREY, [posed[1] - [0, 0, 1200]], faces, K)).any()
    assert np.isnan(project_mm(posed[0] - [0, 0, 1200], K)).all()


def test_from_the_side_what_is_farther_lies_to_the_right_and_up_stays_up(posed):
    joints = posed[0]
    figures = [Figure(joints, TRUTH), Figure(joints + np.array([0, 0, 80]), PREDICTION)]
    picture = side_view(figures, size=(200, 200))[:170]
    columns, rows = np.arange(200), np.arange(170)
    green, red = greenish(picture), reddish(picture)
    assert (red.sum(0) @ columns) / red.sum() > (green.sum(0) @ columns) / green.sum() + 20
    picture = side_view([Figure(joints, TRUTH), Figure(joints - [0, 60, 0], PREDICTION)], size=(200, 200))[:170]
    green, red = greenish(picture), reddish(picture)
    assert (red.sum(1) @ rows) / red.sum() < (green.sum(1) @ rows) / green.sum() - 20


def test_a_shift_along_the_line_of_sight_of_the_side_view_changes_nothing_and_its_bar_is_a_true_length(posed):
    joints = posed[0]
    one, other = (side_view([Figure(joints + np.array([x, 0, 0]), TRUTH)], size=(200, 200)) for x in (0, 150))
    np.testing.assert_array_equal(one, other)
    picture = side_view([Figure(np.tile([[0.0, 0, 0]], (21, 1)) + np.eye(21, 3) * [0, 100, 0], TRUTH)], size=(200, 200))
    bar = (picture[-8, 8:].astype(int).sum(1) >= 300).argmax()
    span = np.ptp(greenish(picture[:180]).nonzero()[0])
    assert bar / span == pytest.approx(0.5, abs=0.06)


def test_meshes_from_the_side_lie_over_their_joints(posed, hand):
    joints, vertices = posed
    faces = hand.faces.numpy()
    figure = Figure(joints, TRUTH, vertices)
    with_mesh, bare = side_view([figure], faces), side_view([figure], None)
    skeleton, mesh = greenish(bare), greenish(with_mesh)
    assert mesh.sum() > 1.5 * skeleton.sum()
    assert (with_mesh != bare).any()


def test_a_sheet_has_a_row_for_each_case_and_shows_both_hands(posed, hand):
    joints, vertices = posed
    truth, found = Figure(joints, TRUTH, vertices), Figure(joints + 10, PREDICTION, vertices + 10)
    case = Case("train-000000.tar: k[0]", GREY, K, truth, found, "MPJPE 17.3 mm")
    one, two = (case_sheet([case] * count, hand.faces.numpy(), side=160) for count in (1, 2))
    assert two.shape[1] == one.shape[1] == 4 * 160 + 5 * 6
    assert two.shape[0] > 1.9 * one.shape[0] - 6
    assert not greenish(one[:, :170]).any()
    assert greenish(one[:, 172:332]).sum() > 200
    assert reddish(one[:, 338:498]).sum() > 200


def test_a_strip_is_as_wide_as_its_frames():
    assert clip_strip([GREY] * 5, list("abcde")).shape[1] == 5 * 160 + 6 * 6


def test_heat_maps_are_bright_at_their_peak_and_ticked_at_mean_and_truth():
    bins = np.linspace(-1, 1, 65)
    weights = np.exp(-0.5 * ((bins - 0.5) / 0.08) ** 2)[None].repeat(3, 0)
    picture = distribution_strip(
        weights / weights.sum(1, keepdims=True), np.array([[-1.0, 1]] * 3), np.array([-0.5, 0, 0])
    )
    row = picture[14]
    for color, share in ((PREDICTION, 0.75), (TRUTH, 0.25)):
        tick = (row == color).all(1).nonzero()[0]
        assert abs(tick.mean() - (22 + share * 293)) <= 2
    beside_mean, far_off = row[22 + 229], row[22 + 100]
    assert beside_mean.sum() > far_off.sum() + 100


def test_enlarging_keeps_points_on_what_they_point_at(posed):
    picture = GREY.copy()
    picture[40:42, 60:62] = 255
    grown = enlarged(picture, 640)
    x, y = enlarged_points(np.array([60.5, 40.5]), 4.0)
    bright = (grown[..., 0] > 200).nonzero()
    assert bright[1].mean() == pytest.approx(x, abs=0.05)
    assert bright[0].mean() == pytest.approx(y, abs=0.05)
    np.testing.assert_allclose(
        project_mm(posed[0], enlarged_K(K, 4.0)), enlarged_points(project_mm(posed[0], K), 4.0), atol=1e-9
    )


def test_the_labelled_mesh_of_a_left_hand_holds_its_joints(record, hand):
    meshes = labelled_meshes_mm(record, hand)
    assert record.handedness == "left"
    tips = meshes[:, hand.tips.tolist()]
    np.testing.assert_allclose(tips, record.joint_cam_mm[:, [4, 8, 12, 16, 20]], atol=0.05)


def test_a_record_is_drawn_with_and_without_a_hand_and_says_which_frame_is_damaged(record, hand):
    with_mesh, without = (draw_record(record, h, max_frames=3, side=192) for h in (hand, None))
    assert with_mesh.shape == without.shape
    assert with_mesh.shape[1] == 3 * 192 + 4 * 6
    assert (with_mesh != without).any()
    unlabelled = replace(record, has_mano=np.zeros(5))
    np.testing.assert_array_equal(draw_record(unlabelled, hand, max_frames=3, side=192), without)
    broken = replace(record, frames=[b"no picture", *record.frames[1:]])
    with pytest.raises(InputError, match=r"train-0000000: frame 0: is not a picture"):
        draw_record(broken, hand)
