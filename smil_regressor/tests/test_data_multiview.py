"""The multi-view HDF5 layout: round trips, files of the original, damaged files."""

import json
import pickle
from dataclasses import fields, replace

import cv2
import h5py
import numpy as np
import pytest

from posecore.errors import InputError
from smil_regressor.data.hdf5_multiview import MultiViewWriter
from smil_regressor.data.multiview_file import MultiViewFile
from smil_regressor.data.pixels import points_from_file, points_to_file, resize_intrinsics

NAMES = ("b_t", "b_h", "l_1_fe_r", "l_1_fe_l", "an_1_r")
CAMERAS = ("left", "right", "top")


@pytest.fixture
def write(tmp_path, make_sample):
    def make(count=4, name="data.h5", **options):
        path = tmp_path / name
        settings = {"joint_names": NAMES, "num_betas": 4, "max_views": 3, "canonical_camera_order": CAMERAS,
                    "target_resolution": 32} | options  # fmt: skip
        with MultiViewWriter(path, **settings) as writer:
            for seed in range(count):
                writer.add(make_sample(seed=seed))
        return path

    return make


def original_layout(path):
    """Take away all that SMILify's files do not have."""
    with h5py.File(path, "a") as file:
        for name in ("layout_version", "joint_names", "rot6d_convention", "world_scale", "smal_sha256"):
            file["metadata"].attrs.pop(name, None)
        for view in range(3):
            del file[f"multiview_images/mask_png_view_{view}"]
        del file["multiview_keypoints/has_keypoints_3d"]
        for name in ("log_beta_scales", "betas_trans"):
            del file[f"parameters/{name}"]
        for name in ("has_camera", "has_root_rotation", "has_translation", "has_log_beta_scales", "has_betas_trans"):
            del file[f"auxiliary/{name}"]


def read(path, index=0, resolution=32, **options):
    file = MultiViewFile(path, **options)
    return file.read(index, np.flatnonzero(file.view_mask[index]), resolution)


def test_what_is_written_is_read_back(write, make_sample):
    path = write()
    file = MultiViewFile(path)
    assert len(file) == 4
    assert file.joint_names == NAMES
    assert file.camera_order == CAMERAS
    for index in range(4):
        expected, found = make_sample(seed=index), read(path, index)
        for field in fields(expected):
            left, right = getattr(expected, field.name), getattr(found, field.name)
            if field.name == "images":
                assert np.abs(left.astype(int) - right).mean() < 8, "JPEG, chroma at half resolution"
            elif not isinstance(left, str):
                np.testing.assert_allclose(np.asarray(right), left, atol=2e-5, rtol=2e-5)
        assert found.session == expected.session
        assert found.key == f"{path}[{index}]"


def test_flags_and_absent_views_survive_the_round_trip(tmp_path, make_sample):
    full = make_sample()
    sample = replace(
        full,
        view_mask=np.array([True, False, True]),
        camera_slots=np.array([2, -1, 0]),
        has_camera=np.array([True, False, False]),
        has_mask=np.array([False, False, True]),
        has_keypoints_world=np.array([True, False, True, True, False]),
        has_betas=False,
        has_joint_rotations=False,
        has_log_scales=False,
    )
    path = tmp_path / "flags.h5"
    with MultiViewWriter(path, joint_names=NAMES, num_betas=4, max_views=3, canonical_camera_order=CAMERAS,
                         target_resolution=32) as writer:  # fmt: skip
        writer.add(sample)
    found = read(path)
    np.testing.assert_array_equal(found.camera_slots, [2, 0])
    np.testing.assert_array_equal(found.has_camera, [True, False])
    np.testing.assert_array_equal(found.K[1], np.eye(3))
    np.testing.assert_array_equal(found.has_mask, [False, True])
    np.testing.assert_array_equal(found.has_keypoints_world, sample.has_keypoints_world)
    assert (found.keypoints_world[~sample.has_keypoints_world] == 0).all()
    assert (found.has_betas, found.has_joint_rotations, found.has_root_rotation) == (False, False, True)
    assert (found.has_log_scales, found.has_joint_offsets) == (False, True)


def test_names_and_types_are_those_of_the_layout(write):
    n, v, j = 4, 3, 5
    expected = {
        "multiview_images/view_mask": ((n, v), "bool"),
        "multiview_keypoints/keypoints_2d": ((n, v, j, 2), "float32"),
        "multiview_keypoints/keypoint_visibility": ((n, v, j), "float32"),
        "multiview_keypoints/camera_indices": ((n, v), "int32"),
        "multiview_keypoints/camera_intrinsics": ((n, v, 3, 3), "float32"),
        "multiview_keypoints/camera_extrinsics_R": ((n, v, 3, 3), "float32"),
        "multiview_keypoints/camera_extrinsics_t": ((n, v, 3), "float32"),
        "multiview_keypoints/image_sizes": ((n, v, 2), "int32"),
        "multiview_keypoints/keypoints_3d": ((n, j, 3), "float32"),
        "parameters/global_rot": ((n, 3), "float32"),
        "parameters/joint_rot": ((n, j, 3), "float32"),
        "parameters/betas": ((n, 4), "float32"),
        "parameters/trans": ((n, 3), "float32"),
        "auxiliary/has_camera": ((n, v), "bool"),
    }
    with h5py.File(write(world_scale=0.001, smal_sha256="ab")) as file:
        for name, (shape, dtype) in expected.items():
            assert (file[name].shape, str(file[name].dtype)) == (shape, dtype), name
        assert file["multiview_images/image_jpeg_view_2"].dtype.metadata["vlen"] == np.uint8
        assert file["auxiliary/camera_names"][0] == b"left,right,top"
        attributes = file["metadata"].attrs
        assert json.loads(attributes["canonical_camera_order"]) == list(CAMERAS)
        required = {"num_samples", "max_views", "n_joints", "n_pose", "n_betas", "target_resolution", "backbone_name",
                    "jpeg_quality", "crop_mode", "dataset_type", "is_multiview", "min_views_per_sample", "frame_skip",
                    "has_camera_parameters", "has_3d_keypoints", "load_3d_data", "undistort_images", "statistics",
                    "used_reprojections", "keypoints_3d_joint_order", "world_scale", "layout_version", "joint_names",
                    "smal_sha256", "rot6d_convention"}  # fmt: skip
        assert required <= set(attributes)


def test_reprojection_in_a_file_is_exact_for_readers_that_know_only_its_own_numbers(write):
    with h5py.File(write()) as file:
        group = file["multiview_keypoints"]
        R, t = group["camera_extrinsics_R"][:], group["camera_extrinsics_t"][:]
        points = np.einsum("nvij,nkj->nvki", R, group["keypoints_3d"][:]) + t[:, :, None]
        projected = np.einsum("nvij,nvkj->nvki", group["camera_intrinsics"][:], points)
        shares = projected[..., :2] / projected[..., 2:] / group["image_sizes"][:][:, :, None]
        np.testing.assert_allclose(shares[..., ::-1], group["keypoints_2d"][:], atol=1e-5)


def test_a_file_of_the_original_layout_is_read(write, make_sample):
    path = write()
    original_layout(path)
    with h5py.File(path, "a") as file:
        file["multiview_keypoints/camera_intrinsics"][0, 1] = np.eye(3)
        file["multiview_keypoints/keypoints_3d"][0, 2] = 0
        file["multiview_keypoints/keypoints_3d"][0, 3] = np.nan
        file["multiview_keypoints/keypoints_2d"][0, 0, 1] = np.nan
        file["multiview_keypoints/keypoints_2d"][0, 0, 2] = 0
    file, found, expected = MultiViewFile(path), read(path), make_sample(seed=0)
    assert file.joint_names is None
    assert file.world_scale is None
    np.testing.assert_array_equal(found.has_camera, [True, False, True])
    np.testing.assert_array_equal(found.has_keypoints_world, [True, True, False, False, True])
    np.testing.assert_array_equal(found.visibility[0], [1, 0, 0, 1, 1])
    assert not found.has_mask.any()
    assert found.has_joint_rotations
    np.testing.assert_allclose(found.K[[0, 2]], expected.K[[0, 2]], rtol=1e-5)


def test_a_file_that_does_not_say_its_frame_has_the_first_views_where_every_first_camera_is_the_identity(
    tmp_path, make_sample
):
    settings = {"joint_names": NAMES, "num_betas": 4, "max_views": 3, "canonical_camera_order": CAMERAS,
                "target_resolution": 32}  # fmt: skip
    for moved, expected in ((0, "world"), (1, "world"), (2, "first_view")):
        path = tmp_path / f"{moved}.h5"
        with MultiViewWriter(path, **settings) as writer:
            for seed in range(2):
                sample = make_sample(seed=seed, has_camera=np.array([False, True, True]))
                first = np.linalg.inv(sample.cam_from_world[1]) if seed < moved else np.eye(4)
                writer.add(replace(sample, cam_from_world=(sample.cam_from_world @ first).astype(np.float32)))
        with h5py.File(path, "a") as file:
            assert file["metadata"].attrs.pop("world_frame") == "world"
        assert MultiViewFile(path).world_frame == expected
    with h5py.File(path, "a") as file:
        file["metadata"].attrs["world_frame"] = "room"
    with pytest.raises(InputError, match=r"metadata.world_frame: 'room'; one of world, first_view"):
        MultiViewFile(path)


def test_an_original_file_without_calibration_has_no_cameras(write):
    path = write()
    original_layout(path)
    with h5py.File(path, "a") as file:
        file["metadata"].attrs["has_camera_parameters"] = False
    assert not read(path).has_camera.any()


def test_lengths_become_metres(write, make_sample):
    expected = make_sample(seed=0)
    found = read(write(world_scale=0.01))
    np.testing.assert_allclose(found.cam_from_world[:, :3, 3], 0.01 * expected.cam_from_world[:, :3, 3], rtol=1e-5)
    np.testing.assert_allclose(found.keypoints_world, 0.01 * expected.keypoints_world, rtol=1e-5)
    np.testing.assert_allclose(found.translation, 0.01 * expected.translation, rtol=1e-5)


def test_another_world_scale_than_the_file_says_is_refused(write):
    with pytest.raises(InputError, match=r"metadata.world_scale is 0.01, but 0.001 was asked for"):
        MultiViewFile(write(world_scale=0.01), world_scale=0.001)


@pytest.mark.parametrize("resolution", [16, 31, 64, 224])
def test_a_drawn_dot_and_its_keypoint_agree_at_every_resolution(tmp_path, make_sample, resolution):
    side, place = 96, np.array([40.0, 55.0])
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    blob = np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * 6.0**2))
    image = np.repeat((250 * blob)[..., None], 3, -1).astype(np.uint8)
    path = tmp_path / "dot.h5"
    with MultiViewWriter(path, joint_names=NAMES, num_betas=4, max_views=1, canonical_camera_order=("a",),
                         target_resolution=side, jpeg_quality=100) as writer:  # fmt: skip
        writer.add(make_sample(views=1, resolution=side, images=image[None],
                               keypoints_px=np.tile(place, (1, 5, 1)).astype(np.float32)))  # fmt: skip
    found = read(path, resolution=resolution)
    grey = found.images[0].astype(float).mean(-1)
    grey[grey < 12] = 0
    rows, columns = np.mgrid[:resolution, :resolution]
    centre = np.array([(columns * grey).sum(), (rows * grey).sum()]) / grey.sum()
    np.testing.assert_allclose(found.keypoints_px[0, 0], centre, atol=0.05)


@pytest.mark.parametrize("resolution", [16, 48])
def test_reprojection_holds_at_another_resolution(write, resolution):
    found = read(write(), resolution=resolution)
    points = found.keypoints_world @ found.cam_from_world[:, :3, :3].transpose(0, 2, 1)
    points = points + found.cam_from_world[:, None, :3, 3]
    pixels = np.einsum("vij,vnj->vni", found.K, points)
    np.testing.assert_allclose(pixels[..., :2] / pixels[..., 2:], found.keypoints_px, atol=1e-3)


def test_the_original_renderer_and_its_intrinsics_agree_in_file_coordinates(reference):
    """PyTorch3D's (1 - ndc) / 2 shares, times the size, are K X with the principal point in the middle (W / 2)."""
    arrays = reference("cameras")
    wh = arrays["image_wh"].astype(float)
    shares = ((1 - arrays["ndc"][..., :2]) / 2)[..., ::-1]
    inside = points_from_file(shares, wh)
    np.testing.assert_allclose(inside, arrays["pixels_opencv"] - 0.5, atol=3e-4)
    np.testing.assert_allclose(points_to_file(inside, wh), shares, atol=1e-9)


def test_intrinsics_scale_as_cv2_resize_does():
    K = np.array([[100.0, 0, 31.5], [0, 90, 20], [0, 0, 1]])
    resized = resize_intrinsics(K, np.array([64.0, 48.0]), np.array([128.0, 24.0]))
    np.testing.assert_allclose(resized, [[200, 0, 63.5], [0, 45, 9.75], [0, 0, 1]])


def damaged(path, change):
    with h5py.File(path, "a") as file:
        change(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("multiview_keypoints/keypoints_2d"), r"data\.h5: multiview_keypoints/keypoints_2d: no such"),
        (lambda f: f["metadata"].attrs.pop("canonical_camera_order"), r"canonical_camera_order: missing"),
        (lambda f: f["metadata"].attrs.__setitem__("joint_names", '["a"]'), r"joint_names: 1 names, .* have 5 joints"),
        (lambda f: f["multiview_keypoints/image_sizes"].__setitem__((2, 1), 0),
         r"data\.h5\[2\]: multiview_keypoints/image_sizes: view 1 has \[0, 0\]"),
        (lambda f: f["multiview_keypoints/camera_indices"].__setitem__((1, 0), 7),
         r"data\.h5\[1\]: multiview_keypoints/camera_indices: view 0 has 7, but .* 3 names"),
    ],
)  # fmt: skip
def test_damage_is_told_when_the_file_is_opened(write, change, message):
    path = write()
    damaged(path, change)
    with pytest.raises(InputError, match=message) as error:
        MultiViewFile(path)
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["multiview_keypoints/camera_intrinsics"].__setitem__((1, 0, 0, 0), np.nan),
         r"data\.h5\[1\]: multiview_keypoints/camera_intrinsics: NaN"),
        (lambda f: f["multiview_keypoints/camera_intrinsics"].__setitem__((1, 0, 0, 0), -4), r"focal lengths -4"),
        (lambda f: f["multiview_keypoints/camera_extrinsics_R"].__setitem__((1, 2, 0, 0), 3), r"not a rotation"),
        (lambda f: f["parameters/joint_rot"].__setitem__((1, 2), np.inf), r"\[1\]: parameters/joint_rot: NaN or inf"),
        (lambda f: f["multiview_images/image_jpeg_view_1"].__setitem__(1, np.frombuffer(b"not a jpeg", np.uint8)),
         r"data\.h5\[1\]: multiview_images/image_jpeg_view_1: is not a picture"),
        (lambda f: f["multiview_images/mask_png_view_1"].__setitem__(1, np.frombuffer(b"text", np.uint8)),
         r"data\.h5\[1\]: multiview_images/mask_png_view_1: is not a picture"),
        (lambda f: f["multiview_images/image_jpeg_view_1"].__setitem__(1, np.zeros(0, np.uint8)), r"view_1: .*empty"),
    ],
)  # fmt: skip
def test_a_damaged_sample_is_told_when_it_is_read_and_the_others_still_load(write, change, message):
    path = write()
    damaged(path, change)
    read(path, 0)
    with pytest.raises(InputError, match=message) as error:
        read(path, 1)
    assert len(error.value.problems) == 1


def test_a_truncated_file_is_told(write, tmp_path):
    whole = write().read_bytes()
    torn = tmp_path / "torn.h5"
    torn.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"torn\.h5: not a whole HDF5 file"):
        MultiViewFile(torn)


def test_a_file_appears_only_when_it_is_complete(tmp_path, make_sample):
    path = tmp_path / "later.h5"

    def interrupted():
        with MultiViewWriter(path, joint_names=NAMES, num_betas=4, max_views=3, canonical_camera_order=CAMERAS,
                             target_resolution=32) as writer:  # fmt: skip
            writer.add(make_sample())
            assert not path.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_sample_of_other_sizes_is_refused(tmp_path, make_sample):
    def write_it():
        with MultiViewWriter(tmp_path / "x.h5", joint_names=NAMES, num_betas=4, max_views=3,
                             canonical_camera_order=CAMERAS, target_resolution=32) as writer:  # fmt: skip
            writer.add(make_sample(joints=6))

    with pytest.raises(ValueError, match=r"views, height, width, joints, betas are \(3, 32, 32, 6, 4\)"):
        write_it()


def test_the_reader_survives_pickling_as_worker_processes_need_it(write):
    path = write()
    file = MultiViewFile(path)
    file.read(0, np.array([0]), 32)
    copy = pickle.loads(pickle.dumps(file))
    np.testing.assert_array_equal(copy.read(0, np.array([0]), 32).images, file.read(0, np.array([0]), 32).images)


def test_red_comes_back_red(tmp_path, make_sample):
    red = np.zeros((3, 32, 32, 3), np.uint8)
    red[..., 0] = 200
    path = tmp_path / "red.h5"
    with MultiViewWriter(path, joint_names=NAMES, num_betas=4, max_views=3, canonical_camera_order=CAMERAS,
                         target_resolution=32) as writer:  # fmt: skip
        writer.add(make_sample(images=red))
    np.testing.assert_allclose(read(path).images.mean((0, 1, 2)), [200, 0, 0], atol=3)
    assert cv2.imdecode(h5py.File(path)["multiview_images/image_jpeg_view_0"][0], cv2.IMREAD_COLOR)[0, 0, 2] > 190
