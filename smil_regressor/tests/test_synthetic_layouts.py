"""Synthetic replicAnt sets and SLEAP sessions, read back through the converters that read the real ones."""

import json

import h5py
import numpy as np
import pytest

from posecore.bodymodel import read_model
from posecore.data.images import encode_png
from posecore.data.video import iter_frames, video_length
from posecore.errors import InputError
from smil_regressor.calibration import read_calibration, write_calibration
from smil_regressor.data.converters.convert import convert_replicant, convert_sleap
from smil_regressor.data.converters.replicant import iter_replicant
from smil_regressor.data.converters.session import find_sessions, open_session
from smil_regressor.data.converters.session_rig import check_session
from smil_regressor.data.converters.session_view import SleapOptions
from smil_regressor.data.converters.sleap import iter_sleap
from smil_regressor.data.converters.tracks import read_points3d, read_reprojections, read_tracks
from smil_regressor.data.ground_truth import ground_truth_errors
from smil_regressor.data.insect import insect_body
from smil_regressor.data.multiview_file import MultiViewFile
from smil_regressor.data.singleview_file import SingleViewFile
from smil_regressor.data.source import LabelRules, MultiViewSource, SingleViewSource
from smil_regressor.data.synthesis import synthesise_layout
from smil_regressor.data.synthetic import Difficulty, render_frames

SCENES = {"samples": 4, "views": 2, "resolution": 48, "seed": 7, "frames_per_session": 3}
RULES = LabelRules(order=None, ignored=np.zeros(19, bool), num_betas=5)
LENSES = Difficulty(distortion=0.5)


@pytest.fixture(scope="module")
def body():
    return insect_body("simple")


@pytest.fixture(scope="module")
def frames(body):
    """What the sleap layout is made of."""
    return list(render_frames(body, **SCENES))


@pytest.fixture(scope="module")
def unreal_frames(body):
    return list(render_frames(body, **SCENES, ideal_lenses=True))


@pytest.fixture(scope="module", params=[1, 2], ids=["one_camera", "two_cameras"])
def replicant(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicant") / "ants"
    return synthesise_layout(folder, "replicant", **SCENES | {"views": request.param}), request.param


@pytest.fixture(scope="module")
def sleap(tmp_path_factory):
    return synthesise_layout(tmp_path_factory.mktemp("sleap") / "recordings", "sleap", **SCENES, difficulty=LENSES)


def test_a_replicant_set_gives_back_rotations_shape_points_and_cameras(replicant, body):
    folder, views = replicant
    scale = 10.0 if views == 1 else 1.0
    made = list(render_frames(body, **SCENES | {"views": views}, ideal_lenses=True))
    read = list(iter_replicant(folder, body, 48))
    assert [s.frame for s in read] == [0, 1, 2, 3]
    for sample, frame in zip(read, made, strict=True):
        np.testing.assert_allclose(sample.rotations[1:], frame.rotations[1:], atol=1e-4)
        np.testing.assert_allclose(sample.betas, frame.pose.betas, atol=1e-5)
        in_root = (frame.joints_world - frame.joints_world[0]) @ frame.rotations[0]
        np.testing.assert_allclose(sample.keypoints_world, scale * in_root, atol=1e-4)
        world_from_root = np.eye(4)
        world_from_root[:3, :3], world_from_root[:3, 3] = frame.rotations[0], frame.joints_world[0]
        cameras = frame.rig.cam_from_world @ world_from_root
        cameras[:, :3, 3] *= scale
        np.testing.assert_allclose(sample.cam_from_world, cameras, atol=1e-4)
        shrink = 48 / sample.native_size_wh
        seen = sample.visibility > 0
        assert seen.mean() > 0.5
        expected = (frame.keypoints_px + 0.5) * shrink[:, None] - 0.5
        np.testing.assert_allclose(sample.keypoints_px[seen], expected[seen], atol=1e-3)


def test_a_converted_replicant_set_passes_the_ground_truth_test(replicant, body, tmp_path):
    folder, views = replicant
    found = convert_replicant(folder, tmp_path / "ants.h5", body, resolution=48)
    assert found.num_samples == 4
    if views == 1:
        source, scale = SingleViewSource(SingleViewFile(found.path), 48, RULES), 10.0
    else:
        source, scale = MultiViewSource(MultiViewFile(found.path), 48, RULES), 1.0
    errors = ground_truth_errors(source, body, body_scale=scale)
    assert errors.num_samples == 4
    assert errors.max_px < 1e-3
    assert errors.max_relative_3d < 1e-5


def test_unreal_matrices_agree_with_each_other(replicant):
    folder, _ = replicant
    for path in sorted(folder.glob("ants_*.json")):
        camera = json.loads(path.read_text())["iterationData"]["camera"]
        rows = np.array([[camera["View Matrix"][f"{a}Plane"][b] for b in "xyzw"] for a in "xyzw"])
        place = np.array([camera["Location"][a] for a in "xyz"])
        np.testing.assert_allclose([*place, 1.0] @ rows, [0, 0, 0, 1], atol=1e-9)
        pitch, yaw = np.radians(camera["Rotation"]["pitch"]), np.radians(camera["Rotation"]["yaw"])
        forward = [np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)]
        np.testing.assert_allclose(rows[:3, 2], forward, atol=1e-9)
        # Unreal's C = X M + t from a left-handed world to x right, y up, z forward keeps the hand
        assert np.linalg.det(rows[:3, :3]) == pytest.approx(1.0)


def test_depth_pictures_show_the_surface_over_the_joints(tmp_path, body):
    folder = synthesise_layout(tmp_path / "ants", "replicant", **SCENES)
    plain, tested = (list(iter_replicant(folder, body, 48, depth_test=flag)) for flag in (False, True))
    shown, kept = (np.stack([s.visibility for s in samples]) > 0 for samples in (plain, tested))
    assert (kept <= shown).all()
    assert kept.sum() > 0.9 * shown.sum()
    nearest = encode_png(np.zeros((72, 84, 3), np.uint8))
    for path in folder.glob("*_Depth_*"):
        path.write_bytes(nearest)
    assert list(iter_replicant(folder, body, 48, depth_test=True, min_visible_keypoints=1)) == []


def test_a_missing_view_of_a_replicant_set_has_no_subject(tmp_path, body):
    scenes = SCENES | {"views": 3}
    folder = synthesise_layout(tmp_path / "ants", "replicant", **scenes, difficulty=Difficulty(missing_views=0.9))
    made = render_frames(body, **scenes, ideal_lenses=True, difficulty=Difficulty(missing_views=0.9))
    masks = np.stack([frame.view_mask for frame in made])
    assert not masks.all()
    np.testing.assert_array_equal(np.stack([s.view_mask for s in iter_replicant(folder, body, 48)]), masks)


def test_sessions_give_back_points_and_labels_after_undistortion(sleap, frames, body):
    made = iter(frames)
    for session in find_sessions(sleap):
        for sample in iter_sleap(session, ("cam0", "cam1"), body.joint_names, 5, SleapOptions(48)):
            frame = next(made)
            assert (sample.session, sample.frame) == (frame.session, frame.number)
            first = frame.rig.cam_from_world[0]
            expected = frame.joints_world @ first[:3, :3].T + first[:3, 3]
            np.testing.assert_allclose(sample.keypoints_world, expected, atol=1e-4)
            shrink = 48 / sample.native_size_wh
            seen = sample.visibility > 0
            np.testing.assert_array_equal(seen, frame.visible)
            truth = (frame.keypoints_px + 0.5) * shrink[:, None] - 0.5
            np.testing.assert_allclose(sample.keypoints_px[seen], truth[seen], atol=0.05)
            np.testing.assert_allclose(
                sample.cam_from_world[1], frame.rig.cam_from_world[1] @ np.linalg.inv(first), atol=1e-4
            )
    assert next(made, None) is None


def test_recorded_pictures_are_bent_and_undistortion_straightens_them(sleap, frames):
    session = open_session(sleap / "synthetic_0000")
    plain, bent = [], []
    for v, files in enumerate(session.cameras):
        camera = session.rig_camera(files.name)
        assert camera.distortion[0] < -0.3
        recorded = read_tracks(files.tracks).points_px[0, 0]
        bent.append(np.nanmax(np.linalg.norm(recorded - frames[0].keypoints_px[v], axis=-1)))
        plain.append(np.nanmax(np.linalg.norm(camera.undistort_points(recorded) - frames[0].keypoints_px[v], axis=-1)))
    assert max(plain) < 1e-3
    assert max(bent) > 0.5


def test_a_straightened_frame_shows_the_picture_that_was_rendered(sleap, frames):
    from smil_regressor.calibration import undistort_image

    session = open_session(sleap / "synthetic_0000")
    for v, files in enumerate(session.cameras):
        image = next(iter_frames(files.video, [0]))
        straight = undistort_image(image, session.rig_camera(files.name).undistortion_maps()).astype(float)
        inner = (slice(8, -8), slice(8, -8))
        error = np.abs(straight - frames[0].images[v])[inner].mean()
        assert error < 6, "video coding and two interpolations cost a few grey levels"
        assert error < 0.7 * np.abs(np.roll(straight, 2, axis=1) - frames[0].images[v])[inner].mean()


def test_videos_have_one_frame_for_each_sample(sleap):
    lengths = {s.name: [video_length(c.video) for c in s.cameras] for s in find_sessions(sleap)}
    assert lengths == {"synthetic_0000": [3, 3], "synthetic_0001": [1, 1]}


def test_project_analysis_file_and_reprojections_hold_the_same_points(sleap):
    session = open_session(sleap / "synthetic_0000")
    for files in session.cameras:
        project = read_tracks(files.tracks)
        analysis = read_tracks(files.tracks.with_name(f"{files.name}.analysis.h5"))
        assert project.node_names == analysis.node_names
        assert project.track_names == analysis.track_names == ("animal",)
        np.testing.assert_allclose(project.points_px, analysis.points_px, atol=1e-9)
        np.testing.assert_array_equal(project.scores, analysis.scores)
        known = np.isfinite(project.points_px)
        exact = read_reprojections(session.reprojections, files.name)
        np.testing.assert_allclose(project.points_px[known], exact[known], atol=1e-6)


def test_the_rig_is_clean_and_a_duplicated_camera_is_found(tmp_path):
    scenes = {"samples": 3, "views": 3, "resolution": 48, "seed": 2, "frames_per_session": 3}
    folder = synthesise_layout(tmp_path / "recordings", "sleap", **scenes, difficulty=LENSES) / "synthetic_0000"
    report = check_session(open_session(folder))
    assert report.bad_cameras == ()
    assert max(camera.leave_one_out_px for camera in report.cameras) < 0.01
    cameras = read_calibration(folder / "calibration.toml")
    wrong = [cameras[0], cameras[1], type(cameras[0])("cam2", *list(vars(cameras[0]).values())[1:])]
    write_calibration(wrong, folder / "calibration.toml")
    assert "cam2" in check_session(open_session(folder)).bad_cameras


def test_noise_and_missing_labels_reach_the_tracks_but_not_the_3d_points(tmp_path, frames):
    hard = Difficulty(keypoint_noise_px=1.0, missing_joints=0.3, missing_views=0.0)
    folder = synthesise_layout(tmp_path / "recordings", "sleap", **SCENES, difficulty=hard)
    session = open_session(folder / "synthetic_0000")
    points = np.stack([read_tracks(files.tracks).points_px[:, 0] for files in session.cameras], axis=1)
    known = np.isfinite(points).all(-1)
    clean = np.stack([frame.keypoints_px for frame in frames[:3]])
    assert known.mean() == pytest.approx(0.7, abs=0.12)
    assert np.sqrt(((points - clean)[known] ** 2).mean()) == pytest.approx(1.0, rel=0.25)
    np.testing.assert_allclose(read_points3d(session.points3d)[0, 0], frames[0].joints_world, atol=1e-9)


def test_converted_sessions_pass_on_labels_and_points(sleap, body, tmp_path):
    found = convert_sleap(sleap, tmp_path / "s.h5", body, SleapOptions(48), world_scale=None)
    assert (found.num_samples, found.notes) == (4, ())


def test_a_body_model_file_is_named_by_its_checksum_and_gives_the_same_data(tmp_path):
    made = synthesise_layout(tmp_path / "a.h5", "multiview", **SCENES, write_model=tmp_path / "models" / "insect.pkl")
    assert read_model(tmp_path / "models" / "insect.pkl").num_joints == 19
    again = synthesise_layout(tmp_path / "b.h5", "multiview", **SCENES, smal_file=tmp_path / "models" / "insect.pkl")
    with h5py.File(made) as one, h5py.File(again) as other:
        assert "smal_sha256" not in one["metadata"].attrs
        assert len(other["metadata"].attrs["smal_sha256"]) == 64
        np.testing.assert_allclose(one["parameters/joint_rot"], other["parameters/joint_rot"], atol=1e-6)


def test_options_that_a_layout_cannot_hold_are_refused(tmp_path):
    with pytest.raises(InputError, match="only the format sleap keeps distorted pictures; multiview needs 0"):
        synthesise_layout(tmp_path / "a.h5", "multiview", **SCENES, difficulty=LENSES)
    with pytest.raises(InputError, match="labels come from a renderer"):
        synthesise_layout(tmp_path / "a", "replicant", **SCENES, difficulty=Difficulty(missing_joints=0.1))
    with pytest.raises(InputError, match="names another body"):
        synthesise_layout(tmp_path / "a.h5", "multiview", **SCENES, smal_file=tmp_path, write_model=tmp_path)
    with pytest.raises(InputError, match="folds the corners"):
        synthesise_layout(tmp_path / "a", "sleap", **SCENES, difficulty=Difficulty(distortion=20.0))
    assert not any(tmp_path.iterdir()), "a refused set leaves something behind"


def test_a_folder_with_files_in_it_is_not_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        synthesise_layout(tmp_path, "sleap", **SCENES)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
