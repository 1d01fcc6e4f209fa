"""The single-view HDF5 layout: round trips, files of the original, damaged files."""

from dataclasses import fields, replace

import cv2
import h5py
import numpy as np
import pytest
import torch

from posecore.bodymodel import pca_limbs
from posecore.errors import InputError
from smil_regressor.data.hdf5_singleview import SingleViewWriter
from smil_regressor.data.singleview_file import SingleViewFile

NAMES = ("b_t", "b_h", "l_1_fe_r", "l_1_fe_l", "an_1_r")
VIEW = np.array([0])


def write_samples(path, samples, names=NAMES, **options):
    betas, side = len(samples[0].betas), samples[0].images.shape[1]
    with SingleViewWriter(path, joint_names=names, num_betas=betas, target_resolution=side, **options) as writer:
        for sample in samples:
            writer.add(sample)
    return path


@pytest.fixture
def path(tmp_path, make_sample):
    return write_samples(tmp_path / "data.h5", [make_sample(views=1, seed=seed) for seed in range(3)])


def to_original(path, sample, width=3):
    """The same content as SMILify's writer leaves it: no additions, red and blue swapped, centred camera."""
    with h5py.File(path, "a") as file:
        for name in ("layout_version", "joint_names", "jpeg_channels"):
            del file["metadata"].attrs[name]
        for name in ("has_mask", "image_size", "session_name", "frame_idx", "has_camera", "has_root_rotation",
                     "has_joint_rotations", "has_betas", "has_translation", "has_log_beta_scales",
                     "has_betas_trans"):  # fmt: skip
            del file[f"auxiliary/{name}"]
        del file["keypoints/has_keypoints_3d"], file["parameters/camera_intrinsics"]
        swapped = cv2.imencode(".jpg", sample.images[0])[1]
        file["images/rgb_jpeg"][0] = swapped
        if width == 6:
            rows = np.stack([sample.rotations[:, :2].reshape(-1, 6)] * 3).astype(np.float32)
            del file["parameters/global_rot"], file["parameters/joint_rot"]
            file["parameters/global_rot"], file["parameters/joint_rot"] = rows[:, 0], rows[:, 1:]


def test_what_is_written_is_read_back(path, make_sample):
    file = SingleViewFile(path)
    assert (len(file), file.joint_names, file.num_joints) == (3, NAMES, 5)
    for index in range(3):
        expected, found = make_sample(views=1, seed=index), file.read(index, VIEW, 32)
        for field in fields(expected):
            left, right = getattr(expected, field.name), getattr(found, field.name)
            if field.name == "images":
                assert np.abs(left.astype(int) - right).mean() < 8, "JPEG, chroma at half resolution"
            elif not isinstance(left, str):
                np.testing.assert_allclose(np.asarray(right), left, atol=3e-5, rtol=3e-5, err_msg=field.name)
        assert found.session == expected.session


def test_flags_survive_the_round_trip(tmp_path, make_sample):
    sample = replace(
        make_sample(views=1),
        has_camera=np.array([False]),
        has_mask=np.array([False]),
        has_betas=False,
        has_log_scales=False,
        has_keypoints_world=np.array([True, True, False, True, False]),
    )
    found = SingleViewFile(write_samples(tmp_path / "x.h5", [sample])).read(0, VIEW, 32)
    assert not found.has_camera.any()
    np.testing.assert_array_equal(found.K[0], np.eye(3))
    assert not found.has_mask.any()
    assert (found.has_betas, found.has_log_scales, found.has_joint_offsets) == (False, False, True)
    np.testing.assert_array_equal(found.has_keypoints_world, sample.has_keypoints_world)


def test_names_and_types_are_those_of_the_layout(path):
    n, j, s = 3, 5, 32
    expected = {
        "images/silhouette_masks": ((n, 1, s, s), "uint8"),
        "parameters/global_rot": ((n, 3), "float32"),
        "parameters/joint_rot": ((n, j - 1, 3), "float32"),
        "parameters/betas": ((n, 4), "float32"),
        "parameters/trans": ((n, 3), "float32"),
        "parameters/fov": ((n, 1), "float32"),
        "parameters/cam_rot": ((n, 3, 3), "float32"),
        "parameters/cam_trans": ((n, 3), "float32"),
        "keypoints/keypoints_2d": ((n, j, 2), "float32"),
        "keypoints/keypoints_3d": ((n, j, 3), "float32"),
        "keypoints/keypoint_visibility": ((n, j), "float32"),
    }
    with h5py.File(path) as file:
        for name, (shape, dtype) in expected.items():
            assert (file[name].shape, str(file[name].dtype)) == (shape, dtype), name
        assert file["images/rgb_jpeg"].dtype.metadata["vlen"] == np.uint8
        assert {"original_paths", "silhouette_coverage", "visible_keypoints"} <= set(file["auxiliary"])
        required = {"total_samples", "target_resolution", "backbone_name", "rotation_representation",
                    "silhouette_threshold", "min_visible_keypoints", "chunk_size", "jpeg_quality"}  # fmt: skip
        assert required <= set(file["metadata"].attrs)


@pytest.mark.parametrize("width", [3, 6])
def test_a_file_of_the_original_layout_is_read(tmp_path, make_sample, width):
    """Its camera is a field of view, so the optical axis must be in the middle of the picture to be the same."""
    made = make_sample(views=1)
    K = np.array([[[40, 0, 15.5], [0, 40, 15.5], [0, 0, 1]]], np.float32)
    sample = replace(made, K=K, native_size_wh=np.array([[32, 32]], np.float32))
    path = write_samples(tmp_path / "old.h5", [sample] * 3)
    to_original(path, sample, width)
    found = SingleViewFile(path).read(0, VIEW, 32)
    np.testing.assert_allclose(found.K, K, rtol=1e-5)
    np.testing.assert_allclose(found.cam_from_world, sample.cam_from_world, atol=1e-5)
    np.testing.assert_allclose(found.rotations, sample.rotations, atol=1e-5)
    assert np.abs(found.images.astype(int) - sample.images).mean() < 8, "red and blue are put right"
    assert found.has_mask.all()
    assert found.has_betas
    assert found.session == "."


def test_other_names_of_the_original_layout_are_read(path):
    with h5py.File(path, "a") as file:
        for old, new in (("images/rgb_jpeg", "images/image_jpeg"), ("images/silhouette_masks", "images/mask"),
                         ("parameters/scale_weights", "parameters/log_beta_scales"),
                         ("parameters/trans_weights", "parameters/betas_trans"),
                         ("auxiliary/original_paths", "auxiliary/original_path")):  # fmt: skip
            file.move(old, new)
    found = SingleViewFile(path).read(0, VIEW, 32)
    assert found.masks.any()
    assert found.has_log_scales
    assert found.has_joint_offsets


def test_limbs_stored_as_components_go_through_the_body_model(tmp_path, make_sample, insect):
    sample = make_sample(views=1, joints=insect.num_joints, betas=insect.num_betas)
    path = write_samples(tmp_path / "pca.h5", [sample], insect.joint_names)
    weights = np.linspace(-1, 1, 2 * insect.num_betas, dtype=np.float32).reshape(2, 1, -1)
    with h5py.File(path, "a") as file:
        for name, values in zip(("scale_weights", "trans_weights"), weights, strict=True):
            del file[f"parameters/{name}"]
            file[f"parameters/{name}"] = values
    with_body, without = (SingleViewFile(path, body=body).read(0, VIEW, 32) for body in (insect, None))
    log_scales, offsets = pca_limbs(insect, torch.from_numpy(weights[0]), torch.from_numpy(weights[1]))
    np.testing.assert_allclose(with_body.log_scales, log_scales[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(with_body.joint_offsets, offsets[0].numpy(), atol=1e-6)
    assert with_body.has_log_scales
    assert not without.has_log_scales


@pytest.mark.parametrize("resolution", [20, 64])
def test_reprojection_holds_at_another_resolution(path, resolution):
    found = SingleViewFile(path).read(1, VIEW, resolution)
    points = found.keypoints_world @ found.cam_from_world[0, :3, :3].T + found.cam_from_world[0, :3, 3]
    pixels = points @ found.K[0].T
    np.testing.assert_allclose(pixels[:, :2] / pixels[:, 2:], found.keypoints_px[0], atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("images/rgb_jpeg"), r"images/rgb_jpeg or images/image_jpeg: no such dataset"),
        (lambda f: f.move("parameters/fov", "parameters/field"), r"parameters/fov: no such dataset"),
        (lambda f: f["metadata"].attrs.__setitem__("rot6d_convention", "diagonal"), r"'diagonal'; rows, columns"),
        (lambda f: f["parameters/cam_rot"].__setitem__((0, 0), 5), r"data\.h5\[0\]: parameters/camera_extr.*not a rot"),
        (lambda f: f["parameters/betas"].__setitem__((0, 0), np.nan), r"data\.h5\[0\]: parameters/betas: NaN"),
        (lambda f: f["images/rgb_jpeg"].__setitem__(0, np.frombuffer(b"hello world", np.uint8)),
         r"data\.h5\[0\]: images/rgb_jpeg: is not a picture"),
    ],
)  # fmt: skip
def test_damage_is_told_in_one_line(path, change, message):
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(InputError, match=message) as error:
        SingleViewFile(path).read(0, VIEW, 32)
    assert len(error.value.problems) == 1
