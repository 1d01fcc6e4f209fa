"""Templates turned in their plane: picture, intrinsics and pose say the same afterwards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posecore.errors import InputError
from vpog.data.inplane import rotate_template_inplane, rotate_templates
from vpog.data.template_set import TemplateSet
from vpog.views import direction_of

K = np.array([[300.0, 0.0, 63.5], [0.0, 310.0, 60.0], [0.0, 0.0, 1.0]])


def sphere_of_dots(size=128):
    """A ball with coloured dots, drawn by its closed form."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_rotvec([0.4, -0.7, 0.2]).as_matrix(), [10.0, -5.0, 500.0]
    rays = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="xy"), axis=-1).reshape(-1, 2)
    rays = np.concatenate([(rays - K[:2, 2]) / [K[0, 0], K[1, 1]], np.ones((len(rays), 1))], axis=1)
    a, b, c = (rays**2).sum(1), rays @ pose[:3, 3], pose[:3, 3] @ pose[:3, 3] - 70.0**2
    discriminant = b**2 - a * c
    mask = discriminant > 0
    depth = np.where(mask, (b - np.sqrt(np.maximum(discriminant, 0))) / a, 0)
    points_obj = (rays * depth[:, None] - pose[:3, 3]) @ pose[:3, :3]
    rgb = np.where(mask[:, None], 128 + points_obj, 0).astype(np.uint8)  # the colour is the place on the ball
    return rgb.reshape(size, size, 3), mask.reshape(size, size), depth.astype(np.float32).reshape(size, size), pose


@pytest.mark.parametrize("refit", [True, False])
@settings(max_examples=15)
@given(angle=st.floats(-np.pi, np.pi))
def test_each_pixel_of_a_turned_template_still_shows_the_same_point_of_the_object(refit, angle):
    rgb, mask, depth, pose = sphere_of_dots()
    turned = rotate_template_inplane(rgb, mask, depth, K, pose, angle, refit=refit)
    rows, columns = np.nonzero(turned.mask)
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    points_cam = pixels @ np.linalg.inv(turned.K).T * turned.depth_mm[rows, columns][:, None]
    points_obj = (points_cam - turned.cam_from_obj_mm[:3, 3]) @ turned.cam_from_obj_mm[:3, :3]
    np.testing.assert_allclose(np.linalg.norm(points_obj, axis=1), 70, atol=2.5)  # nearest pixel, 1.6 mm each
    inside = points_cam[:, 2] < 450  # not the rim, where a pixel is many millimetres of the ball
    errors = np.abs(turned.rgb[rows, columns][inside] - (128 + points_obj[inside])).max(1)
    assert np.median(errors) < 2
    assert turned.mask.sum() > 0.9 * mask.sum()


def test_turned_by_a_quarter_the_right_comes_to_the_top_and_the_pose_with_it():
    centred = np.array([[300.0, 0, 31.5], [0, 300.0, 31.5], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, 3] = [1, 0, 5]
    mask = np.zeros((64, 64), bool)
    mask[30:34, 50:60] = True
    rgb = np.repeat((mask * 200).astype(np.uint8)[..., None], 3, axis=2)
    turned = rotate_template_inplane(rgb, mask, mask.astype(np.float32) * 5, centred, pose, np.pi / 2, refit=False)
    np.testing.assert_array_equal(turned.mask, np.rot90(mask))
    np.testing.assert_allclose(turned.cam_from_obj_mm[:3, 3], [0, -1, 5], atol=1e-12)
    np.testing.assert_array_equal(turned.K, centred)


def test_refitting_keeps_the_whole_object_in_the_picture_where_turning_alone_cuts_it():
    mask = np.ones((64, 64), bool)
    rgb = np.full((64, 64, 3), 99, np.uint8)
    centred = np.array([[300.0, 0, 31.5], [0, 300.0, 31.5], [0, 0, 1]])
    refitted = rotate_template_inplane(rgb, mask, mask.astype(np.float32), centred, np.eye(4), np.pi / 4)
    cut = rotate_template_inplane(rgb, mask, mask.astype(np.float32), centred, np.eye(4), np.pi / 4, refit=False)
    np.testing.assert_allclose(refitted.mask.mean(), 0.5, atol=0.03)  # a square on its corner
    np.testing.assert_allclose(refitted.K[0, 0], 300 / np.sqrt(2), rtol=0.02)
    assert cut.mask[0].any()
    assert cut.mask[:, 0].any()


def test_turning_changes_no_viewing_direction_and_back_again_gives_the_pose():
    rgb, mask, depth, pose = sphere_of_dots()
    one = TemplateSet(3, np.array([5, 6]), *(np.stack([x, x]) for x in (rgb, mask, depth, K, pose)))
    turned = rotate_templates(one, np.array([0.5, -2.0]))
    np.testing.assert_allclose(direction_of(turned.cam_from_obj_mm), direction_of(one.cam_from_obj_mm), atol=1e-12)
    back = rotate_templates(turned, np.array([-0.5, 2.0]))
    np.testing.assert_allclose(back.cam_from_obj_mm, one.cam_from_obj_mm, atol=1e-9)
    np.testing.assert_array_equal(turned.view_ids, [5, 6])


def test_a_template_without_an_object_cannot_be_fitted():
    rgb, mask, depth, pose = sphere_of_dots()
    with pytest.raises(InputError, match="no pixel is set"):
        rotate_template_inplane(rgb, mask & False, depth, K, pose, 0.1)
