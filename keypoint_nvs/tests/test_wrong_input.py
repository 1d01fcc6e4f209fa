"""Damaged data and impossible runs through the command: one clear line a problem, exit code 2, no traceback."""

import shutil
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from posecore.training import save_checkpoint

sys.path.append(str(Path(__file__).parent))
from weight_folders import as_stable_diffusion, edit_json, save_folder, tiny_modules


def refused(done) -> str:
    """The one error that was told; besides it there are only lines of the log."""
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def dropped(key):
    def change(file):
        del file[f"samples/{first(file)}/{key}"]

    return change


def first(file) -> str:
    return file["sample_ids"][0].decode()


def replaced(key, make):
    def change(file):
        name = f"samples/{first(file)}/{key}"
        values = make(file[name][:])
        del file[name]
        file[name] = values

    return change


def attribute(name, value):
    def change(file):
        file.attrs[name] = value

    return change


def six_views_missing_one(views):
    return views[:5]


def swapped_axes(views):
    return np.moveaxis(views, 1, -1).copy()


def turned(cameras):
    cameras[2, :3, :3] = cameras[2, :3, :3] @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    return cameras


WRONG_STORES = {
    "a view is missing": (
        replaced("target_imgs", six_views_missing_one),
        "target_imgs: shape is (5, 4, 32, 32), expected (6, 4, 32, 32); a sample has 6 target views",
    ),
    "swapped axes": (
        replaced("target_imgs", swapped_axes),
        "target_imgs: shape is (6, 32, 32, 4), expected (6, 4, 32, 32); channels come before rows",
    ),
    "swapped axes of the input": (
        replaced("cond_imgs", lambda picture: np.moveaxis(picture, 0, -1).copy()),
        "cond_imgs: shape is (32, 32, 4), expected (4, 32, 32); channels come before rows",
    ),
    "no transparency": (
        replaced("target_imgs", lambda views: views[:, :3]),
        "target_imgs: shape is (6, 3, 32, 32), expected (6, 4, 32, 32); pictures are RGBA",
    ),
    "other dtype": (
        replaced("cond_imgs", lambda picture: picture.astype(np.float32)),
        "cond_imgs: dtype is float32, expected uint8",
    ),
    "no input view": (dropped("cond_imgs"), "cond_imgs is missing"),
    "half a camera": (dropped("target_K"), "target_K is missing beside target_cam_from_world"),
    "a turned camera": (replaced("target_cam_from_world", turned), "view 2 is turned 90.0 degrees away from rig"),
    "not finite": (
        replaced("keypoints_world", lambda points: points * np.nan),
        "keypoints_world: nan at [0, 0]; a finite number is needed",
    ),
    "another rig": (
        attribute("rig", "zero123plus-v1.1"),
        "rig is zero123plus-v1.1, model.rig is zero123plus-v1.2; set model.rig to the data's",
    ),
    "another format": (attribute("format", "other"), "format"),
    "size of the file": (attribute("width", 64), "target_imgs: shape is (6, 4, 32, 32)"),
}


@pytest.mark.parametrize("case", WRONG_STORES)
def test_a_wrong_store_is_told_by_file_sample_and_key(case, command, trained, stores, tmp_path):
    change, message = WRONG_STORES[case]
    path = shutil.copy(stores / "val.h5", tmp_path / "wrong.h5")
    with h5py.File(path, "r+") as file:
        change(file)
        sample = first(file)
    words = ("--data", path, "--output", tmp_path / "out")
    line = refused(command("evaluate", "--checkpoint", trained("keypoints"), *words))
    assert message in line or (case == "size of the file" and "wrong.h5" in line)
    assert str(path) in line
    if change.__qualname__.startswith(("replaced", "dropped")):
        assert sample in line


def test_pictures_that_are_not_square_are_refused_before_training(command, stores, tmp_path):
    path = shutil.copy(stores / "val.h5", tmp_path / "wide.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["width"] = 48
    line = refused(command("train", "--config", "tiny_autoencoder.json", "--data", path, "--dry-run"))
    assert "pictures are 32 x 48; the model needs square ones" in line


def test_pictures_of_a_folder_that_are_not_square_are_refused_by_name(command, tmp_path):
    (tmp_path / "p").mkdir()
    cv2.imwrite(str(tmp_path / "p" / "wide.png"), np.zeros((20, 30, 3), np.uint8))
    words = ("--data", tmp_path / "p", "--set", "keypoints.multiview=null", "--set", "loss.point=0", "--dry-run")
    line = refused(command("train", "--config", "tiny_keypoints.json", *words))
    assert "wide.png: is 20 x 30, a square is needed; set fit to centre_crop or pad" in line


def test_a_file_that_is_cut_off_is_told_by_name(command, trained, stores, tmp_path):
    path = tmp_path / "cut.h5"
    path.write_bytes((stores / "val.h5").read_bytes()[:3000])
    line = refused(command("evaluate", "--checkpoint", trained("nvs"), "--data", path, "--output", tmp_path / "out"))
    assert "cut.h5: not a whole HDF5 file" in line


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save_folder(tmp_path_factory.mktemp("weights") / "tiny", tiny_modules())


def without(component):
    return lambda folder: shutil.rmtree(folder / component)


def index_without(component):
    return lambda folder: edit_json(folder / "model_index.json", **{component: None})


def scheduler(**changes):
    return lambda folder: edit_json(folder / "scheduler" / "scheduler_config.json", **changes)


WRONG_FOLDERS = {
    "no vae": (without("vae"), "vae: no such folder; model_index.json names it"),
    "no image encoder": (index_without("vision_encoder"), "vision_encoder: missing; a folder of kind zero123plus needs it"),
    "no scheduler": (without("scheduler"), "scheduler_config.json: missing"),
    "scheduler of Stable Diffusion": (
        scheduler(beta_schedule="scaled_linear"),
        "beta_schedule: is 'scaled_linear', must be 'linear'",
    ),
    "predicts noise": (scheduler(prediction_type="epsilon"), "prediction_type: is 'epsilon', must be 'v_prediction'"),
    "ramp of another length": (
        lambda folder: edit_json(folder / "model_index.json", ramping_coefficients=[0.1] * 76),
        "ramping_coefficients: has 76 numbers, must have 77",
    ),
    "stable diffusion": (as_stable_diffusion, "has no image encoder; begin with a folder of Zero123++, or name one in"),
    "no index": (lambda folder: (folder / "model_index.json").unlink(), ""),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_FOLDERS)
def test_a_folder_that_cannot_make_views_is_told_before_training(case, saved, command, settings, tmp_path):
    change, message = WRONG_FOLDERS[case]
    folder = shutil.copytree(saved, tmp_path / "tiny")
    change(folder)
    words = [w for o in settings("nvs", f"model.weights={folder}") for w in ("--set", o)]
    line = refused(command("train", "--config", "tiny_nvs.json", "--run-dir", tmp_path / "run", *words))
    assert message in line
    assert "tiny" in line
    assert not (tmp_path / "run" / "checkpoints").exists()


WRONG_RUNS = {
    "no data": ("nvs", {"data.train": "[]"}, "data.train: names no data set; give --data PATH"),
    "unknown field": ("nvs", {"train.learn_rate": 1}, "train.learn_rate: no such field"),
    "large batch": ("nvs", {"train.batch_size": 64}, "64 is more than an epoch has"),
    "no such weights": ("nvs", {"model.weights": "old"}, "model.weights: old does not exist (looked for"),
    "more keypoints than tokens": (
        "joint",
        {"keypoints.num_keypoints": 20},
        "num_keypoints 20 <= candidates 8 <= num_tokens 16 must hold",
    ),
    "no such layer": ("joint", {"keypoints.layers": '["up_blocks.9.attentions.0"]'}, "up_blocks.9.attentions.0"),
    "size of the pictures": ("joint", {"keypoints.image_px": 30}, "keypoints.image_px: 30 is not a multiple of 4"),
    "another rig": (
        "nvs",
        {"model.rig": "zero123plus-v1.1"},
        "rig is zero123plus-v1.2, model.rig is zero123plus-v1.1; set model.rig to the data's",
    ),
    "no frames": ("keypoints", {"data.frames": 2, "loss.temporal": 1}, "no object has 2 frames"),
    "view of another size": ("nvs", {"model.view_px": 30}, "view_px 30 is not a multiple of 8"),
}


@pytest.mark.parametrize("case", WRONG_RUNS)
def test_a_training_that_cannot_be_is_refused_before_it_begins(case, command, settings, tmp_path):
    stage, changes, message = WRONG_RUNS[case]
    words = [w for o in settings(stage, *(f"{key}={value}" for key, value in changes.items())) for w in ("--set", o)]
    done = command("train", "--config", f"tiny_{stage}.json", "--run-dir", tmp_path / "run", *words)
    assert message in refused(done)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_more_tokens_than_a_prompt_has_words_are_fine(command, settings, tmp_path):
    """They go straight into the UNet as its context, so the text encoder's 77 positions do not bound them."""
    words = [w for o in settings("joint", "keypoints.num_tokens=100", "train.steps=1") for w in ("--set", o)]
    done = command("train", "--config", "tiny_joint.json", "--run-dir", tmp_path / "run", *words, "--dry-run")
    assert done.exit_code == 0, done.output


def test_a_run_of_another_system_or_stage_is_told(command, settings, trained, tmp_path):
    stranger = tmp_path / "stranger"
    facts = {"step": 1, "epoch": 0, "weights": {"a": torch.zeros(1)}, "state": {}, "config": {}}
    save_checkpoint(stranger, system="vpog", system_version="0.1.0", is_best=True, **facts)
    line = refused(command("evaluate", "--checkpoint", stranger, "--output", tmp_path / "out"))
    assert "is a checkpoint of vpog; one of keypoint_nvs is needed" in line
    words = [w for o in settings("joint", f"train.weights={trained('nvs')}") for w in ("--set", o)]
    done = command("train", "--config", "tiny_joint.json", "--run-dir", tmp_path / "run", *words)
    assert done.exit_code == 2, done.output
    assert str(trained("nvs")) in done.stderr
    assert "missing; this configuration needs it" in done.stderr


def test_a_damaged_checkpoint_is_told_by_file(command, trained, tmp_path):
    run = shutil.copytree(trained("nvs"), tmp_path / "run", symlinks=True)
    for file in run.rglob("model.safetensors"):
        file.write_bytes(file.read_bytes()[:500])
    line = refused(command("evaluate", "--checkpoint", run, "--output", tmp_path / "out"))
    assert "model.safetensors" in line
