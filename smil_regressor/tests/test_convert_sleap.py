"""SLEAP/Anipose sessions, written here in both public layouts, become samples of the cameras and points they show."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import sleap_io

from posecore.bodymodel import BodyModel
from posecore.data.video import iter_frames
from posecore.errors import InputError
from smil_regressor.calibration import RigCamera, read_calibration, write_calibration
from smil_regressor.data.converters.convert import convert_sleap
from smil_regressor.data.converters.notes import Notes
from smil_regressor.data.converters.session import camera_names, find_sessions, open_session
from smil_regressor.data.converters.session_rig import check_session, refine_session, triangulate_session
from smil_regressor.data.converters.session_view import SleapOptions
from smil_regressor.data.converters.sleap import find_outliers, first_view_frame, iter_sleap
from smil_regressor.data.converters.tracks import read_points3d, read_tracks
from smil_regressor.data.converters.views import View
from smil_regressor.data.insect import insect_body
from smil_regressor.data.sample import Sample

SIZE = (160, 128)
FRAMES = 6
NODES = ("nose", "neck", "tail", "left", "right", "belly")
OPTIONS = SleapOptions(resolution=96)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return insect_body("simple")


def rig() -> list[RigCamera]:
    """Three cameras at 200 mm, distorted, principal points off the middle."""
    cameras = []
    for index, name in enumerate(("back", "mid", "top")):
        azimuth = 2.1 * index
        centre = 200 * np.array([np.cos(azimuth), np.sin(azimuth), 0.8])
        forward = -centre / np.linalg.norm(centre)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        cam_from_world = np.eye(4)
        cam_from_world[:3, :3] = np.stack([right, np.cross(forward, right), forward])
        cam_from_world[:3, 3] = -cam_from_world[:3, :3] @ centre
        K = np.array([[220.0 + 10 * index, 0, 77.0], [0, 222.0, 66.0], [0, 0, 1]])
        cameras.append(RigCamera(name, SIZE, K, np.array([-0.2, 0.05, 0.001, 0.0, 0.0]), cam_from_world))
    return cameras


def points_world(frames: int = FRAMES) -> np.ndarray:
    rng = np.random.default_rng(4)
    return rng.uniform(-35, 35, (1, len(NODES), 3)) + np.arange(frames)[:, None, None] * np.array([1.5, -1.0, 0.5])


def recorded(camera: RigCamera, points: np.ndarray) -> np.ndarray:
    rvec = cv2.Rodrigues(camera.cam_from_world[:3, :3])[0]
    flat = points.reshape(-1, 3)
    pixels = cv2.projectPoints(flat, rvec, camera.cam_from_world[:3, 3], camera.K, camera.distortion)[0]
    return np.asarray(pixels.reshape(*points.shape[:-1], 2))


def write_video(path: Path, pixels: np.ndarray) -> None:
    """A white dot on the first node of each frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, SIZE)
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    for frame in pixels:
        dot = 255 * np.exp(-((columns - frame[0, 0]) ** 2 + (rows - frame[0, 1]) ** 2) / 18)
        writer.write(np.repeat(dot[..., None], 3, axis=2).astype(np.uint8))
    writer.release()


def write_slp(path: Path, tracks: dict[str, np.ndarray], score: float = 0.9) -> None:
    """Predicted instances of each track (f k 2), NaN = not labelled, through SLEAP's own library."""
    skeleton = sleap_io.Skeleton(list(NODES))
    video = sleap_io.Video(filename="video.mp4", open_backend=False)
    objects = {name: sleap_io.Track(name) for name in tracks}
    frames = []
    for index in range(len(next(iter(tracks.values())))):
        instances = [
            sleap_io.PredictedInstance.from_numpy(
                points[index], skeleton=skeleton, point_scores=np.full(len(NODES), score), score=score, track=objects[n]
            )
            for n, points in tracks.items()
            if np.isfinite(points[index]).any()
        ]
        frames.append(sleap_io.LabeledFrame(video=video, frame_idx=index, instances=instances))
    labels = sleap_io.Labels(frames, videos=[video], skeletons=[skeleton], tracks=list(objects.values()))
    sleap_io.save_slp(labels, str(path), verbose=False)


def write_analysis(path: Path, points: np.ndarray, scores: np.ndarray | None = None) -> None:
    """points (f k 2), scores (f k)."""
    with h5py.File(path, "w") as file:
        file["tracks"] = points.transpose(2, 1, 0)[None]
        file["node_names"] = np.array(NODES, dtype="S")
        file["track_names"] = np.array(["animal"], dtype="S")
        if scores is not None:
            file["point_scores"] = scores.T[None]


def write_session(
    folder: Path, *, layout: str = "A", kind: str = "slp", calibrated: bool = True, world: bool = True
) -> np.ndarray:
    """Write a session; returns its 3D points (f k 3)."""
    points = points_world()
    data = folder if layout == "A" else folder / "run1"
    data.mkdir(parents=True)
    for camera in rig():
        pixels = recorded(camera, points)
        place = folder / camera.name if layout == "A" else folder
        place.mkdir(exist_ok=True)
        stem = camera.name if layout == "A" else f"clip_cam{camera.name}"
        write_video(place / f"{stem}.mp4", pixels)
        if layout == "B":
            write_analysis(data / f"{stem}.h5", pixels)
        elif kind == "slp":
            write_slp(place / f"{stem}.predictions.slp", {"animal": pixels})
        else:
            write_analysis(place / f"{stem}.analysis.h5", pixels, np.full(pixels.shape[:2], 0.8))
    if calibrated:
        write_calibration(rig(), folder / "calibration.toml")
    if world:
        with h5py.File(data / "points3d.h5", "w") as file:
            file["tracks"] = points[:, None]
    return points


def read(folder: Path, options: SleapOptions = OPTIONS, notes: Notes | None = None) -> list[Sample]:
    session = open_session(folder)
    return list(iter_sleap(session, camera_names([session]), NODES, 5, options, notes=notes))


def reprojected(sample: Sample, view: int) -> np.ndarray:
    points = sample.keypoints_world @ sample.cam_from_world[view, :3, :3].T + sample.cam_from_world[view, :3, 3]
    pixels = points @ sample.K[view].T
    return np.asarray(pixels[:, :2] / pixels[:, 2:])


@pytest.mark.parametrize(("layout", "kind"), [("A", "slp"), ("A", "h5"), ("B", "h5")])
@pytest.mark.parametrize("crop", ["default", "centred", "bbox_crop"])
def test_3d_points_through_the_cameras_give_the_2d_labels(tmp_path: Path, layout, kind, crop) -> None:
    points = write_session(tmp_path / "s1", layout=layout, kind=kind)
    samples = read(tmp_path / "s1", replace(OPTIONS, crop=crop))
    assert [sample.frame for sample in samples] == list(range(FRAMES))
    for sample in samples:
        assert sample.camera_slots.tolist() == [0, 1, 2]
        assert sample.has_camera.all()
        np.testing.assert_allclose(sample.cam_from_world[0], np.eye(4), atol=1e-6)
        for view in range(3):
            seen = sample.visibility[view] > 0
            assert seen.sum() >= 2
            np.testing.assert_allclose(reprojected(sample, view)[seen], sample.keypoints_px[view][seen], atol=0.01)
        # moving the world's frame keeps distances
        first = np.linalg.norm(sample.keypoints_world - sample.keypoints_world[0], axis=1)
        truth = points[sample.frame]
        np.testing.assert_allclose(first, np.linalg.norm(truth - truth[0], axis=1), rtol=1e-5)


def test_the_dot_in_the_undistorted_crop_is_where_its_keypoint_is(tmp_path: Path) -> None:
    write_session(tmp_path / "s1")
    for sample in read(tmp_path / "s1", replace(OPTIONS, resolution=160, min_views=1))[::3]:
        for view in np.flatnonzero(sample.visibility[:, 0] > 0):
            grey = sample.images[view].astype(float).mean(-1)
            grey[grey < 40] = 0
            rows, columns = np.mgrid[:160, :160]
            centre = np.array([(grey * columns).sum(), (grey * rows).sum()]) / grey.sum()
            np.testing.assert_allclose(centre, sample.keypoints_px[view, 0], atol=0.3)  # video coding


def test_without_calibration_there_are_labels_but_no_cameras(tmp_path: Path) -> None:
    write_session(tmp_path / "s1", calibrated=False, world=False)
    notes = Notes()
    samples = read(tmp_path / "s1", notes=notes)
    assert len(samples) == FRAMES
    assert not any(sample.has_camera.any() or sample.has_keypoints_world.any() for sample in samples)
    assert all((sample.visibility > 0).any() for sample in samples)
    assert "camera back is not in a calibration.toml: 2D supervision only" in notes.warnings[0]


def test_frame_skip_and_max_frames_count_frames_of_the_video(tmp_path: Path) -> None:
    write_session(tmp_path / "s1")
    assert [s.frame for s in read(tmp_path / "s1", replace(OPTIONS, frame_skip=2))] == [0, 2, 4]
    assert [s.frame for s in read(tmp_path / "s1", replace(OPTIONS, frame_skip=2, max_frames=2))] == [0, 2]


def test_points_below_the_confidence_threshold_are_hidden_and_the_rest_keep_their_confidence(tmp_path: Path) -> None:
    write_session(tmp_path / "s1", kind="h5")
    shown = read(tmp_path / "s1")[0].visibility
    assert shown[shown > 0] == pytest.approx(0.8)
    notes = Notes()
    assert not read(tmp_path / "s1", replace(OPTIONS, confidence_threshold=0.85), notes)
    assert notes.dropped["frame with fewer than 2 usable views"] == FRAMES


def test_views_without_labels_are_empty_slots_and_frames_with_too_few_views_are_counted(tmp_path: Path) -> None:
    write_session(tmp_path / "s1")
    pixels = recorded(rig()[0], points_world())
    pixels[2:] = np.nan
    pixels[:2, 0] = np.nan
    write_slp(tmp_path / "s1" / "back" / "back.predictions.slp", {"animal": pixels})
    samples = read(tmp_path / "s1")
    assert [sample.view_mask.tolist() for sample in samples] == [[True] * 3] * 2 + [[False, True, True]] * 4
    assert samples[0].visibility[0, 0] == 0
    assert samples[2].camera_slots.tolist() == [-1, 1, 2]
    np.testing.assert_allclose(samples[2].cam_from_world[1], np.eye(4), atol=1e-6)  # first view that is there
    notes = Notes()
    assert len(read(tmp_path / "s1", replace(OPTIONS, min_views=3), notes)) == 2
    assert notes.dropped["frame with fewer than 3 usable views"] == 4


def test_of_several_tracks_one_must_be_chosen(tmp_path: Path) -> None:
    points = write_session(tmp_path / "s1")
    other = points + 5.0
    other[4:] = np.nan
    for camera in rig():
        both = {"ghost": recorded(camera, other), "animal": recorded(camera, points)}
        write_slp(tmp_path / "s1" / camera.name / f"{camera.name}.predictions.slp", both)
    with h5py.File(tmp_path / "s1" / "points3d.h5", "w") as file:
        file["tracks"] = np.stack([other, points], axis=1)
    with pytest.raises(InputError, match=r"2 tracks .'ghost' in 4 frames, 'animal' in 6 frames.; name one"):
        read(tmp_path / "s1")
    with pytest.raises(InputError, match="no track 'cat'; there are ghost, animal"):
        read(tmp_path / "s1", replace(OPTIONS, track="cat"))
    named, most = (read(tmp_path / "s1", replace(OPTIONS, track=track)) for track in ("animal", "most_seen"))
    assert len(named) == len(most) == FRAMES
    np.testing.assert_array_equal(named[1].keypoints_px, most[1].keypoints_px)
    for view in range(3):  # the track's own row of points3d.h5
        seen = named[1].visibility[view] > 0
        np.testing.assert_allclose(reprojected(named[1], view)[seen], named[1].keypoints_px[view][seen], atol=0.01)


def test_a_persons_correction_replaces_the_prediction(tmp_path: Path) -> None:
    write_session(tmp_path / "s1")
    path = tmp_path / "s1" / "back" / "back.predictions.slp"
    labels = sleap_io.load_slp(str(path), open_videos=False)
    predicted = labels[1].instances[0]
    fixed = predicted.numpy() + 3.0
    user = sleap_io.Instance.from_numpy(fixed, skeleton=labels.skeletons[0], track=predicted.track)
    user.from_predicted = predicted
    labels[1].instances.append(user)
    sleap_io.save_slp(labels, str(path), verbose=False)
    track = read_tracks(path).select(None)
    np.testing.assert_allclose(track.points_px[1], fixed, atol=1e-4)
    np.testing.assert_array_equal(track.scores[1], 1.0)
    assert track.scores[0, 0] == pytest.approx(0.9)


def test_reprojections_take_the_place_of_the_tracks(tmp_path: Path) -> None:
    points = write_session(tmp_path / "s1")
    with pytest.raises(InputError, match="no reprojections"):
        read(tmp_path / "s1", replace(OPTIONS, use_reprojections=True))
    with h5py.File(tmp_path / "s1" / "reprojections.h5", "w") as file:
        for camera in rig():
            file[camera.name] = recorded(camera, points)[1:, None] + 2.0
        file["frames"] = [1, FRAMES]
    plain, moved = read(tmp_path / "s1"), read(tmp_path / "s1", replace(OPTIONS, use_reprojections=True))
    assert [sample.frame for sample in moved] == [1, 2, 3, 4, 5]  # rows start at frame 1
    seen = (plain[1].visibility > 0) & (moved[0].visibility > 0)
    shift = (moved[0].keypoints_px - plain[1].keypoints_px)[seen]
    np.testing.assert_allclose(shift.mean(0), 2.0 * 96 / np.array(SIZE), rtol=0.2)


def test_missing_3d_points_stay_missing_in_the_new_frame(tmp_path: Path) -> None:
    points = write_session(tmp_path / "s1")
    points[0, 1], points[0, 2] = np.nan, 0.0
    with h5py.File(tmp_path / "s1" / "points3d.h5", "w") as file:
        file["tracks"] = points[:, None]
    sample = read(tmp_path / "s1")[0]
    assert sample.has_keypoints_world.tolist() == [True, False, False, True, True, True]
    np.testing.assert_array_equal(sample.keypoints_world[[1, 2]], 0)
    assert not read(tmp_path / "s1", replace(OPTIONS, load_3d=False))[0].has_keypoints_world.any()


def test_the_first_view_frame_agrees_with_the_reference(reference) -> None:
    vectors = reference("preprocess")
    picture = np.zeros((4, 4, 3), np.uint8)
    views: list[View | None] = []
    for R, t, present in zip(vectors["canon_R_in"], vectors["canon_t_in"], vectors["canon_view_mask"], strict=True):
        camera = np.eye(4)
        camera[:3, :3], camera[:3, 3] = R, t
        views.append(View(picture, np.zeros((1, 2)), np.zeros(1), np.eye(3), camera) if present else None)
    points = vectors["canon_kp3d_in"].copy()
    points[(points == 0).all(1)] = np.nan
    moved, world = first_view_frame(views, points)
    np.testing.assert_allclose(np.nan_to_num(world), vectors["canon_kp3d"], atol=1e-5)
    for index in np.flatnonzero(vectors["canon_view_mask"]):
        view = moved[index]
        assert view is not None
        assert view.cam_from_world is not None
        np.testing.assert_allclose(view.cam_from_world[:3, :3], vectors["canon_R"][index], atol=1e-5)
        np.testing.assert_allclose(view.cam_from_world[:3, 3], vectors["canon_t"][index], atol=1e-5)


def test_the_outlier_rule_agrees_with_the_reference_and_finds_a_stray_joint(reference) -> None:
    vectors = reference("preprocess")
    points = np.where((vectors["kp3d_outlier_in"] == 0).all(1)[:, None], np.nan, vectors["kp3d_outlier_in"])
    np.testing.assert_array_equal(find_outliers(points), vectors["outlier_mask"])
    many = np.random.default_rng(0).normal(size=(40, 3))
    many[7] = 50.0
    assert np.flatnonzero(find_outliers(many)).tolist() == [7]
    assert not find_outliers(np.full((3, 3), np.nan)).any()


def copied_camera(folder: Path) -> None:
    cameras = rig()
    cameras[0] = replace(cameras[2], name="back")
    write_calibration(cameras, folder / "calibration.toml")


def test_a_wrong_camera_is_refused_by_name_and_reason_unless_it_is_left_out(tmp_path: Path, body) -> None:
    write_session(tmp_path / "all" / "s1")
    copied_camera(tmp_path / "all" / "s1")
    (tmp_path / "lookup.csv").write_text("model,data\nb_t,neck\nb_h,nose\nb_a_1,belly\n")
    output, lookup = tmp_path / "out.h5", tmp_path / "lookup.csv"

    def convert(**options) -> tuple[str, ...]:
        return convert_sleap(
            tmp_path / "all", output, body, OPTIONS, world_scale=0.001, joint_lookup=lookup, **options
        ).notes

    with pytest.raises(InputError) as caught:
        convert()
    assert "camera back: its parameters are identical to those of top" in str(caught.value)
    assert "--exclude-cameras back or --exclude-bad" in str(caught.value)
    assert not output.exists()
    for how in ({"exclude_cameras": ["back"]}, {"exclude_bad": True}):
        notes = convert(**how)
        with h5py.File(output) as file:
            assert json.loads(file["metadata"].attrs["canonical_camera_order"]) == ["mid", "top"]
            assert file["metadata"].attrs["world_scale"] == 0.001
            assert file["metadata"].attrs["num_samples"] == FRAMES
            assert file["multiview_keypoints/keypoints_2d"].shape == (FRAMES, 2, body.num_joints, 2)
    assert "identical to those of top" in notes[0]
    with pytest.raises(InputError, match="no camera front; there are back, mid, top"):
        convert(exclude_cameras=["front"])


def test_sessions_share_one_order_of_cameras_and_shards_split_them(tmp_path: Path, body) -> None:
    for name in ("s1", "s2"):
        write_session(tmp_path / "all" / name)
    (tmp_path / "all" / "s2" / "back").rename(tmp_path / "all" / "s2" / "side")
    (tmp_path / "lookup.csv").write_text("model,data\nb_t,neck\nb_h,nose\nb_a_1,belly\n")
    (tmp_path / "betas.csv").write_text("label,PC1,PC2,PC3,PC4,PC5\ns1,1,2,3,4,5\n")
    found = find_sessions(tmp_path / "all")
    assert camera_names(found) == ("back", "mid", "side", "top")
    files = []
    for part in range(2):
        files.append(tmp_path / f"{part}.h5")
        done = convert_sleap(
            tmp_path / "all",
            files[-1],
            body,
            OPTIONS,
            world_scale=None,
            joint_lookup=tmp_path / "lookup.csv",
            shape_betas=tmp_path / "betas.csv",
            shard=(part, 2),
        )
        assert done.num_samples == FRAMES
        assert any("no line with the label s2" in note for note in done.notes)
    with h5py.File(files[0]) as one, h5py.File(files[1]) as two:
        assert one["metadata"].attrs["canonical_camera_order"] == two["metadata"].attrs["canonical_camera_order"]
        np.testing.assert_allclose(one["parameters/betas"][0], [1, 2, 3, 4, 5])
        assert one["metadata"].attrs["world_frame"] == "first_view"
        assert one["auxiliary/has_ground_truth_betas"][0]
        assert not two["auxiliary/has_ground_truth_betas"][0]
        assert two["auxiliary/has_camera"][0].tolist() == [False, True, False, True]  # side is not calibrated


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,data\nb_T,nose\n", "model joint 'b_T' does not exist; did you mean 'b_t'?"),
        ("model,data\nb_t,nosee\n", "data joint 'nosee' does not exist; did you mean 'nose'?"),
        ("model,data\nb_t,nose\nb_h,nose\n", "data: nose is there twice"),
        ("a,b\n1,2\n", "the header is a,b; columns model,data are expected"),
        ("model,data\nb_t,\n", "no pair of joints in it"),
    ],
)
def test_a_wrong_joint_table_is_told(tmp_path: Path, body, text: str, message: str) -> None:
    write_session(tmp_path / "s1")
    (tmp_path / "lookup.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        convert_sleap(
            tmp_path / "s1",
            tmp_path / "out.h5",
            body,
            OPTIONS,
            world_scale=None,
            joint_lookup=tmp_path / "lookup.csv",
        )
    assert message in str(caught.value)


def test_files_that_are_damaged_or_do_not_fit_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no session in it"):
        find_sessions(tmp_path)
    write_session(tmp_path / "s1")
    write_session(tmp_path / "s2")
    with pytest.raises(InputError, match="this holds 2 sessions; name one of them"):
        open_session(tmp_path)
    slp = tmp_path / "s1" / "back" / "back.predictions.slp"
    slp.write_text("not a project")
    with pytest.raises(InputError, match=r"back.predictions.slp: not a SLEAP project"):
        read(tmp_path / "s1")
    (tmp_path / "s2" / "mid" / "mid.mp4").write_bytes(b"not a video")
    with pytest.raises(InputError, match=r"mid.mp4: not a readable video"):
        read(tmp_path / "s2")
    with h5py.File(tmp_path / "points3d.h5", "w") as file:
        file["tracks"] = np.zeros((4, 2))
    with pytest.raises(InputError, match=r"tracks: shape \(frames, tracks, nodes, 3\) is expected, found \(4, 2\)"):
        read_points3d(tmp_path / "points3d.h5")


def test_a_picture_of_another_size_than_the_calibrations_is_told(tmp_path: Path) -> None:
    write_session(tmp_path / "s1")
    cameras = rig()
    cameras[1] = replace(cameras[1], size_wh=(320, 256))
    write_calibration(cameras, tmp_path / "s1" / "calibration.toml")
    with pytest.raises(InputError, match=r"mid.mp4: 160x128 pixels, but the calibration of mid is for 320x256"):
        read(tmp_path / "s1")


def test_of_several_projects_the_proofread_one_is_taken(tmp_path: Path) -> None:
    write_session(tmp_path / "s1")
    folder = tmp_path / "s1" / "back"
    proofread = folder / "back.predictions.proofread.slp"
    proofread.write_bytes((folder / "back.predictions.slp").read_bytes())
    assert open_session(tmp_path / "s1").cameras[0].tracks == proofread
    (folder / "old.proofread.slp").write_bytes(b"")
    with pytest.raises(InputError, match=r"3 files \*.slp"):
        open_session(tmp_path / "s1")


def test_frames_come_in_order_and_a_video_that_is_too_short_is_told(tmp_path: Path) -> None:
    pixels = np.zeros((5, 1, 2))
    pixels[:, 0, 0] = [20, 50, 80, 110, 140]
    pixels[:, 0, 1] = 60
    write_video(tmp_path / "v.mp4", pixels)
    peaks = [int(image[60].mean(-1).argmax()) for image in iter_frames(tmp_path / "v.mp4", [0, 2, 3])]
    np.testing.assert_allclose(peaks, [20, 80, 110], atol=2)
    with pytest.raises(InputError, match="the video ends at frame 5; the labels ask for frame 7"):
        list(iter_frames(tmp_path / "v.mp4", [1, 7]))


def test_a_session_is_triangulated_from_its_tracks_into_a_file_that_is_read_again(tmp_path: Path) -> None:
    points = write_session(tmp_path / "s1", world=False)
    session = open_session(tmp_path / "s1")
    assert session.points3d is None
    done = triangulate_session(session, tmp_path / "s1" / "points3d.h5")
    assert done.share == 1
    np.testing.assert_allclose(read_points3d(done.path)[:, 0], points, atol=1e-3)
    assert all(camera.reprojection_px < 0.01 for camera in done.report.cameras)
    assert read(tmp_path / "s1")[0].has_keypoints_world.all()
    two = triangulate_session(session, tmp_path / "two.h5", exclude=["mid"])
    np.testing.assert_allclose(read_points3d(two.path)[:, 0], points, atol=1e-3)
    with pytest.raises(InputError, match="there is no camera front"):
        triangulate_session(session, tmp_path / "x.h5", exclude=["front"])
    with pytest.raises(InputError, match="fewer than two calibrated cameras are left"):
        triangulate_session(session, tmp_path / "x.h5", exclude=["mid", "top"])


def test_a_sessions_cameras_are_refined_into_a_new_calibration(tmp_path: Path) -> None:
    write_session(tmp_path / "s1")
    knocked = rig()
    moved = knocked[1].cam_from_world.copy()
    moved[:3, 3] += [1.0, -1.0, 2.0]
    knocked[1] = replace(knocked[1], cam_from_world=moved)
    write_calibration(knocked, tmp_path / "s1" / "calibration.toml")
    refined = refine_session(open_session(tmp_path / "s1"), tmp_path / "new.toml")
    assert refined.before_px.max() > 0.3
    assert refined.after_px.max() < 0.05
    assert [camera.name for camera in read_calibration(tmp_path / "new.toml")] == ["back", "mid", "top"]


def test_the_real_session_lies_on_the_animal_without_its_wrong_camera(real_data: Path) -> None:
    session = open_session(real_data / "multiview" / "sleap_anipose_minimal")
    report = check_session(session)
    assert report is not None
    assert report.bad_cameras == ("side",)
    nodes = read_tracks(session.cameras[0].tracks).node_names
    options = SleapOptions(resolution=224, crop="bbox_crop", confidence_threshold=0.2, max_frames=2)
    samples = list(iter_sleap(session, camera_names([session], ["side"]), nodes, 3, options))
    assert len(samples) == 2
    for sample in samples:
        for view in range(3):
            seen = (sample.visibility[view] > 0) & sample.has_keypoints_world
            errors = np.linalg.norm(reprojected(sample, view) - sample.keypoints_px[view], axis=1)[seen]
            native = errors * sample.native_size_wh[view].mean() / 224
            assert np.median(native) < 15  # the rig itself is 5 to 10 px off; the copied camera would be 92 px
            # a white mouse on dark bedding: the joints are on it
            column, row = np.round(sample.keypoints_px[view][seen]).astype(int).T
            assert sample.images[view][row, column].mean() > 1.3 * sample.images[view].mean()
