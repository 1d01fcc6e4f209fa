"""Exports predict what their checkpoints predict."""

import json
import pickle

import numpy as np
import pytest

from posecore.errors import InputError
from smil_regressor.predict import Predictor, View


def moment():
    rng = np.random.default_rng(0)
    K = np.array([[90.0, 0, 31.5], [0, 90, 31.5], [0, 0, 1]])
    camera = np.eye(4)
    camera[2, 3] = 6
    return [View(rng.integers(0, 255, (64, 64, 3), np.uint8), name, K, camera) for name in ("cam0", "cam1")]


def test_a_folder_of_safetensors_is_smaller_and_predicts_identically(run, smil, tmp_path):
    done = smil("export", "--checkpoint", run, "--output", tmp_path / "exported")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["files"] == ["meta.json", "model.safetensors"]
    ours, theirs = (Predictor.load(path, device="cpu")([moment()]) for path in (tmp_path / "exported", run))
    for name in ("axis_angles", "betas", "translation", "vertices_world", "joints_px"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_an_export_carries_its_body_model_and_refuses_another(trained, insects_file, smil, tmp_path):
    from dataclasses import replace

    from posecore.bodymodel import BodyModel, read_model, write_model
    from smil_regressor.data.insect import write_insect

    write_insect(tmp_path / "mine.pkl")
    run = trained(f"smal_model.smal_file={tmp_path / 'mine.pkl'}")
    assert smil("export", "--checkpoint", run, "--output", tmp_path / "exported").exit_code == 0
    model = read_model(tmp_path / "mine.pkl")
    (tmp_path / "mine.pkl").unlink()
    assert len(Predictor.load(tmp_path / "exported", device="cpu")([moment()])) == 1
    larger = BodyModel(replace(model.arrays(), template=2 * model.template.numpy()))
    write_model(larger, tmp_path / "other.pkl")
    words = ("--smal-file", tmp_path / "other.pkl", "--output", tmp_path / "out")
    done = smil("predict", "--checkpoint", run, insects_file, *words)
    assert done.exit_code == 2
    assert "is not the body model that the network was trained with" in done.stderr


def test_a_run_with_a_familys_shape_needs_neither_the_model_nor_the_families_again(trained, smil, tmp_path):
    from posecore.bodymodel import read_model
    from smil_regressor.data.insect import write_insect

    write_insect(tmp_path / "mine.pkl")
    model = read_model(tmp_path / "mine.pkl")
    means = np.random.default_rng(0).normal(size=(2, 3))
    (tmp_path / "families.pkl").write_bytes(pickle.dumps({"cluster_means": means}))
    files = (f"smal_model.smal_file={tmp_path / 'mine.pkl'}", f"smal_model.smal_data_file={tmp_path / 'families.pkl'}")
    run = trained(*files, "smal_model.shape_family=1")
    (tmp_path / "mine.pkl").rename(tmp_path / "unshaped.pkl")
    (tmp_path / "families.pkl").unlink()
    assert smil("export", "--checkpoint", run, "--output", tmp_path / "exported").exit_code == 0
    for folder in (run, tmp_path / "exported"):
        found = Predictor.load(folder, device="cpu").loaded.body.model.template.numpy()
        np.testing.assert_allclose(
            found, model.template.numpy() + model.shapedirs[..., :3].numpy() @ means[1], atol=1e-6
        )
    with pytest.raises(InputError, match=r"smal_model.smal_data_file: .* does not exist"):
        Predictor.load(run, tmp_path / "unshaped.pkl", device="cpu")


def test_an_export_does_not_overwrite(run, smil, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    done = smil("export", "--checkpoint", run, "--output", tmp_path)
    assert done.exit_code == 2
    assert "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_export_cannot_be_trained_on_but_can_be_started_from(run, smil, insects_file, tmp_path):
    smil("export", "--checkpoint", run, "--output", tmp_path / "exported")
    words = ("train", "--config", "tiny.json", "--data-path", insects_file, "--run-dir", tmp_path / "new")
    done = smil(*words, "--resume", tmp_path / "exported")
    assert done.exit_code == 2
    assert "is an export without state.pt" in done.stderr
    assert smil(*words, "--resume-checkpoint", tmp_path / "exported", "--dry-run").exit_code == 0


def test_onnx_agrees_with_pytorch(run, smil, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra: smil-regressor[onnx]")
    pytest.importorskip("onnxscript", reason="needs the extra: smil-regressor[onnx]")
    done = smil("export", "--checkpoint", run, "--output", tmp_path / "net.onnx", "--format", "onnx")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["largest_relative_difference"] < 1e-4
    assert (tmp_path / "net.onnx").stat().st_size > 1e5


def test_onnx_without_its_packages_says_what_to_install(run, smil, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = smil("export", "--checkpoint", run, "--output", tmp_path / "net.onnx", "--format", "onnx")
    assert done.exit_code == 2
    assert "install smil-regressor[onnx]" in done.stderr
