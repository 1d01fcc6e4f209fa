"""Runs as files for other programs: what is read back draws the same views."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from keypoint_nvs.loading import load_network
from keypoint_nvs.model.zero123plus import Zero123Plus

sys.path.append(str(Path(__file__).parent))
from weight_folders import save_folder, tiny_modules

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def lora_run(trained, tmp_path_factory) -> Path:
    folder = save_folder(tmp_path_factory.mktemp("weights") / "tiny", tiny_modules(seed=3))
    (folder / "feature_extractor_vae").mkdir()
    (folder / "feature_extractor_vae" / "preprocessor_config.json").write_text('{"crop_size": 32}')
    return trained("nvs", f"model.weights={folder}", "nvs.train=lora", "train.warmup_steps=0", "train.lr=0.01")


def views_of(model: Zero123Plus) -> torch.Tensor:
    pictures = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return model.sample(pictures, 2, 1.5, torch.tensor([7]))


@pytest.mark.parametrize("kind", ["all", "lora"])
def test_a_folder_of_diffusers_draws_the_views_of_the_run(kind, trained, lora_run, command, tmp_path):
    run = lora_run if kind == "lora" else trained("joint")
    done = command("export", "--checkpoint", run, "--output", tmp_path / "folder", "--format", "diffusers")
    assert done.exit_code == 0, done.output
    files = json.loads(done.stdout)["files"]
    assert {"model_index.json", "unet/config.json", "vae/diffusion_pytorch_model.safetensors"} <= set(files)
    names = load_file(tmp_path / "folder" / "unet" / "diffusion_pytorch_model.safetensors").keys()
    assert names == tiny_modules()["unet"].state_dict().keys(), "as other programs know them, LoRA merged"
    own = load_network(run, CPU).network.zero123
    assert own is not None
    read = Zero123Plus.from_pretrained(tmp_path / "folder").eval()
    assert (read.view_px, read.autoencoder_px, read.vision_px) == (32, 32, 32)
    torch.testing.assert_close(views_of(read), views_of(own), rtol=1e-4, atol=1e-4)


def test_an_exported_folder_begins_another_training(trained, settings, command, tmp_path):
    assert command(
        "export", "--checkpoint", trained("nvs"), "--output", tmp_path / "folder", "--format", "diffusers"
    ).exit_code == 0  # fmt: skip
    words = [
        w for o in settings("joint", f"model.weights={tmp_path / 'folder'}", "train.steps=1") for w in ("--set", o)
    ]
    done = command("train", "--config", "tiny_joint.json", "--run-dir", tmp_path / "run", *words)
    assert done.exit_code == 0, done.output


def test_what_cannot_be_exported_is_told(trained, command, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years")
    for run, folder, form, message in (
        (trained("autoencoder"), "new", "diffusers", "has no novel views; only those are written"),
        (trained("nvs"), "full", "diffusers", "full: is there and not empty; give a new folder"),
        (trained("nvs"), "full", "safetensors", "full"),
        (tmp_path / "none", "new", "safetensors", "none"),
    ):
        done = command("export", "--checkpoint", run, "--output", tmp_path / folder, "--format", form)
        assert done.exit_code == 2, done.output
        assert message in done.stderr
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "new").exists()
