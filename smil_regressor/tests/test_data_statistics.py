"""Statistics, the constant answer, the ground-truth self test, and the look inside a file."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from posecore.errors import InputError
from smil_regressor.data.ground_truth import ground_truth_errors
from smil_regressor.data.hdf5_multiview import MultiViewWriter
from smil_regressor.data.inspect import describe, overlay
from smil_regressor.data.labels import LabelRules
from smil_regressor.data.multiview_file import MultiViewFile
from smil_regressor.data.source import MultiViewSource, SingleViewSource
from smil_regressor.data.statistics import constant_answer, dataset_statistics

CAMERAS = ("left", "right", "top")


@pytest.fixture
def truth_file(tmp_path, make_sample, insect):
    """A file whose keypoints come from its parameters."""

    def posed(seed):
        sample = make_sample(joints=insect.num_joints, betas=insect.num_betas, seed=seed)
        rotations = Rotation.from_rotvec(Rotation.from_matrix(sample.rotations).as_rotvec() * 0.2).as_matrix()
        arrays = (rotations.astype(np.float32), sample.betas, np.zeros(3, np.float32), sample.log_scales,
                  0.1 * sample.joint_offsets)  # fmt: skip
        joints = insect.keypoints(*(torch.from_numpy(a)[None] for a in arrays))[0].numpy()
        points = joints - joints[:1] + sample.translation * 0.1
        cam = points @ sample.cam_from_world[:, :3, :3].transpose(0, 2, 1) + sample.cam_from_world[:, None, :3, 3]
        pixels = np.einsum("vij,vnj->vni", sample.K, cam)
        return replace(sample, rotations=arrays[0], joint_offsets=arrays[4], translation=0.1 * sample.translation,
                       keypoints_world=points, keypoints_px=pixels[..., :2] / pixels[..., 2:])  # fmt: skip

    path = tmp_path / "truth.h5"
    with MultiViewWriter(path, joint_names=insect.joint_names, num_betas=insect.num_betas, max_views=3,
                         canonical_camera_order=CAMERAS, target_resolution=32) as writer:  # fmt: skip
        for seed in range(6):
            writer.add(posed(seed))
    return path


@pytest.fixture
def source(truth_file, insect):
    file = MultiViewFile(truth_file)
    return MultiViewSource(file, 64, LabelRules.between("truth.h5", file.joint_names, file.num_joints,
                                                        insect.joint_names, insect.num_betas))  # fmt: skip


def test_stored_parameters_hit_the_stored_keypoints(source, insect):
    errors = ground_truth_errors(source, insect)
    assert errors.num_samples == 6
    assert errors.max_px < 0.01
    assert errors.max_relative_3d < 1e-5


def test_camera_centric_parameters_hit_their_keypoints(source, insect):
    single = SingleViewSource(source.file, 64, source.rules, frame_convention="camera_centric")
    errors = ground_truth_errors(single, insect)
    assert errors.num_samples == 18
    assert errors.max_px < 0.01
    assert errors.max_relative_3d < 1e-5


def test_a_wrong_parameter_is_found_and_its_sample_named(truth_file, insect):
    with h5py.File(truth_file, "a") as file:
        file["parameters/joint_rot"][3, 4] += 0.8
    file = MultiViewFile(truth_file)
    rules = LabelRules.between("x", file.joint_names, file.num_joints, insect.joint_names, insect.num_betas)
    errors = ground_truth_errors(MultiViewSource(file, 64, rules), insect)
    assert errors.max_px > 0.5
    assert errors.max_relative_3d > 1e-3
    assert errors.worst_2d == errors.worst_3d == f"{truth_file}[3]"


def test_the_self_test_needs_parameters(source, insect):
    source.rules = replace(source.rules, available=frozenset({"keypoint_2d"}))
    with pytest.raises(InputError, match="no sample has root and joint rotations, betas and translation"):
        ground_truth_errors(source, insect)


def test_statistics_are_those_of_the_samples(source):
    samples = [source.labels(i) for i in range(6)]
    found = dataset_statistics(source)
    focal = np.concatenate([s.K[:, 1, 1] for s in samples])
    assert found.fov_y_deg == pytest.approx(np.median(2 * np.degrees(np.arctan(32 / focal))), rel=1e-5)
    centres = [Rotation.from_matrix(s.cam_from_world[v, :3, :3]).inv().apply(-s.cam_from_world[v, :3, 3])
               - s.keypoints_world.mean(0) for s in samples for v in range(3)]  # fmt: skip
    assert found.camera_distance == pytest.approx(np.median(np.linalg.norm(centres, axis=1)), rel=1e-5)
    np.testing.assert_allclose(found.betas, np.mean([s.betas for s in samples], 0), rtol=1e-5)
    np.testing.assert_allclose(found.translation, np.median([s.translation for s in samples], 0), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.det(found.rotations), 1, atol=1e-6)
    assert found.rig_scale > 1
    assert 0.5 < found.body_extent < 5


def test_the_constant_answer_has_the_smallest_squared_error(source):
    samples = [source.labels(i) for i in range(6)]
    answer = constant_answer(source)
    np.testing.assert_allclose(answer.keypoints_world, np.mean([s.keypoints_world for s in samples], 0), atol=1e-6)
    pixels = answer.keypoints_px(np.array([0, 1, 2]), 64)
    np.testing.assert_allclose(pixels, np.mean([s.keypoints_px for s in samples], 0), atol=1e-3)


def test_joints_without_labels_have_no_constant_answer(source):
    ignored = np.zeros_like(source.rules.ignored)
    ignored[2] = True
    source.rules = replace(source.rules, ignored=ignored)
    answer = constant_answer(source)
    assert np.isnan(answer.keypoints_world[2]).all()
    assert np.isnan(answer.keypoints_01[:, 2]).all()
    assert np.isfinite(answer.keypoints_world[0]).all()


def test_a_description_tells_sizes_names_and_available_labels(truth_file, insect):
    found = describe(truth_file)
    assert (found["kind"], found["layout"], found["samples"]) == ("multi-view", "version 2", 6)
    assert found["sessions"] == {"session0": 2, "session1": 2, "session2": 2}
    assert found["cameras"] == dict.fromkeys(CAMERAS, 6)
    assert found["joint_names"] == list(insect.joint_names)
    assert found["labels"]["betas"] == found["labels"]["keypoint_2d"] == 1.0
    assert found["world_scale_m"] is None


def test_an_overlay_shows_all_views_with_their_labels(truth_file, insect):
    plain = overlay(truth_file, 0, resolution=128)
    bones = overlay(truth_file, 0, insect.parents.tolist(), resolution=128)
    assert plain.shape == bones.shape
    assert plain.shape[0] > 256, "three views on two rows"
    assert (plain != bones).any()


def test_other_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.arange(3)
    with pytest.raises(InputError, match=r"other\.h5: neither multiview_images nor images"):
        describe(tmp_path / "other.h5")
    with pytest.raises(InputError, match="a folder; training reads HDF5 files"):
        describe(tmp_path)
