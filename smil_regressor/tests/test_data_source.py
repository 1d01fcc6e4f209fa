"""Sources: views, slots by name, order of joints, availability of labels, single views of multi-view files."""

import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from posecore.data.loader import make_loader
from posecore.data.sampler import GlobalBatchSampler
from posecore.errors import InputError
from smil_regressor.data.hdf5_multiview import MultiViewWriter
from smil_regressor.data.labels import ALL_LABELS, LabelRules, match_joints
from smil_regressor.data.multiview_file import MultiViewFile
from smil_regressor.data.sample import collate
from smil_regressor.data.source import MultiViewSource, SingleViewSource, camera_centric, canonical_camera_order

NAMES = ("b_t", "b_h", "l_1_fe_r", "l_1_fe_l", "an_1_r")
CAMERAS = ("left", "right", "top")


def write(path, samples, cameras=CAMERAS, names=NAMES):
    side = samples[0].images.shape[1]
    with MultiViewWriter(path, joint_names=names, num_betas=4, max_views=3, canonical_camera_order=cameras,
                         target_resolution=side) as writer:  # fmt: skip
        for sample in samples:
            writer.add(sample)
    return MultiViewFile(path)


@pytest.fixture
def file(tmp_path, make_sample):
    samples = [make_sample(seed=seed) for seed in range(4)]
    lonely = replace(samples[1], view_mask=np.array([False, True, False]), camera_slots=np.array([-1, 1, -1]))
    return write(tmp_path / "data.h5", [samples[0], lonely, *samples[2:]])


def rules(file, names=NAMES, ignored=(), available=ALL_LABELS, betas=4):
    return LabelRules.between("data.h5", file.joint_names, file.num_joints, names, betas, ignored, available)


def test_frames_with_too_few_views_are_left_out_and_counted(file):
    source = MultiViewSource(file, 32, rules(file), min_views=2)
    assert (len(source), source.left_out) == (3, 1)
    assert source.labels(1).key == f"{file.table.path}[2]"
    assert source.sessions == ["session0", "session2", "session0"]
    with pytest.raises(InputError, match="no sample has 4 views; lower min_views_per_sample"):
        MultiViewSource(file, 32, rules(file), min_views=4)


def test_samples_are_padded_to_equal_slots_and_stack(file):
    source = MultiViewSource(file, 32, rules(file))
    batch = collate([source.load(index, np.random.default_rng(0)) for index in range(4)])
    assert batch.images.shape == (4, 3, 32, 32, 3)
    np.testing.assert_array_equal(batch.view_mask[1], [True, False, False])
    np.testing.assert_array_equal(batch.camera_slots[1], [1, -1, -1])
    np.testing.assert_array_equal(batch.K[1, 1], np.eye(3))
    assert not batch.visibility[1, 1:].any()


def test_drawn_views_depend_on_the_generator_alone_and_all_come_up(file):
    source = MultiViewSource(file, 32, rules(file), num_views=2)
    drawn = [tuple(source.load(0, np.random.default_rng(seed)).camera_slots) for seed in range(20)]
    assert drawn == [tuple(source.load(0, np.random.default_rng(seed)).camera_slots) for seed in range(20)]
    assert set(drawn) == {(0, 1), (0, 2), (1, 2)}
    first, second = (source.load(0, np.random.default_rng(seed)).augment_seed for seed in (1, 2))
    assert first != second


def test_cameras_are_mapped_by_name(file):
    order = ("back", "top", "left", "right")
    found = MultiViewSource(file, 32, rules(file), camera_order=order).load(0, np.random.default_rng(0))
    np.testing.assert_array_equal(found.camera_slots, [2, 3, 1])
    padded = MultiViewSource(file, 32, rules(file), camera_order=order).load(1, np.random.default_rng(0))
    np.testing.assert_array_equal(padded.camera_slots, [3, -1, -1])


def test_an_unknown_camera_is_told_with_its_close_match(file):
    with pytest.raises(InputError, match=r"camera 'top' is not one of the network's .*; did you mean topp\?"):
        MultiViewSource(file, 32, rules(file), camera_order=("left", "right", "topp"))


def test_the_canonical_order_is_the_sorted_union_of_names(file, tmp_path, make_sample):
    other = write(tmp_path / "other.h5", [make_sample()], cameras=("top", "back", "left"))
    assert canonical_camera_order([file, other]) == ("back", "left", "right", "top")


def test_joints_come_in_the_order_of_the_model(file, make_sample):
    order = ("b_t", "an_1_r", "b_h", "l_1_fe_l", "l_1_fe_r")
    found, expected = MultiViewSource(file, 32, rules(file, order)).labels(0), make_sample(seed=0)
    picked = [NAMES.index(name) for name in order]
    np.testing.assert_allclose(found.keypoints_px, expected.keypoints_px[:, picked], atol=1e-4)
    np.testing.assert_allclose(found.rotations, expected.rotations[picked], atol=1e-5)
    np.testing.assert_allclose(found.log_scales, expected.log_scales[picked], atol=1e-6)
    np.testing.assert_allclose(found.keypoints_world, expected.keypoints_world[picked], atol=1e-6)


def test_other_joints_than_the_models_are_told_with_close_matches():
    with pytest.raises(InputError, match=r"joint 'l_1_fe_r' is not in the body model; did you mean l_1_fe_x"):
        match_joints("data.h5", NAMES, ("b_t", "b_h", "l_1_fe_x", "l_1_fe_l", "an_1_r"))
    with pytest.raises(InputError, match="joints w_1_l are missing"):
        match_joints("data.h5", NAMES, (*NAMES, "w_1_l"))
    with pytest.raises(InputError, match="5 joints, but the body model has 6"):
        LabelRules.between("data.h5", None, 5, [*NAMES, "w_1_l"], 4)


def test_ignored_joints_lose_their_labels(file):
    found = MultiViewSource(file, 32, rules(file, ignored=["b_h"])).labels(0)
    np.testing.assert_array_equal(found.visibility, np.tile([1, 0, 1, 1, 1], (3, 1)))
    np.testing.assert_array_equal(found.has_keypoints_world, [True, False, True, True, True])
    with pytest.raises(InputError, match=r"ignored_joints.ignored_joint_names: no joint 'b_hh'.*did you mean b_h"):
        rules(file, ignored=["b_hh"])


@pytest.mark.parametrize(
    ("label", "flag"),
    [("global_rot", "has_root_rotation"), ("joint_rot", "has_joint_rotations"), ("betas", "has_betas"),
     ("trans", "has_translation"), ("fov", "has_camera"), ("cam_rot", "has_camera"), ("cam_trans", "has_camera"),
     ("log_beta_scales", "has_log_scales"), ("betas_trans", "has_joint_offsets"), ("keypoint_2d", "visibility"),
     ("keypoint_3d", "has_keypoints_world"), ("silhouette", "has_mask")],
)  # fmt: skip
def test_an_unavailable_label_is_flagged_and_no_other(file, label, flag):
    full, without = (MultiViewSource(file, 32, rules(file, available=kept)).labels(0)
                     for kept in (ALL_LABELS, ALL_LABELS - {label}))  # fmt: skip
    assert np.any(getattr(full, flag))
    assert not np.any(getattr(without, flag))
    flags = {"visibility", *(name for name in vars(full) if name.startswith("has_"))} - {flag}
    assert all(np.array_equal(getattr(full, name), getattr(without, name)) for name in flags)


def test_betas_of_another_length_are_unavailable(file):
    found = MultiViewSource(file, 32, rules(file, betas=7)).labels(0)
    assert (found.betas.shape, found.has_betas) == ((7,), False)


def test_each_view_of_a_frame_can_be_a_sample(file):
    every, first = (SingleViewSource(file, 32, rules(file), expand_all_views=flag) for flag in (True, False))
    assert (len(every), len(first)) == (10, 4)
    found = every.load(5, np.random.default_rng(0))
    assert found.key == f"{file.table.path}[2][view 1]"
    np.testing.assert_array_equal(found.camera_slots, [1])
    np.testing.assert_allclose(found.images[0], file.read(2, np.array([1]), 32).images[0])
    assert first.labels(1).camera_slots.tolist() == [1]


def seen(sample):
    points = sample.keypoints_world @ sample.cam_from_world[0, :3, :3].T + sample.cam_from_world[0, :3, 3]
    pixels = points @ sample.K[0].T
    return pixels[:, :2] / pixels[:, 2:]


def test_camera_centric_samples_reproject_alike_and_have_the_fixed_camera(file):
    model, camera = (SingleViewSource(file, 32, rules(file), frame_convention=convention).labels(1)
                     for convention in ("model_centric", "camera_centric"))  # fmt: skip
    np.testing.assert_array_equal(camera.cam_from_world[0], np.diag([-1, -1, 1, 1]))
    np.testing.assert_allclose(seen(camera), seen(model), atol=1e-3)
    root_cam = [s.cam_from_world[0, :3, :3] @ s.rotations[0] for s in (model, camera)]
    np.testing.assert_allclose(root_cam[1], root_cam[0], atol=1e-5)
    place = [s.cam_from_world[0, :3, :3] @ s.translation + s.cam_from_world[0, :3, 3] for s in (model, camera)]
    np.testing.assert_allclose(place[1], place[0], atol=1e-5)


def test_camera_centric_points_agree_with_the_original(reference, make_sample):
    arrays = reference("preprocess")
    camera = np.eye(4)
    camera[:3, :3], camera[:3, 3] = arrays["single_R0"], arrays["single_t0"]
    points = arrays["canon_kp3d_in"]
    known = np.abs(points).max(1) > 0
    sample = make_sample(views=1, joints=len(points), cam_from_world=camera[None], keypoints_world=points,
                         has_keypoints_world=known)  # fmt: skip
    np.testing.assert_allclose(camera_centric(sample).keypoints_world, arrays["single_kp3d"], atol=1e-5)


def test_camera_centric_needs_a_calibrated_camera(make_sample):
    with pytest.raises(InputError, match=r"made\[0\]: no calibrated camera, .* use model_centric"):
        camera_centric(make_sample(views=1, has_camera=np.array([False])))


def test_labels_cost_no_pictures(file):
    found = MultiViewSource(file, 32, rules(file)).labels(0)
    assert found.images.shape == (3, 0, 0, 3)
    assert found.masks.shape == (3, 0, 0)


def test_masks_are_not_decoded_when_silhouettes_are_unavailable(file, monkeypatch):
    monkeypatch.setattr("smil_regressor.data.multiview_file.read_mask", None)
    source = MultiViewSource(file, 32, rules(file, available=ALL_LABELS - {"silhouette"}))
    assert not source.load(0, np.random.default_rng(0)).has_mask.any()


@pytest.mark.slow  # timing: alone on the machine it is 7 ms for six views of 512 px with masks
def test_loading_a_sample_costs_less_than_three_times_the_bare_decoding_of_its_pictures(tmp_path, make_sample):
    names, path = [f"j{i}" for i in range(55)], tmp_path / "large.h5"
    with MultiViewWriter(path, joint_names=names, num_betas=4, max_views=6, canonical_camera_order=tuple("abcdef"),
                         target_resolution=512) as writer:  # fmt: skip
        for seed in range(8):
            writer.add(make_sample(views=6, joints=55, resolution=512, seed=seed))
    file = MultiViewFile(path)
    source = MultiViewSource(file, 512, rules(file, names))
    encoded = [[file.table.row(f"multiview_images/{kind}_view_{view}", 0) for view in range(6)]
               for kind in ("image_jpeg", "mask_png")]  # fmt: skip

    def decode():
        for jpeg, png in zip(*encoded, strict=True):
            cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB), cv2.imdecode(png, cv2.IMREAD_UNCHANGED)

    ratios = []
    for repeat in range(24):
        start = time.perf_counter()
        source.load(repeat % 8, np.random.default_rng(0))
        loaded = time.perf_counter()
        decode()
        ratios.append((loaded - start) / (time.perf_counter() - loaded))
    assert np.median(ratios) < 3


def test_worker_processes_load_the_same_batches(file):
    source = MultiViewSource(file, 32, rules(file), num_views=2)
    source.load(0, np.random.default_rng(0))  # the file is open before the fork
    sampler = GlobalBatchSampler(4, 2, 3)
    epochs = []
    for workers in (0, 1):
        loader = make_loader(source, sampler, collate, workers=workers, seed=3)
        epochs.append(list(loader.epoch(0)))
        loader.close()
    for here, there in zip(*epochs, strict=True):
        assert here.key == there.key
        assert torch.equal(here.images, there.images)
        assert torch.equal(here.augment_seed, there.augment_seed)
