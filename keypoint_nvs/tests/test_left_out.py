"""Networks that are never trained need not be in every checkpoint."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from keypoint_nvs.loading import load_network
from keypoint_nvs.model.left_out import leave_out
from posecore.errors import InputError
from posecore.training import load_checkpoint

sys.path.append(str(Path(__file__).parent))
from weight_folders import as_stable_diffusion, save_folder, tiny_modules


def pair(seed: int) -> nn.ModuleDict:
    torch.manual_seed(seed)
    inner = nn.ModuleDict({"frozen": nn.Linear(2, 2), "trained": nn.Linear(2, 1)})
    leave_out(inner, ["frozen"], "keypoints.weights")
    return nn.ModuleDict({"inner": inner})


def test_a_state_has_a_digest_instead_and_fits_the_same_weights_only():
    state = pair(0).state_dict()
    assert set(state) == {"inner.trained.weight", "inner.trained.bias", "inner.weights_digest"}
    pair(0).load_state_dict(state)
    with pytest.raises(InputError, match=r"keypoints.weights: holds other weights \(SHA-256 \w{12}\) than those"):
        pair(1).load_state_dict(state)
    del state["inner.trained.bias"]
    with pytest.raises(RuntimeError, match="Missing key"):
        pair(0).load_state_dict(state)


def test_a_run_without_its_backbone_is_the_same_run_as_long_as_the_folder_is_there(command, settings, tmp_path):
    folder = as_stable_diffusion(save_folder(tmp_path / "sd", tiny_modules(seed=4)))

    def run(name: str, *overrides: str) -> Path:
        frozen = ("keypoints.backbone=frozen", f"keypoints.weights={folder}", "train.steps=2", "train.ema_decay=0.9")
        words = [w for o in (*settings("keypoints"), *frozen, *overrides) for w in ("--set", o)]
        resume = ["--resume", "auto"] if (tmp_path / name).exists() else []
        done = command("train", "--config", "tiny_keypoints.json", "--run-dir", tmp_path / name, *words, *resume)
        assert done.exit_code == 0, done.output
        return tmp_path / name

    whole, without = run("whole"), run("without", "keypoints.save_backbone=false")
    saved = load_checkpoint(without).weights
    assert not any(".own_" in name for name in saved)
    expected = load_network(whole, torch.device("cpu")).network.state_dict()
    found = load_network(without, torch.device("cpu")).network
    assert found.keypoints is not None
    own = {f"keypoints.own_unet.{name}": value for name, value in found.keypoints.own_unet.state_dict().items()}
    for name, value in (found.state_dict() | own).items():
        if name != "keypoints.weights_digest":
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
    run("without", "keypoints.save_backbone=false", "train.steps=3")
    assert load_checkpoint(without).step == 3
    save_folder(folder, tiny_modules(seed=5))
    as_stable_diffusion(folder)
    with pytest.raises(InputError, match=r"keypoints.weights: holds other weights"):
        load_network(without, torch.device("cpu"))
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"was saved without its backbone .* is no longer in .*sd; put it there again"):
        load_network(without, torch.device("cpu"))
