"""Checkpoints: whole or not there, checked when read, refused with a reason, readable a year later."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from posecore.errors import InputError
from posecore.training import find_checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from posecore.training._atomic import digest
from posecore.training._meta import FORMAT, damage, write_meta
from posecore.training.checkpoints import all_checkpoints, link_bests

OLD = Path(__file__).parent / "data" / "checkpoint-1.0"
"""Written once with format 1.0 by `save` below; never write it again."""


def save(run_dir, step, is_best=False, keep_last=9, system="toy", also_best=(), **weights):
    generator = torch.Generator().manual_seed(step)
    return save_checkpoint(
        run_dir,
        system=system,
        system_version="0.1.0",
        step=step,
        epoch=step // 10,
        weights=weights or {"weight": torch.randn(3, 2, generator=generator), "count": torch.tensor(step)},
        state={"step": step, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "random": [(3, (1, 2), None)]},
        config={"training": {"lr": 0.1}},
        metrics={"error": 1.5, "uncounted": None},
        is_best=is_best,
        also_best=also_best,
        keep_last=keep_last,
    )


def refusal(path, system=None):
    with pytest.raises(InputError) as caught:
        load_checkpoint(path, system)
    return str(caught.value)


def flip_bit(file, position):
    data = bytearray(file.read_bytes())
    data[position % len(data)] ^= 1
    file.write_bytes(bytes(data))


def test_what_was_saved_is_loaded(tmp_path):
    folder = save(tmp_path, 20)
    loaded = load_checkpoint(folder, "toy")
    assert (loaded.step, loaded.epoch, loaded.system_version) == (20, 2, "0.1.0")
    assert loaded.metrics == {"error": 1.5, "uncounted": None}
    assert loaded.config == {"training": {"lr": 0.1}}
    torch.testing.assert_close(loaded.weights["weight"], torch.randn(3, 2, generator=torch.Generator().manual_seed(20)))
    assert loaded.training_state()["random"] == [(3, (1, 2), None)]


def test_a_checkpoint_of_the_first_format_still_loads():
    loaded = load_checkpoint(OLD, "toy")
    assert (loaded.step, loaded.epoch, loaded.config) == (12, 1, {"training": {"lr": 0.1}})
    torch.testing.assert_close(loaded.weights["weight"], torch.randn(3, 2, generator=torch.Generator().manual_seed(12)))
    assert loaded.training_state()["step"] == 12


@pytest.mark.parametrize("form", ["run", "folder", "weights", "best"])
def test_a_run_a_folder_its_weights_and_best_all_name_a_checkpoint(tmp_path, form):
    save(tmp_path, 10, is_best=True)
    save(tmp_path, 20)
    folder = tmp_path / "checkpoints/step-00000010"
    path = {"run": tmp_path, "folder": folder, "weights": folder / "model.safetensors", "best": folder.parent / "best"}
    assert find_checkpoint(path[form]) == folder
    assert load_checkpoint(path[form]).step == 10


def test_a_run_without_a_best_means_its_newest(tmp_path):
    save(tmp_path, 10)
    save(tmp_path, 20)
    assert load_checkpoint(tmp_path).step == 20


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "meta.json"])
def test_a_torn_file_is_refused_and_the_newest_whole_checkpoint_is_named(tmp_path, name):
    good, torn = save(tmp_path, 10), save(tmp_path, 20)
    whole = (torn / name).read_bytes()
    (torn / name).write_bytes(whole[: len(whole) // 2])
    message = refusal(torn)
    assert name in message
    assert message.endswith(f"the newest whole checkpoint is {good}")
    assert latest_checkpoint(tmp_path) == good
    (torn / name).unlink()
    assert f"{name} is missing" in refusal(torn) or "no such checkpoint" in refusal(torn)


@given(position=st.integers(0, 10**6), name=st.sampled_from(["model.safetensors", "state.pt", "meta.json"]))
def test_no_flipped_bit_goes_unnoticed(tmp_path_factory, position, name):
    folder = save(tmp_path_factory.mktemp("run"), 10)
    before = load_checkpoint(folder)
    flip_bit(folder / name, position)
    if name == "meta.json" and damage(folder) is None:  # a space more or less, or another sign of the same number
        assert load_checkpoint(folder).config == before.config
        return
    assert name in refusal(folder)


def test_without_a_whole_checkpoint_the_message_says_so(tmp_path):
    flip_bit(save(tmp_path, 10) / "state.pt", 50)
    assert "there is no whole checkpoint beside it" in refusal(tmp_path / "checkpoints/step-00000010")
    assert latest_checkpoint(tmp_path) is None


def test_what_is_no_checkpoint_is_told(tmp_path):
    assert "holds no checkpoint" in refusal(tmp_path)
    assert "holds no checkpoint" in refusal(tmp_path / "nowhere")
    save(tmp_path, 10)
    message = refusal(tmp_path / "checkpoints/step-00000099")
    assert "no such checkpoint; the newest whole checkpoint is" in message


def test_another_system_is_refused(tmp_path):
    assert "is a checkpoint of vpog; one of toy is needed" in refusal(save(tmp_path, 10, system="vpog"), "toy")


@pytest.mark.parametrize("newer", [[FORMAT[0], FORMAT[1] + 1], [FORMAT[0] + 1, 0]])
def test_a_newer_format_is_refused_with_the_version_that_wrote_it(tmp_path, newer):
    folder = save(tmp_path, 10)
    meta = json.loads((folder / "meta.json").read_text())
    meta["format"], meta["versions"]["posecore"] = newer, "9.8.7"
    write_meta(folder, meta)
    message = refusal(folder)
    assert f"format: {newer[0]}.{newer[1]} cannot be read" in message
    assert "written by posecore 9.8.7" in message


def test_weights_that_do_not_fit_the_model_are_named(tmp_path):
    folder = save(tmp_path, 10, **{"weight": torch.zeros(3, 4), "extra": torch.zeros(1)})
    with pytest.raises(InputError) as caught:
        load_checkpoint(folder).load_into(nn.Linear(2, 3))
    lines = caught.value.problems
    assert any("bias: missing" in line for line in lines)
    assert any("extra: not part of the model" in line for line in lines)
    assert any("weight: has shape (3, 4), the model needs (3, 2)" in line for line in lines)


def test_tied_weights_are_saved_and_loaded(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    loaded = load_checkpoint(save(tmp_path, 1, **model.state_dict()))
    loaded.load_into(model)
    assert torch.equal(loaded.weights["0.weight"], loaded.weights["1.weight"])


def test_the_last_and_the_best_are_kept(tmp_path):
    for step in range(1, 8):
        save(tmp_path, step, is_best=step == 2, keep_last=3)
    assert [int(f.name[-2:]) for f in all_checkpoints(tmp_path / "checkpoints")] == [2, 5, 6, 7]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.startswith(".")) == []


def test_a_new_best_replaces_the_link_and_frees_the_old_one(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step, is_best=True, keep_last=1)
    assert (tmp_path / "checkpoints/best").resolve().name == "step-00000003"
    assert len(all_checkpoints(tmp_path / "checkpoints")) == 1


def test_each_metric_keeps_its_best_and_names_it(tmp_path):
    for step, is_best, also in (
        (1, True, ["a", "b"]),
        (2, False, ["a"]),
        (3, True, []),
        (4, False, []),
        (5, False, []),
    ):
        save(tmp_path, step, is_best=is_best, also_best=also, keep_last=1)
    assert [int(f.name[-2:]) for f in all_checkpoints(tmp_path / "checkpoints")] == [1, 2, 3, 5]
    named = {link: load_checkpoint(tmp_path / "checkpoints" / link).step for link in ("best", "best-a", "best-b")}
    assert named == {"best": 3, "best-a": 2, "best-b": 1}


def test_links_follow_a_run_that_goes_back_and_those_of_no_metric_go(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step, is_best=step == 2, also_best=("a", "b", "c"))
    link_bests(tmp_path / "checkpoints", {"best": 1, "best-a": 2, "best-b": 7})
    links = {path.name: path.resolve().name[-1] for path in (tmp_path / "checkpoints").iterdir() if path.is_symlink()}
    assert links == {"best": "1", "best-a": "2"}


def test_a_write_that_was_cut_short_leaves_no_checkpoint_and_is_swept_up(tmp_path, monkeypatch):
    save(tmp_path, 1)
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert latest_checkpoint(tmp_path).name == "step-00000001"
    save(tmp_path, 3)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000001", "step-00000003"]


def test_saving_the_same_step_again_replaces_it(tmp_path):
    save(tmp_path, 5)
    save(tmp_path, 5, weight=torch.zeros(1))
    assert load_checkpoint(tmp_path).weights["weight"].shape == (1,)


def test_a_pickle_in_place_of_the_state_is_not_executed(tmp_path):
    folder = save(tmp_path, 5)
    touched = tmp_path / "touched"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (touched,))

    torch.save({"step": Evil()}, folder / "state.pt")
    meta = json.loads((folder / "meta.json").read_text())
    meta["files"]["state.pt"]["sha256"] = digest(folder / "state.pt")
    write_meta(folder, meta)
    with pytest.raises(InputError, match=r"state\.pt: holds more than plain values; that is not executed"):
        load_checkpoint(folder).training_state()
    assert not touched.exists()


def test_a_copied_run_still_resolves_its_best(tmp_path):
    save(tmp_path / "a", 3, is_best=True)
    shutil.copytree(tmp_path / "a", tmp_path / "b", symlinks=True)
    shutil.rmtree(tmp_path / "a")
    assert load_checkpoint(tmp_path / "b").step == 3
