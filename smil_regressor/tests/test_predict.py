"""`smil predict` and the Predictor: every kind of input, and outputs that agree with each other."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from posecore.draw import write_picture
from posecore.errors import InputError
from posecore.training import load_checkpoint
from smil_regressor.assembly import Facts
from smil_regressor.calibration import RigCamera, write_calibration
from smil_regressor.data.files import open_file
from smil_regressor.data.hdf5_multiview import MultiViewWriter
from smil_regressor.data.insect import insect_body
from smil_regressor.data.sample import Sample
from smil_regressor.data.synthesis import synthesise_file
from smil_regressor.predict import Predictor, View

CAMERAS = ("cam0", "cam1")


@dataclass(frozen=True)
class Recording:
    """One frame of the data file as pictures, as videos of three equal frames, and as a session, with its cameras."""

    folder: Path
    sample: Sample

    @property
    def pictures(self) -> list[Path]:
        return [self.folder / f"{name}.png" for name in CAMERAS]

    @property
    def videos(self) -> list[Path]:
        return [self.folder / "session" / name / f"{name}.mp4" for name in CAMERAS]

    @property
    def session(self) -> Path:
        return self.folder / "session"

    @property
    def calibration(self) -> Path:
        return self.session / "calibration.toml"


def write_video(path: Path, picture: np.ndarray, frames: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, picture.shape[1::-1])
    for _ in range(frames):
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
    writer.release()


@pytest.fixture(scope="module")
def recording(tmp_path_factory, insects_file) -> Recording:
    folder = tmp_path_factory.mktemp("recording")
    sample = open_file(insects_file).read(0, np.arange(2), 64, pictures=True)
    made = Recording(folder, sample)
    rig = []
    for v, name in enumerate(CAMERAS):
        write_picture(made.pictures[v], sample.images[v])
        write_video(made.videos[v], sample.images[v], 3)
        made.videos[v].with_suffix(".analysis.h5").write_bytes(b"")
        K, camera = sample.K[v].astype(float), sample.cam_from_world[v].astype(float)
        rig.append(RigCamera(name, (64, 64), K, np.zeros(5), camera))
    write_calibration(rig, made.calibration)
    return made


def predicted(folder: Path) -> dict[str, dict]:
    files = [path for path in sorted(folder.glob("*.json")) if path.name != "cameras.json"]
    return {path.stem: json.loads(path.read_text()) for path in files}


def seen_by(view: dict, joints: np.ndarray) -> np.ndarray:
    camera = np.array(view["cam_from_world"])
    pixels = (joints @ camera[:3, :3].T + camera[:3, 3]) @ np.array(view["K"]).T
    return pixels[:, :2] / pixels[:, 2:]


@pytest.fixture(scope="module")
def from_data(run, smil, insects_file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("predictions")
    done = smil("predict", "--checkpoint", run, insects_file, "--output", folder, "--max-frames", 3, "--batch-size", 2)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["frames"] == 3
    return folder


def test_pixels_are_the_world_joints_in_the_given_cameras(from_data):
    frames = predicted(from_data)
    assert list(frames) == ["sample_000000", "sample_000001", "sample_000002"]
    for frame in frames.values():
        joints = np.array(frame["joints_world"])
        assert joints.shape == (len(frame["joint_names"]), 3)
        assert [view["camera"] for view in frame["views"]] == list(CAMERAS)
        for view in frame["views"]:
            assert all(view["in_front"])
            np.testing.assert_allclose(view["joints_px"], seen_by(view, joints), atol=1e-3)


def test_the_animation_holds_what_the_frames_hold(from_data):
    frames = predicted(from_data)
    with np.load(from_data / "animation.npz") as animation:
        np.testing.assert_array_equal(animation["frame_names"], list(frames))
        for name, key in (("poses", "axis_angles"), ("trans", "translation"), ("joints", "joints_world")):
            np.testing.assert_allclose(animation[name], [frame[key] for frame in frames.values()], atol=1e-6)
        assert animation["parents"][0] == -1
    cameras = json.loads((from_data / "cameras.json").read_text())["frames"]
    assert cameras["sample_000001"]["cam1"]["K"] == frames["sample_000001"]["views"][1]["K"]


def test_overlays_show_every_view_above_its_mesh(from_data):
    sheet = cv2.imread(str(from_data / "sample_000000_overlay.png"))
    height, width = sheet.shape[:2]
    assert height > 2 * 360
    assert 2 * 360 < width < 2 * 400


@pytest.mark.parametrize("suffix", ["obj", "ply", "glb"])
def test_meshes_load_back_with_every_vertex_where_it_was(suffix, run, smil, insects_file, insect, tmp_path):
    done = smil(
        "predict", "--checkpoint", run, insects_file, "--output", tmp_path, "--max-frames", 1, "--meshes", suffix
    )
    assert done.exit_code == 0, done.output
    mesh = trimesh.load(tmp_path / f"sample_000000.{suffix}", process=False, force="mesh")
    assert mesh.vertices.shape == (insect.num_vertices, 3)
    np.testing.assert_array_equal(mesh.faces, insect.faces.numpy())
    joints = np.array(predicted(tmp_path)["sample_000000"]["joints_world"])
    assert (joints > mesh.vertices.min(0) - 0.1).all()
    assert (joints < mesh.vertices.max(0) + 0.1).all()


def test_pictures_with_a_calibration_give_what_the_data_file_gives(run, smil, recording, from_data, tmp_path):
    done = smil("predict", "--checkpoint", run, *recording.pictures, "--output", tmp_path, "--cameras", "cam0,cam1",
                "--calibration", recording.calibration, "--meshes", "none")  # fmt: skip
    assert done.exit_code == 0, done.output
    (ours,) = predicted(tmp_path).values()
    theirs = predicted(from_data)["sample_000000"]
    for key in ("axis_angles", "translation", "betas", "joints_world"):
        np.testing.assert_allclose(ours[key], theirs[key], atol=1e-4)
    assert not list(tmp_path.glob("*.obj"))


def test_videos_and_the_session_they_lie_in_give_every_frame(run, smil, recording, tmp_path):
    words = ("--checkpoint", run, "--meshes", "none")
    calibrated = ("--calibration", recording.calibration)
    done = smil("predict", *recording.videos, *words, *calibrated, "--output", tmp_path / "videos")
    assert done.exit_code == 0, done.output
    frames = predicted(tmp_path / "videos")
    assert list(frames) == [f"frame_{i:06d}" for i in range(3)]
    assert all([view["camera"] for view in frame["views"]] == list(CAMERAS) for frame in frames.values())
    done = smil("predict", recording.session, *words, "--output", tmp_path / "session", "--every", 2)
    assert done.exit_code == 0, done.output
    assert list(predicted(tmp_path / "session")) == ["frame_000000", "frame_000002"]


@pytest.fixture(scope="module")
def first_view_run(insects_file, smil, tmp_path_factory) -> Path:
    """A run on samples whose world is the frame of their first view."""
    folder = tmp_path_factory.mktemp("first_view")
    file = open_file(insects_file)
    sizes = {"num_betas": file.num_betas, "max_views": 2, "target_resolution": 64}
    with MultiViewWriter(
        folder / "data.h5",
        joint_names=file.joint_names,
        canonical_camera_order=CAMERAS,
        world_frame="first_view",
        **sizes,
    ) as writer:
        for index in range(8):
            sample = file.read(index, np.arange(2), 64)
            first = sample.cam_from_world[0]
            writer.add(
                replace(
                    sample,
                    cam_from_world=sample.cam_from_world @ np.linalg.inv(first),
                    keypoints_world=sample.keypoints_world @ first[:3, :3].T + first[:3, 3],
                    has_root_rotation=False,
                    has_translation=False,
                )
            )
    settings = ("training.trackers=[]", "training.batch_size=4", "training.max_steps=2")
    words = [word for setting in settings for word in ("--set", setting)]
    done = smil(
        "train", "--config", "tiny.json", "--data-path", folder / "data.h5", "--run-dir", folder / "run", *words
    )
    assert done.exit_code == 0, done.output
    return folder / "run"


@pytest.mark.parametrize("kind", ["pictures", "videos", "session", "data"])
def test_cameras_are_moved_into_the_first_ones_frame_for_networks_trained_so_and_for_no_other(
    kind, run, first_view_run, smil, recording, insects_file, tmp_path
):
    calibrated = ("--calibration", recording.calibration)
    inputs = {
        "pictures": [
            *reversed(recording.pictures),
            "--cameras",
            "cam1,cam0",
            *calibrated,
        ],  # as the network orders them
        "videos": [*recording.videos, *calibrated],
        "session": [recording.session],
        "data": [insects_file],
    }[kind]
    given = recording.sample.cam_from_world[0]
    for checkpoint, camera in ((run, given), (first_view_run, np.eye(4))):
        output = tmp_path / str(len(list(tmp_path.iterdir())))
        words = ("--output", output, "--meshes", "none", "--max-frames", 1)
        done = smil("predict", "--checkpoint", checkpoint, *inputs, *words)
        assert done.exit_code == 0, done.output
        (frame,) = predicted(output).values()
        found = next(view["cam_from_world"] for view in frame["views"] if view["camera"] == "cam0")
        assert np.abs(found - camera).max() < 0.3 < np.abs(given - np.eye(4)).max()


def test_checkpoints_that_do_not_say_their_frame_have_one_world(run):
    facts = load_checkpoint(run, "smil").config["facts"]
    assert facts["world_frame"] == "world"
    old = {name: value for name, value in facts.items() if name not in ("world_frame", "shaped_sha256")}
    assert Facts.from_dict(old) == Facts.from_dict(facts)


def test_a_session_with_videos_of_unequal_length_is_refused(run, smil, recording, tmp_path):
    session = tmp_path / "session"
    shutil.copytree(recording.session, session)
    write_video(session / "cam1" / "cam1.mp4", recording.sample.images[1], 2)
    done = smil("predict", session, "--checkpoint", run, "--output", tmp_path / "out")
    assert done.exit_code == 2
    assert "need videos of equal length, not cam0.mp4 3, cam1.mp4 2 frames" in done.stderr


def test_a_picture_of_another_size_than_its_calibration_is_refused(run, smil, recording, tmp_path):
    half = recording.sample.images[0][::2]
    write_picture(tmp_path / "half.png", half)
    words = ("--cameras", "cam0,cam1", "--calibration", recording.calibration, "--output", tmp_path / "out")
    done = smil("predict", "--checkpoint", run, tmp_path / "half.png", recording.pictures[1], *words)
    assert done.exit_code == 2
    told = (
        "error: camera cam0: a picture of 64 x 32 pixels, but it was calibrated at 64 x 64; give pictures as recorded"
    )
    assert done.stderr.splitlines() == [told]


def test_pictures_without_a_calibration_are_separate_frames(free_run, smil, recording, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    (again / "cam0.png").write_bytes(recording.pictures[0].read_bytes())
    done = smil("predict", "--checkpoint", free_run, *recording.pictures, again, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    frames = predicted(tmp_path / "out")
    same = [f"{recording.folder.name}_cam0", "again_cam0"]
    assert sorted(frames) == sorted([*same, f"{recording.folder.name}_cam1"]), "equal names do not overwrite each other"
    np.testing.assert_allclose(*(frames[name]["joints_world"] for name in same), atol=1e-5)
    assert all(len(frame["views"]) == 1 for frame in frames.values())


def test_smoothing_keeps_bones_long_frames_consistent_and_sessions_apart(run, smil, tmp_path):
    data = synthesise_file(
        tmp_path / "data.h5", insect_body(), samples=6, views=2, resolution=64, seed=5, frames_per_session=3
    )
    words = ("predict", "--checkpoint", run, data, "--meshes", "none", "--output")
    assert smil(*words, tmp_path / "raw").exit_code == 0
    assert smil(*words, tmp_path / "smooth", "--smoothing", 3).exit_code == 0
    smooth = predicted(tmp_path / "smooth")
    betas = np.array([frame["betas"] for frame in smooth.values()])
    assert max(np.ptp(betas[:3], axis=0).max(), np.ptp(betas[3:], axis=0).max()) == 0 < np.ptp(betas, axis=0).max()
    for frame in smooth.values():
        for view in frame["views"]:
            np.testing.assert_allclose(view["joints_px"], seen_by(view, np.array(frame["joints_world"])), atol=1e-2)
    raw = np.array([frame["axis_angles"] for frame in predicted(tmp_path / "raw").values()])
    angles = np.array([frame["axis_angles"] for frame in smooth.values()])
    last_two = Rotation.from_rotvec(raw[1:3, 0]).mean()
    assert (last_two.inv() * Rotation.from_rotvec(angles[2, 0])).magnitude() < 1e-4, "frame 3 is of another session"


def test_an_even_window_cannot_be_centred(run, smil, insects_file, tmp_path):
    done = smil("predict", "--checkpoint", run, insects_file, "--output", tmp_path / "out", "--smoothing", 4)
    assert done.exit_code == 2
    assert "an odd number of frames is needed" in done.stderr


@pytest.fixture(scope="module")
def predictor(run) -> Predictor:
    return Predictor.load(run, device="cpu")


def views_of(recording, order=(0, 1)) -> list[View]:
    s = recording.sample
    return [View(s.images[v], CAMERAS[v], s.K[v], s.cam_from_world[v]) for v in order]


def test_a_moment_does_not_depend_on_those_predicted_with_it(predictor, recording):
    whole, one = views_of(recording), views_of(recording)[:1]
    alone = [predictor([moment]) for moment in (whole, one)]
    together = predictor([whole, one])
    assert together.view_mask.tolist() == [[True, True], [True, False]]
    for row in range(2):
        np.testing.assert_allclose(together.joints_world[row], alone[row].joints_world[0], atol=1e-5)


def test_named_views_may_come_in_any_order(predictor, recording):
    forward, backward = predictor([views_of(recording)]), predictor([views_of(recording, (1, 0))])
    np.testing.assert_allclose(forward.joints_world, backward.joints_world, atol=1e-4)
    np.testing.assert_allclose(forward.joints_px, backward.joints_px[:, ::-1], atol=1e-2)


def test_pixels_refer_to_pictures_as_they_were_given(predictor, recording):
    small = predictor([views_of(recording)])
    s = recording.sample
    scale = np.array([3.0, 2.0])
    large = []
    for v in range(2):
        K = s.K[v].astype(float)
        K[:2, :2] *= scale[:, None]
        K[:2, 2] = (K[:2, 2] + 0.5) * scale - 0.5
        image = cv2.resize(s.images[v], (192, 128), interpolation=cv2.INTER_NEAREST)
        large.append(View(image, CAMERAS[v], K, s.cam_from_world[v]))
    found = predictor([large])
    np.testing.assert_allclose(found.joints_world, small.joints_world, atol=1e-4)
    np.testing.assert_allclose(found.joints_px, (small.joints_px + 0.5) * scale - 0.5, atol=1e-2)


def test_a_network_that_refines_cameras_asks_for_them(predictor, recording):
    with pytest.raises(InputError, match="every view needs its calibration"):
        predictor([[View(recording.sample.images[0], "cam0")]])
    with pytest.raises(InputError, match="at least one view"):
        predictor([[]])
    with pytest.raises(InputError, match=r"'top' is not one of the network's: cam0, cam1"):
        predictor([[View(recording.sample.images[0], "top")]])
