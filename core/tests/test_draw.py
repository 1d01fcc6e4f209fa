"""Drawing primitives."""

import numpy as np
import pytest

from posecore.draw import (
    draw_keypoints,
    draw_mask_outline,
    draw_mesh_overlay,
    draw_skeleton,
    joint_colors,
    tile,
)

GREY = np.full((60, 80, 3), 128, np.uint8)


def changed(picture):
    return (picture != GREY).any(-1)


def test_a_dot_is_centred_on_its_pixel():
    rows, columns = np.nonzero(changed(draw_keypoints(GREY, np.array([[30.0, 20.0]]), radius=3.0)))
    assert (rows.mean(), columns.mean()) == (pytest.approx(20, abs=0.1), pytest.approx(30, abs=0.1))
    assert (GREY == 128).all(), "the input is left as it is"


def test_hidden_missing_and_far_off_points_are_not_drawn():
    points = np.array([[10.0, 10.0], [np.nan, 5.0], [1e9, 3.0], [40.0, 30.0]])
    picture = draw_keypoints(GREY, points, np.array([False, True, True, True]))
    assert not changed(picture)[:20].any()
    assert changed(picture)[30, 40]


def test_a_bone_needs_both_its_ends():
    points, parents = np.array([[10.0, 30.0], [70.0, 30.0]]), [-1, 0]
    assert changed(draw_skeleton(GREY, points, parents))[30, 40]
    assert not changed(draw_skeleton(GREY, points, parents, np.array([True, False])))[30, 40]


def test_an_outline_follows_the_border_and_its_holes():
    mask = np.zeros((60, 80), bool)
    mask[10:50, 10:70] = True
    mask[25:35, 30:50] = False
    drawn = changed(draw_mask_outline(GREY, mask))
    assert drawn[10, 40]
    assert drawn[24, 40]
    assert not drawn[18, 20]
    assert not drawn[5, 5]


def test_a_mesh_covers_by_its_alpha_and_opacity():
    alpha = np.zeros((60, 80))
    alpha[:30] = 1
    mixed = draw_mesh_overlay(GREY, np.ones((60, 80, 3)), alpha, opacity=0.5)
    assert (mixed[:30] == 192).all()
    assert (mixed[30:] == 128).all()


def test_a_sheet_holds_every_picture_unchanged():
    pictures = [np.full((20 + i, 30, 3), 10 * i, np.uint8) for i in range(5)]
    sheet = tile(pictures, [f"view {i}" for i in range(5)], columns=3)
    assert sheet.shape[1] == 3 * 36 + 6
    for picture in pictures[1:]:
        assert (sheet == picture[0, 0]).all(-1).sum() >= picture.shape[0] * picture.shape[1]


def test_no_pictures_make_no_sheet():
    with pytest.raises(ValueError, match="no pictures"):
        tile([])


def test_sides_of_a_limb_share_their_hue_and_differ_in_brightness():
    left, right, other = joint_colors(["l_1_fe_l", "l_1_fe_r", "b_h"])
    np.testing.assert_allclose(left * 0.75, right, atol=1.5)
    assert np.abs(left - other).max() > 50
