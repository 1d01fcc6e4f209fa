"""Wrong configurations and damaged files through the command: one clear line each, exit code 2, no traceback."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from posecore.training import save_checkpoint
from smil_regressor.config import SmilConfig

TINY = json.loads((SmilConfig.presets / "tiny.json").read_text())


def refused(done) -> str:
    """The one line that was told."""
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


WRONG_CONFIGS = {
    "unknown key": ({"training.bach_size": 4}, ["training.bach_size: no such field", "did you mean", "batch_size"]),
    "wrong type": ({"training.batch_size": "many"}, ["training.batch_size", "integer", "many"]),
    "not a mode": ({"mode": "stereo"}, ["mode", "'singleview' or 'multiview'", "stereo"]),
    "negative rate": ({"optimizer.learning_rate": -1}, ["optimizer.learning_rate", "greater than 0", "-1"]),
    "ratios": ({"dataset.train_ratio": 0.9}, ["train_ratio", "add up to 1.1", "at most 1"]),
    "frame": ({"dataset.frame_convention": "camera_centric"}, ["frame_convention camera_centric needs"]),
    "loss term": ({"loss_curriculum.base_weights": {"keypoint3d": 1}}, ["base_weights", "keypoint3d", "keypoint_3d"]),
    "epoch": ({"optimizer.lr_schedule": {"soon": 0.1}}, ["optimizer.lr_schedule", "integer", "soon"]),
    "accumulation": ({"training.gradient_accumulation_steps": 3}, ["training.batch_size is 8", "multiple of", "3"]),
    "single view": ({"mode": "singleview"}, ["only in mode multiview, but mode is singleview"]),
    "no masks": (
        {"model.rgb_only": True, "loss_curriculum.base_weights": {"silhouette": 1}},
        ["model.rgb_only reads no masks"],
    ),
    "no datasets": ({"multi_dataset.enabled": True}, ["multi_dataset.datasets holds no enabled dataset"]),
    "views": ({"num_views_to_use": 1, "min_views_per_sample": 2}, ["num_views_to_use is 1", "min_views_per_sample 2"]),
    "kernel": ({"augmentation.gaussian_blur_kernel_range": [2, 4]}, ["gaussian_blur_kernel_range", "odd"]),
    "family": ({"smal_model.shape_family": 1}, ["smal_model.shape_family is 1", "smal_data_file"]),
    "missing data": (
        {"dataset.data_path": "nowhere.h5"},
        ["dataset.data_path", "nowhere.h5 does not exist", "looked in"],
    ),
    "missing model": ({"smal_model.smal_file": "ant.pkl"}, ["smal_model.smal_file", "ant.pkl does not exist"]),
    "missing start": (
        {"training.resume_checkpoint": "old.pth"},
        ["training.resume_checkpoint", "old.pth does not exist"],
    ),
    "joint name": (
        {"joint_importance.important_joint_names": ["b_head"]},
        ["joint_importance.important_joint_names", "b_head"],
    ),
    "unknown backbone": ({"model.backbone_name": "vit_enormous"}, ["vit_enormous"]),
    "large batch": ({"training.batch_size": 4096}, ["batch_size: 4096 is more than an epoch has"]),
}


@pytest.mark.parametrize("case", WRONG_CONFIGS)
def test_a_wrong_configuration_is_told_in_one_line(case, smil, insects_file, tmp_path):
    changes, expected = WRONG_CONFIGS[case]
    config = json.loads(json.dumps(TINY)) | {"$schema": "smil.schema.json"}
    config["dataset"]["data_path"] = str(insects_file)
    for key, value in changes.items():
        *sections, name = key.split(".")
        place = config
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    (tmp_path / "mine.json").write_text(json.dumps(config))
    line = refused(smil("train", "--config", tmp_path / "mine.json", "--run-dir", tmp_path / "run"))
    for words in expected:
        assert words in line
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"mode": "multiview",', "not valid JSON"),
        ('["multiview"]', "object"),
        ('{"extends": "base.json"}', "base.json"),
    ],
)
def test_a_configuration_file_that_is_none_is_told_in_one_line(text, expected, smil, tmp_path):
    (tmp_path / "mine.json").write_text(text)
    line = refused(smil("config", "check", tmp_path / "mine.json"))
    assert str(tmp_path) in line
    assert expected in line


def test_a_mistyped_preset_names_those_there_are(smil):
    line = refused(smil("train", "--config", "tinny.json"))
    assert "tinny.json" in line
    assert "tiny.json" in line.replace("tinny.json", "")


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def text_file(file: Path) -> None:
    file.write_text("not what you think")


def changed(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def apply(file: Path) -> None:
        with h5py.File(file, "r+") as table:
            change(table)

    return apply


def spoil_camera(table: h5py.File) -> None:
    table["multiview_keypoints/camera_extrinsics_t"][3, 1, 2] = np.nan


def spoil_rotation(table: h5py.File) -> None:
    table["multiview_keypoints/camera_extrinsics_R"][3, 1] *= 2


def spoil_pose(table: h5py.File) -> None:
    table["parameters/global_rot"][3, 0] = np.inf


def drop(name: str) -> Callable[[Path], None]:
    return changed(lambda table: table.__delitem__(name))


def spoil_jpeg(table: h5py.File) -> None:
    column = table["multiview_images/image_jpeg_view_0"]
    for row in range(len(column)):
        column[row] = np.frombuffer(b"this is no picture", np.uint8)


DAMAGED_FILES = {
    "truncated": (truncated, ["truncated"]),
    "text": (text_file, ["HDF5"]),
    "no keypoints": (drop("multiview_keypoints/keypoints_2d"), ["keypoints_2d: no such dataset"]),
    "no pictures": (drop("multiview_images/image_jpeg_view_1"), ["image_jpeg_view_1: no such dataset"]),
    "no camera": (changed(spoil_camera), ["[3]", "camera_extrinsics_t"]),
    "no rotation": (changed(spoil_rotation), ["[3]", "camera_extrinsics_R"]),
    "no pose": (changed(spoil_pose), ["[3]", "global_rot"]),
    "no jpeg": (changed(spoil_jpeg), ["image_jpeg_view_0"]),
}


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
@pytest.mark.parametrize("case", DAMAGED_FILES)
def test_a_damaged_data_file_is_told_with_sample_and_dataset(case, command, run, smil, insects_file, tmp_path):
    damage, expected = DAMAGED_FILES[case]
    file = tmp_path / "damaged.h5"
    shutil.copy(insects_file, file)
    damage(file)
    words = {
        "train": ("--config", "tiny.json", "--data-path", file, "--run-dir", tmp_path / "run"),
        "evaluate": ("--checkpoint", run, "--data", file, "--split", "all", "--output", tmp_path / "out"),
        "predict": ("--checkpoint", run, file, "--output", tmp_path / "out", "--meshes", "none", "--batch-size", 64),
    }[command]
    done = smil(command, *words, *(("--set", "training.trackers=[]") if command == "train" else ()))
    if done.exit_code == 0:
        assert (command, case) in {("predict", "no pose"), ("train", "no jpeg")}, "labels are not read for prediction"
        return
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.exit_code == 2
    assert len(lines) == 1
    for part in ("damaged.h5", *expected):
        assert part in lines[0]


class Command:
    def __reduce__(self):
        return Path.touch, (Path("was_run"),)


def test_a_body_model_that_would_run_a_command_is_refused_and_not_run(smil, insects_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"v_template": Command()}))
    words = ("train", "--config", "tiny.json", "--data-path", insects_file, "--run-dir", tmp_path / "run")
    line = refused(smil(*words, "--smal-file", tmp_path / "model.pkl"))
    assert "model.pkl" in line
    assert not (tmp_path / "was_run").exists()


def test_data_of_another_animal_is_refused(smil, insects_file, tmp_path):
    from posecore.bodymodel import write_model
    from smil_regressor.data.insect import insect_body

    with h5py.File(insects_file) as table:
        joints = table["multiview_keypoints/keypoints_2d"].shape[2]
    other = tmp_path / "other.h5"
    shutil.copy(insects_file, other)
    with h5py.File(other, "r+") as table:
        del table["metadata"].attrs["joint_names"]
    write_model(insect_body("full"), tmp_path / "full.pkl")
    words = ("train", "--config", "tiny.json", "--data-path", other, "--run-dir", tmp_path / "run")
    line = refused(smil(*words, "--smal-file", tmp_path / "full.pkl"))
    assert str(joints) in line
    assert "55" in line


def test_paths_of_the_wrong_kind_are_told(run, smil, insects_file, tmp_path):
    train = ("train", "--config", "tiny.json", "--run-dir", tmp_path / "run")
    assert "dataset.data_path: missing" in refused(smil(*train))
    assert "a folder" in refused(smil(*train, "--data-path", tmp_path))
    predict = ("predict", "--checkpoint", run, "--output", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "no picture in it" in refused(smil(*predict, tmp_path / "empty"))
    assert "no such file or folder" in refused(smil(*predict, tmp_path / "nothing.png"))
    (tmp_path / "notes.txt").write_text("hello")
    assert "notes.txt: neither a picture" in refused(smil(*predict, tmp_path / "notes.txt"))
    (tmp_path / "text.png").write_text("hello")
    assert "text.png" in refused(smil(*predict, tmp_path / "text.png"))
    (tmp_path / "text.mp4").write_text("hello")
    assert "text.mp4: not a readable video" in refused(smil(*predict, tmp_path / "text.mp4"))
    assert "give it alone" in refused(smil(*predict, insects_file, tmp_path / "text.png"))
    evaluate = ("evaluate", "--data", insects_file, "--checkpoint")
    assert "holds no checkpoint" in refused(smil(*evaluate, tmp_path / "empty"))


def test_a_single_view_configuration_and_a_multi_view_file_do_not_fit(smil, insects_file, tmp_path):
    config = {k: v for k, v in TINY.items() if "view" not in k and not k.startswith("cross_attention")}
    (tmp_path / "single.json").write_text(json.dumps(config | {"mode": "singleview"}))
    words = ("--config", tmp_path / "single.json", "--data-path", insects_file, "--run-dir", tmp_path / "run")
    assert "a multi-view file, but mode is singleview" in refused(smil("train", *words))


def test_too_few_sessions_for_a_split_are_told_with_the_remedy(smil, other_file, tmp_path):
    words = ("--config", "tiny.json", "--data-path", other_file, "--run-dir", tmp_path / "run")
    line = refused(smil("train", *words))
    assert "split by session" in line
    assert "set dataset.split_by to block or frame" in line


@pytest.fixture
def copied_run(run, tmp_path) -> Path:
    shutil.copytree(run, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def test_a_flipped_byte_in_a_checkpoint_is_noticed(copied_run, smil, insects_file, tmp_path):
    file = copied_run / "checkpoints" / "best" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    line = refused(smil("predict", "--checkpoint", copied_run, insects_file, "--output", tmp_path / "out"))
    assert "model.safetensors does not match its checksum" in line


def test_a_checkpoint_of_another_system_is_refused(smil, insects_file, tmp_path):
    save_checkpoint(tmp_path, system="handvit", system_version="0.1", step=1, epoch=0, weights={}, state={}, config={})
    line = refused(smil("predict", "--checkpoint", tmp_path, insects_file, "--output", tmp_path / "out"))
    assert "is a checkpoint of handvit; one of smil is needed" in line


def test_a_run_without_its_split_says_what_else_can_be_done(copied_run, smil):
    (copied_run / "split.json").unlink()
    assert "evaluate with --split all" in refused(smil("evaluate", "--checkpoint", copied_run))


@pytest.fixture
def two_pictures(tmp_path) -> list[Path]:
    files = [tmp_path / "top.png", tmp_path / "left.png"]
    for file in files:
        cv2.imwrite(str(file), np.full((48, 64, 3), 90, np.uint8))
    return files


def test_views_must_be_of_cameras_that_the_network_knows(free_run, smil, two_pictures, tmp_path):
    words = ("predict", "--checkpoint", free_run, *two_pictures, "--output", tmp_path / "out")
    assert "camera 'top' is not one of the network's: cam0, cam1" in refused(smil(*words, "--cameras", "top,left"))
    assert "--cameras: 1 names for 2 views" in refused(smil(*words, "--cameras", "cam0"))
    third = (two_pictures[0], "--mode", "views")
    assert "3 views, but the network knows 2" in refused(smil(*words, *third))


def test_a_network_that_refines_cameras_asks_for_the_calibration(run, smil, two_pictures, tmp_path):
    line = refused(smil("predict", "--checkpoint", run, *two_pictures, "--output", tmp_path / "out"))
    assert "give --calibration" in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[cam_0\n", "not a TOML file"),
        ("", "no camera in it"),
        ('[cam_0]\nname = "cam0"\n', "cam_0"),
        (None, "no such file"),
    ],
)
def test_a_damaged_calibration_is_told(text, expected, run, smil, two_pictures, tmp_path):
    file = tmp_path / "calibration.toml"
    if text is not None:
        file.write_text(text)
    words = ("--output", tmp_path / "out", "--cameras", "cam0,cam1", "--calibration", file)
    done = smil("predict", "--checkpoint", run, *two_pictures, *words)
    assert done.exit_code == 2
    for line in done.stderr.strip().splitlines():
        assert line.startswith("error: ")
        assert "calibration.toml" in line
    assert expected in done.stderr


def test_videos_of_one_moment_must_be_equally_long(free_run, smil, tmp_path):
    for name, frames in (("cam0", 3), ("cam1", 2)):
        writer = cv2.VideoWriter(str(tmp_path / f"{name}.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 64))
        for _ in range(frames):
            writer.write(np.zeros((64, 64, 3), np.uint8))
        writer.release()
    videos = (tmp_path / "cam0.mp4", tmp_path / "cam1.mp4")
    line = refused(smil("predict", "--checkpoint", free_run, *videos, "--output", tmp_path / "out"))
    assert "equal length, not cam0.mp4 3, cam1.mp4 2 frames" in line


@pytest.mark.parametrize(
    ("command", "words"),
    [("predict", ("--every", -3)), ("predict", ("--max-frames", -3)), ("bench", ("--batch-sizes", "1,two")),
     ("bench", ("--batch-sizes", "0")), ("bench", ("--device", "tpu9")), ("train", ("--set", "seed"))],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(command, words, run, smil, insects_file, tmp_path):
    head = {
        "predict": ("--checkpoint", run, insects_file, "--output", tmp_path / "out"),
        "bench": ("--checkpoint", run),
        "train": ("--config", "tiny.json", "--data-path", insects_file, "--run-dir", tmp_path / "run"),
    }[command]
    done = smil(command, *head, *words)
    assert done.exit_code == 2
    assert str(words[-1]) in done.stderr or str(words[0]) in done.stderr
