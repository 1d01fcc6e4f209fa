"""Tiles, ranges of pixels and latents, backgrounds, and the cameras of the views."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from keypoint_nvs.config.model import RigConfig
from keypoint_nvs.poses import azimuth_deg_of, orbit_cameras, pose_difference_deg, turn_world
from keypoint_nvs.rig import Rig, rig_of, zero123plus_rig
from keypoint_nvs.scaling import composite, scale_image, scale_latents, unscale_image, unscale_latents
from keypoint_nvs.tiles import tile_views, untile_views
from posecore.cameras import fov_to_intrinsics, look_at, opengl_to_opencv
from posecore.errors import InputError


def test_tiles_are_the_references(reference):
    data = reference("z123_tiles")
    views, grid = torch.from_numpy(data["views"]), torch.from_numpy(data["grid"])
    assert torch.equal(tile_views(views), grid)
    assert torch.equal(untile_views(grid), views)
    each = torch.arange(6.0)[:, None, None, None].expand(6, 1, 4, 4)
    np.testing.assert_array_equal(tile_views(each)[0].numpy(), data["view_index_map"])


@pytest.mark.parametrize("side", [40, 20, 10, 5])
def test_a_view_is_found_again_in_the_tokens_of_every_level(side):
    value = torch.tensor([3.0, 1.0, 4.0, 5.0, 9.0, 2.0])
    tokens = tile_views(value[:, None, None, None].expand(6, 1, side, side)).flatten()
    token = torch.arange(6 * side * side)
    y, x = token // (2 * side), token % (2 * side)
    assert torch.equal(tokens, value[y // side * 2 + x // side])


@given(rows=st.integers(1, 4), cols=st.integers(1, 4), height=st.integers(1, 3), width=st.integers(1, 3))
def test_untiling_undoes_tiling_for_any_rig(rows, cols, height, width):
    views = torch.rand(2, rows * cols, 3, height, width)
    grid = tile_views(views, rows, cols)
    assert grid.shape == (2, 3, rows * height, cols * width)
    assert torch.equal(untile_views(grid, rows, cols), views)


def test_views_that_do_not_fill_the_grid_are_refused():
    with pytest.raises(ValueError, match="5 views do not fill 3 rows of 2"):
        tile_views(torch.zeros(5, 3, 4, 4))
    with pytest.raises(ValueError, match="10 x 8 pixels do not divide"):
        untile_views(torch.zeros(3, 10, 8))


def test_scalings_are_the_references_and_undo_each_other(reference):
    data = {name: torch.from_numpy(values) for name, values in reference("z123_scaling").items()}
    close = {"rtol": 0, "atol": 1e-6}
    torch.testing.assert_close(scale_latents(data["latents"]), data["scaled_latents"], **close)
    torch.testing.assert_close(unscale_latents(data["latents"]), data["unscaled_latents"], **close)
    torch.testing.assert_close(scale_image(data["image"]), data["scaled_image"], **close)
    torch.testing.assert_close(unscale_image(data["image"]), data["unscaled_image"], **close)
    shift, scale = torch.randn(4, 1, 1), torch.rand(4, 1, 1) + 0.5
    back = unscale_latents(scale_latents(data["latents"], shift, scale), shift, scale)
    torch.testing.assert_close(back, data["latents"], **close)


def test_transparent_pictures_on_grey_are_pils_to_the_byte(reference):
    data = reference("z123_scaling")
    rgba = np.moveaxis(data["rgba"], -1, 0)
    for picture in (composite(rgba, "grey"), composite(torch.from_numpy(rgba), "grey").numpy()):
        np.testing.assert_array_equal(np.moveaxis(picture, 0, -1) * np.float32(255), data["rgb_on_grey"])


@pytest.mark.parametrize("background", ["grey", "white", (3, 250, 96)])
def test_every_alpha_on_every_byte_rounds_as_pil(background):
    alpha, byte = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8), indexing="ij")
    rgba = np.stack((byte, byte[::-1], byte[:, ::-1], alpha))
    colour = {"grey": (127,) * 3, "white": (255,) * 3}.get(background, background)
    page = Image.new("RGB", (256, 256), colour)
    page.paste(Image.fromarray(np.moveaxis(rgba[:3], 0, -1)), mask=Image.fromarray(alpha))
    expected = np.moveaxis(np.asarray(page), -1, 0).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(composite(rgba, background), expected)
    np.testing.assert_array_equal(composite(torch.from_numpy(rgba.copy()), background).numpy(), expected)


@pytest.mark.parametrize(("version", "prefix"), [("v1.1", "v11"), ("v1.2", "v12")])
def test_cameras_are_the_references(reference, version, prefix):
    data = reference("z123_cameras")
    rig = zero123plus_rig(version)
    expected = opengl_to_opencv(torch.from_numpy(np.linalg.inv(data[f"{prefix}_c2w_opengl"].astype(np.float64))))
    expected[:, :3, 3] *= rig.radius / float(data[f"{prefix}_radius"])
    np.testing.assert_allclose(rig.cam_from_world(), expected.numpy(), rtol=0, atol=1e-6)
    assert rig.azimuth_deg == tuple(data["azimuth"])


def test_intrinsics_are_the_references_and_the_cores(reference):
    rig = zero123plus_rig("v1.2")
    unit = reference("z123_cameras")["K_fov30"]
    K = rig.K(320)
    np.testing.assert_allclose(K, [[320 * unit[0, 0], 0, 159.5], [0, 320 * unit[1, 1], 159.5], [0, 0, 1]], atol=1e-9)
    np.testing.assert_allclose(K, fov_to_intrinsics(torch.tensor(30.0).double(), (320, 320)).numpy(), atol=1e-9)


def test_a_sphere_of_radius_one_half_touches_the_picture_at_the_objects_depth():
    for version in ("v1.1", "v1.2"):
        rig = zero123plus_rig(version)
        K = rig.K(320)
        assert K[0, 0] * 0.5 / rig.radius == pytest.approx(160)
    assert zero123plus_rig("v1.2").radius == pytest.approx(1.8660254)


def test_cameras_agree_with_look_at_and_the_first_is_to_the_input_views_right():
    rig = zero123plus_rig("v1.2")
    cameras = torch.from_numpy(rig.cam_from_world())
    centres = -(cameras[:, :3, :3].mT @ cameras[:, :3, 3:])[..., 0]
    up = torch.tensor([0.0, 0, 1]).double().expand(6, 3)
    torch.testing.assert_close(look_at(centres, torch.zeros_like(centres), up), cameras, rtol=0, atol=1e-9)
    front = orbit_cameras(np.array([0.0]), np.array([0.0]), rig.radius)[0]
    assert (front[:3, :3] @ centres[0].numpy())[0] > 0.5


@given(azimuth=st.floats(-720, 720), turn=st.floats(0, 40), view=st.integers(0, 5), seed=st.integers(0, 99))
def test_the_pose_error_is_the_angle_by_which_a_camera_was_turned(azimuth, turn, view, seed):
    rig = zero123plus_rig("v1.1")
    axis = np.random.default_rng(seed).normal(size=3)
    cameras = turn_world(rig.cam_from_world(), -azimuth)
    cameras[view, :3] = (
        Rotation.from_rotvec(turn * axis / np.linalg.norm(axis), degrees=True).as_matrix() @ cameras[view, :3]
    )
    cameras[:, :3, 3] *= 1.7
    input_view = turn_world(orbit_cameras(np.array([0.0]), np.array([25.0]), 3.0)[0], -azimuth)
    expected = np.zeros(6)
    expected[view] = turn
    np.testing.assert_allclose(rig.pose_errors_deg(cameras, input_view), expected, rtol=0, atol=1e-5)


def test_a_camera_that_stands_elsewhere_but_looks_the_same_way_counts_as_turned():
    camera = zero123plus_rig("v1.2").cam_from_world()[0]
    beside = camera.copy()
    beside[0, 3] += camera[2, 3] * np.tan(np.radians(10))
    assert pose_difference_deg(beside, camera) == pytest.approx(10)
    assert azimuth_deg_of(camera) == pytest.approx(30)


def test_without_an_input_view_the_frame_is_taken_as_it_is():
    rig = zero123plus_rig("v1.2")
    turned = turn_world(rig.cam_from_world(), 7.0)
    errors = rig.pose_errors_deg(np.stack((rig.cam_from_world(), turned)))
    np.testing.assert_allclose(errors[0], 0, atol=1e-6)
    assert (errors[1] > 6.5).all()


def test_rigs_are_found_by_name_and_made_from_angles():
    assert rig_of("zero123plus-v1.1") == zero123plus_rig("v1.1")
    assert rig_of("zero123plus-v1.2").name == "zero123plus-v1.2"
    own = rig_of(RigConfig(azimuth_deg=[0, 180], elevation_deg=[5, 5], fov_deg=40, radius=2.0, rows=1, cols=2))
    assert own.cam_from_world().shape == (2, 4, 4)
    assert (own.num_views, own.name) == (2, "free")
    with pytest.raises(InputError, match="rig: 'zero123' is not known; zero123plus-v1"):
        rig_of("zero123")
    with pytest.raises(ValueError, match="azimuth_deg has 1 angles for 3 x 2 views"):
        Rig((0.0,), (0.0,) * 6, 30.0, 2.0)
