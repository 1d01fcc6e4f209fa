"""View sets and directions against the reference table, closed forms and laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posecore.errors import InputError
from vpog.views import (
    NUM_VIEWS,
    allocentric_rotation,
    direction_of,
    inplane_angle,
    rotations_about_axis,
    view_directions,
    view_rotations,
    view_subset,
)

SEEDS = st.integers(0, 2**31)


def poses(rotations, translations=(0.0, 0.0, 1000.0)):
    stacked = np.tile(np.eye(4), (len(rotations), 1, 1))
    stacked[:, :3, :3], stacked[:, :3, 3] = rotations, translations
    return stacked


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_shipped_table_is_the_reference_table_in_its_order(reference, level):
    arrays = reference("template_views")
    np.testing.assert_array_equal(view_directions(level), arrays[f"view_dirs_l{level}"])
    np.testing.assert_array_equal(view_subset(level, "upper"), arrays[f"idx_upper_l{level}"])
    if level < 2:
        np.testing.assert_allclose(view_rotations(level), arrays[f"obj_R_l{level}"], rtol=0, atol=1e-15)


@pytest.mark.parametrize(("level", "num_upper"), [(0, 26), (1, 91), (2, 341)])
def test_rotations_of_views_are_rotations_that_look_from_their_directions(level, num_upper):
    rotations = view_rotations(level)
    assert len(rotations) == NUM_VIEWS[level]
    assert len(view_rotations(level, "upper")) == num_upper
    np.testing.assert_allclose(
        rotations @ rotations.swapaxes(1, 2), np.tile(np.eye(3), (len(rotations), 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0)
    np.testing.assert_allclose(direction_of(poses(rotations)), view_directions(level), atol=1e-12)


def test_each_level_holds_the_views_of_the_coarser_one():
    for level in (0, 1):
        cosines = view_directions(level) @ view_directions(level + 1).T
        assert np.degrees(np.arccos(np.clip(cosines.max(1), -1, 1))).max() < 1e-4


def test_the_objects_z_axis_points_upwards_in_each_view_but_the_poles():
    rotations = view_rotations(1)
    is_pole = np.abs(view_directions(1)[:, 2]) > 1 - 1e-9
    assert is_pole.sum() == 2
    assert (rotations[~is_pole, 1, 2] < 0).all()
    np.testing.assert_allclose(rotations[~is_pole, 0, 2], 0, atol=1e-12)


def test_a_direction_is_a_row_of_the_rotation_and_never_a_column():
    rotation = Rotation.from_euler("xyz", [0.3, -0.8, 1.1]).as_matrix()
    direction = direction_of(poses([rotation]))[0]
    np.testing.assert_allclose(direction, -rotation[2])
    assert np.abs(direction + rotation[:, 2]).max() > 0.1
    camera_obj = -rotation.T @ np.array([0.0, 0.0, 1000.0])
    np.testing.assert_allclose(direction, camera_obj / 1000)


def test_off_the_axis_the_two_rules_differ_by_the_angle_of_the_ray():
    translation = np.array([300.0, -200.0, 700.0])
    pose = poses(Rotation.random(random_state=1).as_matrix()[None], translation)
    cosine = (direction_of(pose) * direction_of(pose, "optical_axis")).sum()
    np.testing.assert_allclose(cosine, translation[2] / np.linalg.norm(translation))


@given(seed=SEEDS)
def test_the_allocentric_rotation_has_the_direction_of_the_cameras_centre_on_the_axis(seed):
    rng = np.random.default_rng(seed)
    pose = poses(
        Rotation.random(5, random_state=seed).as_matrix(), rng.normal(size=(5, 3)) * [300, 300, 100] + [0, 0, 800]
    )
    allocentric = allocentric_rotation(pose)
    np.testing.assert_allclose(-allocentric[:, 2], direction_of(pose), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(allocentric), 1)
    turn = Rotation.from_matrix(pose[:, :3, :3] @ allocentric.swapaxes(1, 2)).magnitude()
    ray = pose[:, 2, 3] / np.linalg.norm(pose[:, :3, 3], axis=1)
    np.testing.assert_allclose(np.cos(turn), ray, atol=1e-9)


@given(seed=SEEDS, angle=st.floats(-3.14, 3.14))
def test_a_turn_about_the_cameras_axis_leaves_the_direction_and_is_the_inplane_angle(seed, angle):
    rotation = Rotation.random(random_state=seed).as_matrix()
    turned = rotations_about_axis(np.array([angle]))[0] @ rotation
    np.testing.assert_allclose(direction_of(poses([turned])), direction_of(poses([rotation])), atol=1e-12)
    np.testing.assert_allclose(inplane_angle(turned, rotation), angle, atol=1e-9)


def test_what_the_inplane_turn_leaves_is_the_angle_of_the_directions(reference):
    arrays = reference("template_views")
    query, nearest = arrays["query_R"], arrays["nearest_l1_all"]
    templates = view_rotations(1)[nearest]
    angles = inplane_angle(query, templates)
    left = Rotation.from_matrix(rotations_about_axis(-angles) @ query @ templates.swapaxes(1, 2)).magnitude()
    np.testing.assert_allclose(np.degrees(left), arrays["recovered_err_deg_l1"], atol=0.3)  # theirs: the Euler angle
    np.testing.assert_allclose(np.degrees(left), arrays["view_angle_deg_l1"][np.arange(len(query)), nearest], atol=1e-4)
    difference = (np.degrees(angles) + arrays["inplane_deg_l1_all"] + 180) % 360 - 180
    assert np.abs(difference).max() < 0.45


def test_unknown_levels_and_poses_without_direction_are_told():
    with pytest.raises(InputError, match=r"templates.level: is 3; there are 0 \(42 views\)"):
        view_directions(3)
    with pytest.raises(InputError, match=r"translation is \(0, 0, 0\)"):
        direction_of(np.eye(4))
    with pytest.raises(InputError, match="straight behind"):
        allocentric_rotation(poses([np.eye(3)], [0, 0, -5.0]))


def test_the_shipped_table_cannot_be_changed_by_who_reads_it():
    with pytest.raises(ValueError, match="read-only"):
        view_directions(0)[0, 0] = 2
