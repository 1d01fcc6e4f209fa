"""Poses from boxes, updates and template matches against the public formulas' vectors and against projection."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posecore.errors import InputError
from vpog.camera_poses import (
    TemplateMatch,
    gigapose_inplane_angle,
    pose_from_box,
    pose_from_template,
    relative_scale,
    updated_pose,
)
from vpog.views import inplane_angle, rotations_about_axis


@pytest.fixture
def arrays(reference):
    return reference("crop_camera")


def test_first_guesses_from_boxes_are_those_of_the_reference(arrays):
    boxes, points, K = arrays["deepim_obs_boxes"], arrays["pts"], arrays["K"]
    upright = pose_from_box(boxes, points, K)
    np.testing.assert_allclose(upright, arrays["TCO_init_zup"], atol=1e-5)
    given_rotation = pose_from_box(boxes, points, K, arrays["TCO"][:, :3, :3])
    np.testing.assert_allclose(given_rotation, arrays["TCO_init_autodepth"], atol=1e-5)
    np.testing.assert_array_less(upright[:, 1, 2], 0)  # the object's z points upwards


def test_updates_are_those_of_the_reference_and_none_changes_nothing(arrays):
    updated = updated_pose(arrays["TCO"], arrays["K"], arrays["upd_vxvyvz"], arrays["upd_dR"], arrays["upd_tCR"])
    np.testing.assert_allclose(updated, arrays["upd_TCO_out"], atol=1e-5)
    nothing = np.tile([0.0, 0.0, 1.0], (6, 1))
    same = updated_pose(arrays["TCO"], arrays["K"], nothing, np.tile(np.eye(3), (6, 1, 1)), arrays["upd_tCR"])
    np.testing.assert_allclose(same, arrays["TCO"], atol=1e-6)


@given(seed=st.integers(0, 2**31))
def test_an_update_moves_its_reference_point_by_its_pixels_and_depth(seed):
    rng = np.random.default_rng(seed)
    K = np.array([[[500.0, 0, 300], [0, 520.0, 200], [0, 0, 1]]])
    pose = np.eye(4)[None].copy()
    pose[0, :3, :3], pose[0, :3, 3] = (
        Rotation.random(random_state=seed).as_matrix(),
        rng.normal(0, 1, 3) + np.array([0, 0, 9]),
    )
    point_obj = rng.normal(size=3)
    before = pose[0, :3, :3] @ point_obj + pose[0, :3, 3]
    change = np.array([[7.0, -4.0, 1.2]])
    after_pose = updated_pose(pose, K, change, Rotation.random(1, random_state=seed + 1).as_matrix(), before[None])[0]
    after = after_pose[:3, :3] @ point_obj + after_pose[:3, 3]
    pixels = [(K[0] @ point)[:2] / point[2] for point in (before, after)]
    np.testing.assert_allclose(pixels[1] - pixels[0], change[0, :2], atol=1e-6)
    np.testing.assert_allclose(after[2], 1.2 * before[2])


def test_relative_scale_and_turn_are_those_of_the_reference(arrays):
    K, pose, crop = arrays["K"], arrays["TCO"], arrays["crop_M"]
    scale = relative_scale(pose, pose[::-1], K, K[::-1], crop, crop[::-1])
    np.testing.assert_allclose(scale, arrays["gp_rel_scale"], atol=1e-5)
    turn = gigapose_inplane_angle(pose[:, :3, :3], pose[::-1, :3, :3])
    np.testing.assert_allclose(turn, arrays["gp_rel_inplane"], atol=1e-5)


def test_both_turns_in_the_plane_agree_where_the_directions_do():
    rotations = Rotation.random(20, random_state=0).as_matrix()
    angles = np.linspace(0.1, 6.2, 20)
    turned = rotations_about_axis(angles) @ rotations
    np.testing.assert_allclose(gigapose_inplane_angle(rotations, turned), angles, atol=1e-9)
    np.testing.assert_allclose(inplane_angle(turned, rotations) % (2 * np.pi), angles, atol=1e-9)


def test_poses_from_templates_are_those_of_the_reference(arrays):
    rows, view = np.arange(6), arrays["rec_view_id"][:, 0]
    match = TemplateMatch(
        arrays["rec_template_poses"][rows, view],
        arrays["K"],
        arrays["rec_template_Ms"][rows, view],
        arrays["rec_query_K"],
        arrays["rec_query_M"],
        arrays["rec_pred_M"],
    )
    np.testing.assert_allclose(pose_from_template(match), arrays["rec_pose_out"][:, 0], atol=1e-4)


@given(seed=st.integers(0, 2**31), angle=st.floats(-3.1, 3.1))
def test_a_template_turned_and_moved_along_the_axis_is_found_exactly(seed, angle):
    """Through the true similarity of two crops, for one camera with square pixels and an object on its axis."""
    rng = np.random.default_rng(seed)
    K = np.array([[400.0, 0, 100], [0, 400.0, 100], [0, 0, 1]])
    template, query = np.eye(4), np.eye(4)
    template[:3, :3], template[2, 3] = Rotation.random(random_state=seed).as_matrix(), 600
    query[:3, :3] = rotations_about_axis(np.array([angle]))[0] @ template[:3, :3]
    query[2, 3] = rng.uniform(300, 1500)
    crops = [np.array([[s, 0, x], [0, s, y], [0, 0, 1]]) for s, x, y in rng.uniform(0.5, 3, (2, 3))]
    turn = rotations_about_axis(np.array([angle]))[0] @ np.diag([600 / query[2, 3]] * 2 + [1.0])
    centre = np.array([[1, 0, 100], [0, 1, 100], [0, 0, 1.0]])
    between = crops[1] @ centre @ turn @ np.linalg.inv(centre) @ np.linalg.inv(crops[0])
    match = TemplateMatch(*(matrix[None] for matrix in (template, K, crops[0], K, crops[1], between)))
    np.testing.assert_allclose(pose_from_template(match)[0], query, atol=1e-6)


def test_boxes_and_points_without_extent_are_told():
    K, points = np.eye(3)[None], np.random.default_rng(0).normal(size=(1, 5, 3))
    with pytest.raises(InputError, match="expected finite x0, y0"):
        pose_from_box(np.array([[5.0, 5.0, 3.0, 9.0]]), points, K)
    with pytest.raises(InputError, match="no extent"):
        pose_from_box(np.array([[5.0, 5.0, 9.0, 9.0]]), points * 0, K)
