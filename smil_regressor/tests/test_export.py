"""Exports predict what their checkpoints predict."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from posecore.errors import InputError
from smil_regressor.config import SmilConfig
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


MULTI_VIEW_ONLY = ("$schema", "min_views_per_sample", "cross_attention_layers", "cross_attention_heads",
                   "cross_attention_dropout")  # fmt: skip


@pytest.fixture(scope="module")
def single_view_run(smil, insects_file, tmp_path_factory):
    """A single-view run of the sizes of tiny.json."""
    folder = tmp_path_factory.mktemp("single")
    config = json.loads((SmilConfig.presets / "tiny.json").read_text())
    config = {name: value for name, value in config.items() if name not in MULTI_VIEW_ONLY}
    config |= {"mode": "singleview", "dataset": config["dataset"] | {"from_multiview": True, "use_ue_scaling": False}}
    (folder / "single.json").write_text(json.dumps(config))
    few = ("training.trackers=[]", "training.batch_size=4", "training.max_steps=2")
    words = ("--data-path", insects_file, "--run-dir", folder / "run", *(word for s in few for word in ("--set", s)))
    done = smil("train", "--config", folder / "single.json", *words)
    assert done.exit_code == 0, done.output
    return folder / "run"


@pytest.mark.parametrize("kind", ["run", "single_view_run"])
def test_onnx_agrees_with_pytorch_for_any_number_of_samples(kind, smil, request, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra: smil-regressor[onnx]")
    pytest.importorskip("onnxscript", reason="needs the extra: smil-regressor[onnx]")
    checkpoint = request.getfixturevalue(kind)
    done = smil("export", "--checkpoint", checkpoint, "--output", tmp_path / "net.onnx", "--format", "onnx")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["largest_relative_difference"] < 1e-4
    predictor = Predictor.load(checkpoint, device="cpu")
    views = moment() if kind == "run" else [replace(moment()[0], camera=None)]
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    for count in (1, 5):
        poses = predictor([views] * count)
        inputs = onnx_inputs(views, count)
        (joints,) = session.run(["joints_world"], {entry.name: inputs[entry.name] for entry in session.get_inputs()})
        np.testing.assert_allclose(joints, poses.joints_world, atol=1e-4 * np.abs(poses.joints_world).max())


def onnx_inputs(views, count):
    """The graph's inputs for `count` equal moments: pictures of the network's size, values from 0 to 1."""
    v = len(views)
    arrays = {
        "images": np.stack([view.image for view in views]).astype(np.float32) / 255,
        "view_mask": np.ones(v, bool),
        "camera_slots": np.arange(v),
        "K": np.stack([view.K for view in views]).astype(np.float32),
        "cam_from_world": np.stack([view.cam_from_world for view in views]).astype(np.float32),
        "has_camera": np.ones(v, bool),
        "native_size_wh": np.full((v, 2), 64, np.float32),
    }
    return {name: np.repeat(value[None], count, axis=0) for name, value in arrays.items()}


def test_onnx_without_its_packages_says_what_to_install(run, smil, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = smil("export", "--checkpoint", run, "--output", tmp_path / "net.onnx", "--format", "onnx")
    assert done.exit_code == 2
    assert "install smil-regressor[onnx]" in done.stderr
