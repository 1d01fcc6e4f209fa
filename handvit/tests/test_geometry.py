"""Boxes, crops, mirrors and turned cameras against the reference vectors, SciPy and their own laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from handvit.data import geometry
from posecore.cameras import crop_intrinsics

angles = st.floats(-2 * math.pi, 2 * math.pi)
pixels = st.floats(-200, 900)


def test_a_camera_turned_to_the_box_is_the_references(reference):
    camera = reference("camera")
    turned = geometry.turn_to_box(camera["hand_bbox"], camera["focal"], camera["princpt"])
    np.testing.assert_allclose(turned, camera["rot_normalise"], atol=2e-6)


def test_crop_boxes_and_matrices_are_the_references(reference):
    camera = reference("camera")
    size = tuple(int(side) for side in camera["patch_size"])
    box = geometry.square_patch_box(camera["hand_bbox"], 2.0)
    K = geometry.intrinsics_matrix(camera["focal"], camera["princpt"])
    np.testing.assert_allclose(box, camera["patch_bbox"], atol=1e-9)
    np.testing.assert_allclose(K, camera["K"], atol=1e-9)
    np.testing.assert_allclose(
        geometry.inverse_intrinsics(camera["focal"], camera["princpt"]), camera["K_inv"], atol=1e-9
    )
    for half_pixel, name in ((True, "halfpixel"), (False, "legacy")):
        crop = geometry.crop_matrix(box, size, half_pixel=half_pixel)
        np.testing.assert_allclose(crop, camera[f"formula_crop_{name}"], atol=1e-9)
        np.testing.assert_allclose(crop @ K, camera[f"formula_K_crop_{name}"], atol=1e-9)
    legacy = geometry.crop_matrix(box, size, half_pixel=False)
    joints = geometry.apply_homography(legacy, camera["joint_img"])
    np.testing.assert_allclose(joints, camera["joint_patch"], atol=1e-6)


def test_the_augmented_camera_is_the_references(reference):
    camera = reference("camera")
    for place in np.ndindex(camera["aug_rad"].shape):
        rotation = geometry.scene_rotation(float(camera["aug_rad"][place]), camera["aug_axis_angle"][place])
        mat3d = rotation * np.array([1.0, 1.0, camera["aug_scale_z"][place]])
        np.testing.assert_allclose(mat3d, camera["mat3d"][place], atol=2e-6)
    homography = (
        geometry.intrinsics_matrix(camera["focal_new"], camera["princpt_new"])
        @ camera["mat3d"]
        @ geometry.inverse_intrinsics(camera["focal"], camera["princpt"])
    )
    warped = geometry.apply_homography(homography, camera["joint_img"])
    np.testing.assert_allclose(warped, camera["joint_img_warped"], atol=1e-5)
    moved = camera["joint_cam"] @ camera["mat3d"].swapaxes(-1, -2)
    projected = geometry.project(moved, camera["focal_new"], camera["princpt_new"])
    np.testing.assert_allclose(projected, camera["joint_img_warped"], atol=1e-5)


@given(st.tuples(angles, angles, angles))
def test_axis_angles_and_matrices_are_scipys(axis_angle):
    vector = np.array(axis_angle)
    matrix = geometry.axis_angle_matrix(vector)
    np.testing.assert_allclose(matrix, Rotation.from_rotvec(vector).as_matrix(), atol=1e-12)
    back = geometry.matrix_axis_angle(matrix)
    np.testing.assert_allclose(geometry.axis_angle_matrix(back), matrix, atol=1e-12)
    assert np.linalg.norm(back) <= math.pi + 1e-12


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, math.pi - 1e-9, math.pi, math.pi + 1e-9])
def test_axis_angles_survive_the_angles_where_formulas_break(angle):
    axes = np.vstack([np.eye(3), -np.eye(3), np.full((1, 3), 3**-0.5)])
    matrix = geometry.axis_angle_matrix(axes * angle)
    np.testing.assert_allclose(geometry.axis_angle_matrix(geometry.matrix_axis_angle(matrix)), matrix, atol=1e-14)


@given(st.floats(5, 60), pixels, pixels, st.floats(100, 2000), st.floats(100, 2000), pixels, pixels)
def test_a_turned_camera_looks_at_the_boxs_centre_and_does_not_roll(half, x, y, fx, fy, cx, cy):
    box, focal, princpt = np.array([x - half, y - half, x + half, y + half]), np.array([fx, fy]), np.array([cx, cy])
    rotation = geometry.turn_to_box(box, focal, princpt)
    ray = np.array([(x - cx) / fx, (y - cy) / fy, 1.0])
    np.testing.assert_allclose(rotation @ ray, [0, 0, np.linalg.norm(ray)], atol=1e-9)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert abs(geometry.matrix_axis_angle(rotation)[2]) < 1e-9


@given(st.floats(1, 300), st.floats(1, 300), pixels, pixels, st.integers(8, 256))
def test_mirroring_the_picture_and_cropping_commute(width, height, x, y, side):
    picture = np.array(640.0)
    box = np.array([x, y, x + width, y + height])
    crop_then_flip = geometry.mirror_matrix(np.array(float(side))) @ geometry.crop_matrix(box, side)
    flip_then_crop = geometry.crop_matrix(geometry.mirror_boxes(box, picture), side) @ geometry.mirror_matrix(picture)
    np.testing.assert_allclose(crop_then_flip, flip_then_crop, rtol=1e-9, atol=1e-9)


@given(st.floats(100, 2000), st.floats(100, 2000), pixels, pixels)
def test_mirroring_pixels_is_mirroring_space_seen_by_the_mirrored_camera(fx, fy, cx, cy):
    width, focal, princpt = np.array(640.0), np.array([fx, fy]), np.array([cx, cy])
    points = np.array([[30.0, -20.0, 500.0], [-80.0, 5.0, 900.0]])
    mirrored = geometry.project(geometry.mirror_points(points), focal, geometry.mirror_pixels(princpt, width))
    flipped = geometry.mirror_pixels(geometry.project(points, focal, princpt), width)
    np.testing.assert_allclose(mirrored, flipped, atol=1e-9)


def test_a_mirrored_axis_angle_is_the_rotation_seen_in_the_mirror():
    pose = np.random.default_rng(0).normal(size=(5, 48))
    M = np.diag([-1.0, 1.0, 1.0])
    rotations = geometry.axis_angle_matrix(pose.reshape(5, 16, 3))
    mirrored = geometry.axis_angle_matrix(geometry.mirror_axis_angles(pose).reshape(5, 16, 3))
    np.testing.assert_allclose(mirrored, M @ rotations @ M, atol=1e-12)


@given(pixels, pixels, st.floats(2, 400), st.integers(16, 256))
def test_a_crop_moves_intrinsics_as_the_cores_crop_does(x, y, side, size):
    K = geometry.intrinsics_matrix(np.array([500.0, 510.0]), np.array([310.0, 230.0]))
    ours = geometry.crop_matrix(np.array([x, y, x + side, y + side]), size) @ K
    box_xywh = torch.tensor([x + 0.5, y + 0.5, side, side], dtype=torch.float64)  # the core counts from pixel corners
    theirs = crop_intrinsics(torch.from_numpy(K), box_xywh, (size, size))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-7)


def test_the_left_edge_of_the_box_is_the_left_edge_of_the_crop():
    crop = geometry.crop_matrix(np.array([10.0, 0.0, 30.0, 20.0]), 40)
    edges = geometry.apply_homography(crop, np.array([[10.0, 0.0], [30.0, 20.0]]))
    np.testing.assert_allclose(edges, [[-0.5, -0.5], [39.5, 39.5]])


def test_a_box_without_size_gets_a_patch_of_one_expanded_pixel():
    box = geometry.square_patch_box(np.array([5.0, 7.0, 5.0, 7.0]), 2.0)
    np.testing.assert_allclose(box, [4, 6, 6, 8])


def test_functions_take_any_number_of_leading_dimensions():
    rng = np.random.default_rng(1)
    boxes = np.sort(rng.uniform(0, 300, (2, 3, 5, 4)), -1)[..., [0, 1, 2, 3]]
    focal, princpt = rng.uniform(300, 900, (2, 3, 5, 2)), rng.uniform(100, 300, (2, 3, 5, 2))
    R = geometry.turn_to_box(boxes, focal, princpt)
    H = geometry.intrinsics_matrix(focal, princpt) @ R @ geometry.inverse_intrinsics(focal, princpt)
    warped = geometry.warp_box(H, boxes)
    for place in np.ndindex(2, 3, 5):
        np.testing.assert_allclose(warped[place], geometry.warp_box(H[place], boxes[place]), atol=1e-9)
        np.testing.assert_allclose(
            geometry.crop_matrix(boxes, 64)[place], geometry.crop_matrix(boxes[place], 64), atol=1e-9
        )


def test_points_that_a_turned_camera_cannot_see_are_told():
    focal, princpt = np.array([500.0, 500.0]), np.array([320.0, 240.0])
    turn = geometry.axis_angle_matrix(np.array([0.0, 1.2, 0.0]))
    H = geometry.intrinsics_matrix(focal, princpt) @ turn @ geometry.inverse_intrinsics(focal, princpt)
    corners = np.array([[0.0, 240.0], [320.0, 240.0], [640.0, 240.0]])
    rays = np.concatenate([(corners - princpt) / focal, np.ones((3, 1))], -1)
    np.testing.assert_array_equal(geometry.behind(H, corners), (rays @ turn.T)[:, 2] <= 0)
    wide = np.array([[5000.0, 240.0]])
    assert geometry.behind(H, wide).all() != geometry.behind(H, -wide).all()


def test_a_camera_that_nobody_knows_is_assumed_at_the_pictures_centre():
    focal, princpt = geometry.assumed_intrinsics(np.array([640.0, 480.0]))
    np.testing.assert_allclose(focal, [768, 768])
    np.testing.assert_allclose(princpt, [319.5, 239.5])
