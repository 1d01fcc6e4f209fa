"""Synthetic scenes: labels that the body model reproduces, pictures worth learning from, and difficulties that bite."""

from dataclasses import fields

import cv2
import numpy as np
import pytest
import torch

from posecore.rendering import rasterize
from smil_regressor.data.ground_truth import ground_truth_errors
from smil_regressor.data.insect import insect_body
from smil_regressor.data.multiview_file import MultiViewFile
from smil_regressor.data.singleview_file import SingleViewFile
from smil_regressor.data.source import LabelRules, MultiViewSource, SingleViewSource
from smil_regressor.data.synthesis import UNREAL_SCALE, synthesise_layout
from smil_regressor.data.synthetic import Difficulty, synthesise

SCENES = {"samples": 4, "views": 2, "resolution": 48, "seed": 5, "frames_per_session": 2}
RULES = LabelRules(order=None, ignored=np.zeros(19, bool), num_betas=5)
FLOAT32_PX = 1e-3


@pytest.fixture(scope="module")
def body():
    return insect_body("simple")


@pytest.fixture(scope="module")
def samples(body):
    return list(synthesise(body, **SCENES, difficulty=Difficulty(distractors=0)))


@pytest.fixture(scope="module")
def multiview(tmp_path_factory):
    path = synthesise_layout(tmp_path_factory.mktemp("multi") / "insects.h5", "multiview", **SCENES)
    return MultiViewSource(MultiViewFile(path), 48, RULES)


@pytest.fixture(scope="module")
def singleview(tmp_path_factory):
    path = synthesise_layout(tmp_path_factory.mktemp("single") / "insects.h5", "singleview", **SCENES)
    return SingleViewSource(SingleViewFile(path), 48, RULES)


def silhouettes(sample, body, scale=1.0):
    """The body of the sample's parameters through its cameras, drawn at the recorded size and shrunk as masks are."""
    output = body(torch.from_numpy(sample.rotations)[None], torch.from_numpy(sample.betas)[None], torch.zeros(1, 3))
    vertices = scale * (output.vertices - output.joints[:, :1]) + torch.from_numpy(sample.translation)
    cameras = torch.from_numpy(sample.cam_from_world)
    vertices_cam = vertices @ cameras[:, :3, :3].mT + cameras[:, None, :3, 3]
    side = sample.images.shape[1]
    width, height = sample.native_size_wh[0].astype(int)
    grow = torch.tensor([width / side, height / side, 1.0], dtype=torch.float32)
    K = torch.from_numpy(sample.K) * grow[:, None]
    K[:, :2, 2] += 0.5 * (grow[:2] - 1)
    drawn = rasterize(vertices_cam, body.faces.long(), K, (int(height), int(width))).face_ids >= 0
    small = [cv2.resize(d.numpy().astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) for d in drawn]
    return np.stack(small) > 0.5


def test_labels_are_those_of_the_parameters_through_the_cameras(multiview, body):
    errors = ground_truth_errors(multiview, body)
    assert errors.num_samples == 4
    assert errors.max_px < FLOAT32_PX
    assert errors.max_relative_3d < 1e-5


def test_single_views_are_right_in_worlds_ten_times_the_model(singleview, body):
    errors = ground_truth_errors(singleview, body, body_scale=UNREAL_SCALE)
    assert errors.num_samples == 8
    assert errors.max_px < FLOAT32_PX
    assert errors.max_relative_3d < 1e-5


def test_views_of_one_session_stay_in_one_session(multiview, singleview):
    assert sorted(set(singleview.sessions)) == sorted(set(multiview.sessions)) == ["synthetic_0000", "synthetic_0001"]


def test_the_body_drawn_from_the_parameters_covers_the_masks(samples, body):
    for sample in samples:
        drawn = silhouettes(sample, body)
        assert (drawn & sample.masks).sum() / (drawn | sample.masks).sum() > 0.98


def test_the_files_hold_what_was_generated(multiview, body):
    for read, made in zip((multiview.labels(i) for i in range(4)), synthesise(body, **SCENES), strict=True):
        assert (read.session, read.frame) == (made.session, made.frame)
        for name in ("rotations", "betas", "translation", "K", "cam_from_world", "keypoints_world", "keypoints_px"):
            np.testing.assert_allclose(getattr(read, name), getattr(made, name), atol=1e-4, err_msg=name)
        np.testing.assert_array_equal(read.visibility, made.visibility)


def test_the_animal_is_in_every_picture_with_most_of_its_joints_in_sight(body):
    for sample in synthesise(body, samples=12, views=3, resolution=32, seed=0, frames_per_session=1):
        inside = ((sample.keypoints_px > -0.5) & (sample.keypoints_px < 31.5)).all(-1)
        assert inside.mean() > 0.9
        assert (sample.visibility > 0).mean() > 0.6
        assert (sample.masks.mean((1, 2)) > 0.01).all()
        assert (sample.images.std((1, 2, 3)) > 5).all(), "a blank picture"


def test_the_same_seed_gives_the_same_samples_however_many_are_asked_for(body, samples):
    fewer = synthesise(body, **SCENES | {"samples": 3}, difficulty=Difficulty(distractors=0))
    for one, other in zip(fewer, samples, strict=False):
        for field in fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


def test_another_seed_gives_other_poses_cameras_and_pictures(body, samples):
    other = next(synthesise(body, **SCENES | {"seed": 6}, difficulty=Difficulty(distractors=0)))
    for name in ("rotations", "cam_from_world", "images"):
        assert not np.array_equal(getattr(other, name), getattr(samples[0], name))


def test_frames_of_a_session_share_their_rig_and_sessions_do_not(samples):
    np.testing.assert_array_equal(samples[0].cam_from_world, samples[1].cam_from_world)
    assert not np.array_equal(samples[0].cam_from_world, samples[2].cam_from_world)
    assert not np.array_equal(samples[0].rotations, samples[1].rotations)


MANY = {"samples": 8, "views": 3, "resolution": 32, "seed": 1, "frames_per_session": 8}


@pytest.fixture(scope="module")
def exact(body):
    return list(synthesise(body, **MANY))


def moved_px(hard, exact):
    """Distances between labels of the same scenes, in rendered pixels."""
    scale = exact.native_size_wh[:, None] / exact.images.shape[1]
    return np.linalg.norm((hard.keypoints_px - exact.keypoints_px) * scale, axis=-1)


def test_noise_has_the_deviation_that_was_asked_for_and_leaves_3d_exact(body, exact):
    hard = list(synthesise(body, **MANY, difficulty=Difficulty(keypoint_noise_px=2.0)))
    distances = np.concatenate([moved_px(h, e).ravel() for h, e in zip(hard, exact, strict=True)])
    assert np.sqrt((distances**2).mean() / 2) == pytest.approx(2.0, rel=0.1)
    np.testing.assert_array_equal(hard[0].keypoints_world, exact[0].keypoints_world)


def test_outliers_are_as_frequent_as_asked_for_and_all_else_stays(body, exact):
    hard = synthesise(body, **MANY, difficulty=Difficulty(outliers=0.2))
    distances = np.concatenate([moved_px(h, e).ravel() for h, e in zip(hard, exact, strict=True)])
    assert (distances > 1e-3).mean() == pytest.approx(0.2, abs=0.05)


def test_missing_joints_lose_their_labels(body, exact):
    hard = synthesise(body, **MANY, difficulty=Difficulty(missing_joints=0.3))
    kept = sum(float(h.visibility.sum()) for h in hard) / sum(float(e.visibility.sum()) for e in exact)
    assert kept == pytest.approx(0.7, abs=0.07)


def test_missing_views_leave_at_least_two_and_hold_nothing(body):
    hard = list(synthesise(body, **MANY, difficulty=Difficulty(missing_views=0.9)))
    assert all(sample.view_mask.sum() >= 2 for sample in hard)
    assert sum(int(sample.view_mask.sum()) for sample in hard) < 20
    for sample in hard:
        gone = ~sample.view_mask
        assert not sample.images[gone].any()
        assert not sample.visibility[gone].any()
        assert not sample.has_camera[gone].any()
        assert (sample.camera_slots[gone] == -1).all()


def test_headings_stay_in_their_range(body):
    calm = synthesise(body, **MANY, difficulty=Difficulty(yaw_range_deg=10.0))
    for sample in calm:
        ahead = sample.rotations[0, :, 0]
        assert abs(np.degrees(np.arctan2(ahead[1], ahead[0]))) < 25  # tilts of a few degrees come on top


@pytest.mark.parametrize("field", ["samples", "views", "resolution", "frames_per_session"])
def test_nothing_to_render_is_refused(body, field):
    with pytest.raises(ValueError, match="at least 1"):
        next(synthesise(body, **SCENES | {field: 0}))
