"""Novel views of pictures into a store: by a run, or by a folder in the layout of diffusers."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keypoint_nvs.data.store import MultiviewStore

FAST = ("--sampling-steps", 2, "--guidance", 1.5, "--device", "cpu")


@pytest.fixture(scope="module")
def photos(stores, tmp_path_factory) -> Path:
    """Three pictures of 32 px."""
    folder = tmp_path_factory.mktemp("photos")
    store = MultiviewStore(stores / "val.h5")
    for index, name in enumerate("abc"):
        rgba = store.read(index).cond_imgs.transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(rgba)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def exported(trained, command, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    done = command("export", "--checkpoint", trained("nvs"), "--output", folder, "--format", "diffusers")
    assert done.exit_code == 0, done.output
    return folder


def samples_of(path: Path) -> list:
    store = MultiviewStore(path)
    return [store.read(index) for index in range(len(store))]


def test_a_store_has_the_pictures_and_their_generated_views(photos, trained, command, tmp_path):
    output = tmp_path / "g.h5"
    done = command("generate", photos, "--checkpoint", trained("nvs"), "--output", output, *FAST)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"path": str(output), "rig": "zero123plus-v1.2", "samples": 3}
    found = samples_of(output)
    assert [sample.sample_id for sample in found] == ["a/0", "b/0", "c/0"]
    for sample, name in zip(found, "abc", strict=True):
        given = np.asarray(Image.open(photos / f"{name}.png")).transpose(2, 0, 1)
        assert np.array_equal(sample.cond_imgs, given), "with its transparency"
        assert sample.target_imgs.shape == (6, 4, 32, 32)
        assert (sample.target_imgs[:, 3] == 255).all()


def test_parts_of_a_job_write_files_of_their_own_that_together_are_the_whole(
    photos, trained, command, tmp_path, monkeypatch
):
    words = ("generate", photos, "--checkpoint", trained("nvs"), "--output", tmp_path / "parts" / "g.h5", *FAST)
    assert command(*words, "--shard", "0/2").exit_code == 0
    for name, value in {"ID": "1", "COUNT": "2", "MIN": "0", "MAX": "1"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert command(*words).exit_code == 0, "as a task of an array"
    for name in ("ID", "COUNT", "MIN", "MAX"):
        monkeypatch.delenv(f"SLURM_ARRAY_TASK_{name}")
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == ["g-00000-of-00002.h5", "g-00001-of-00002.h5"]
    assert command(*words[: -len(FAST) - 1], tmp_path / "whole.h5", *FAST).exit_code == 0
    whole = {sample.sample_id: sample for sample in samples_of(tmp_path / "whole.h5")}
    parts = samples_of(tmp_path / "parts")
    assert {sample.sample_id for sample in parts} == whole.keys()
    assert all(np.array_equal(sample.target_imgs, whole[sample.sample_id].target_imgs) for sample in parts)


def test_a_folder_of_diffusers_generates_the_same_views_as_the_run_it_was_exported_from(
    photos, trained, exported, command, tmp_path
):
    for name, checkpoint in (("run", trained("nvs")), ("folder", exported)):
        words = ("--checkpoint", checkpoint, "--output", tmp_path / f"{name}.h5", *FAST)
        done = command("generate", photos / "a.png", *words)
        assert done.exit_code == 0, done.output
    run, folder = (samples_of(tmp_path / f"{name}.h5")[0] for name in ("run", "folder"))
    difference = np.abs(run.target_imgs.astype(int) - folder.target_imgs.astype(int))
    assert difference.max() <= 1, "the file's decimal numbers and rounding to bytes"


def test_the_rig_of_a_folder_is_what_the_user_says(photos, exported, command, tmp_path):
    words = ("--rig", "zero123plus-v1.1", "--output", tmp_path / "g.h5", *FAST)
    done = command("generate", photos / "a.png", "--checkpoint", exported, *words)
    assert done.exit_code == 0, done.output
    assert MultiviewStore(tmp_path / "g.h5").header.rig == "zero123plus-v1.1"


def test_what_cannot_be_generated_is_told_and_nothing_is_written(photos, trained, command, tmp_path):
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(tmp_path / "wide.png")
    (tmp_path / "there.h5").write_text("years of work")
    (tmp_path / "clip.mp4").write_text("x")
    run = trained("nvs")
    cases = [
        ((tmp_path / "wide.png",), run, "g.h5", "wide.png: is 8 x 12, a square is needed"),
        ((photos,), run, "there.h5", "there.h5: exists already; remove it or choose another name"),
        ((photos,), run, "g.zip", "g.zip: the name of a store ends in .hdf5 or .h5"),
        ((tmp_path / "clip.mp4",), run, "g.h5", "clip.mp4: is a video; give pictures"),
        ((photos, photos / "a.png"), run, "g.h5", "a.png: has the name of "),
        ((photos,), trained("autoencoder"), "g.h5", "cannot make novel views"),
        ((photos,), tmp_path / "nowhere", "g.h5", "nowhere"),
    ]
    for inputs, checkpoint, name, message in cases:
        done = command("generate", *inputs, "--checkpoint", checkpoint, "--output", tmp_path / name, *FAST)
        assert done.exit_code == 2, message
        assert message in done.stderr
    assert (tmp_path / "there.h5").read_text() == "years of work"
    assert not list(tmp_path.glob("*g.h5*"))
