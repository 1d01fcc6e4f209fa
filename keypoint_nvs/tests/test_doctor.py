"""The doctor says what a file is, what is wrong with it, and what to do; wrong input never raises."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from keypoint_nvs.assembly import SYSTEM, build_network, find_beginning
from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.data.synthetic import SyntheticOptions, synthesise
from keypoint_nvs.doctor import Finding, check, environment_findings, format_findings
from keypoint_nvs.doctor.memory import LayerSize, layer_sizes, map_memory
from keypoint_nvs.model.architectures import architecture
from keypoint_nvs.model.token_scores import LayerScores, TokenScores
from posecore.training.checkpoints import save_checkpoint

sys.path.append(str(Path(__file__).parent))
from weight_folders import as_stable_diffusion, edit_json, save_folder, tiny_modules

LAYERS = ["up_blocks.1.attentions.0", "up_blocks.2.attentions.1"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return save_folder(tmp_path_factory.mktemp("weights") / "tiny", tiny_modules())


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("store") / "train.hdf5"
    synthesise(path, SyntheticOptions(objects=3, supersampling=1))
    return path


@pytest.fixture
def config(tmp_path, store, weights) -> Path:
    value = {
        "data": {"train": [{"kind": "multiview", "path": str(store)}]},
        "model": {"weights": str(weights)},
        "keypoints": {"num_tokens": 64, "num_keypoints": 8, "candidates": 16, "map_px": 32, "image_px": 32},
    }
    value["keypoints"]["layers"] = LAYERS
    (tmp_path / "config.json").write_text(json.dumps(value))
    return tmp_path / "config.json"


def of_level(findings: list[Finding], level: str) -> list[str]:
    return [finding.text for finding in findings if finding.level == level]


def test_the_environment_names_versions_devices_and_the_disk(tmp_path):
    findings = {finding.subject: finding for finding in environment_findings(tmp_path)}
    assert {
        "python",
        "torch",
        "posecore",
        "keypoint-nvs",
        "diffusers",
        "transformers",
        "peft",
        "disk",
    } <= findings.keys()
    assert not of_level(list(findings.values()), "error")


def test_a_folder_of_weights_is_described_component_by_component(weights):
    findings = check(weights)
    assert not of_level(findings, "error")
    text = format_findings(findings)
    assert "zero123plus, v_prediction, betas linear" in text
    assert "CC BY-NC 4.0" in text
    assert text.count("million parameters") == 4


def test_a_damaged_component_is_an_error_and_the_others_are_still_read(weights, tmp_path):
    folder = shutil.copytree(weights, tmp_path / "tiny")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    findings = check(folder)
    (problem,) = of_level(findings, "error")
    assert "damaged" in problem
    assert format_findings(findings).count("million parameters") == 3


def test_a_store_and_a_folder_of_stores_are_described(store):
    for path in (store, store.parent):
        (finding,) = check(path)
        assert finding.level == "ok"
        assert (
            "3 samples of 3 objects, 32 x 32 pixels, 6 target views, rig zero123plus-v1.2; 3 of them read"
            in finding.text
        )


def test_a_truncated_store_is_an_error(store, tmp_path):
    (tmp_path / "torn.hdf5").write_bytes(store.read_bytes()[:2000])
    (problem,) = of_level(check(tmp_path / "torn.hdf5"), "error")
    assert "not a whole HDF5 file" in problem


def test_pictures_that_are_not_square_are_a_warning_with_its_remedy(tmp_path):
    for name, size in (("a.png", (20, 20)), ("b.png", (20, 10))):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / name)
    findings = check(tmp_path)
    assert of_level(findings, "warning") == ["1 of the pictures read are not square"]
    assert "fit centre_crop or pad" in findings[-1].remedy


def test_weights_that_only_the_hub_has_are_a_warning_and_nothing_is_downloaded(config, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    edit_json(config, model={"weights": "nobody/model"})
    findings = check(config)
    assert not of_level(findings, "error")
    (warning,) = [finding for finding in findings if finding.level == "warning"]
    assert warning.subject == "model.weights: nobody/model"
    assert "https://huggingface.co/nobody/model" in warning.remedy


def test_a_state_dict_is_told_by_its_family(tmp_path):
    unet = tiny_modules()["unet"]
    torch.save({f"unet.{name}": tensor for name, tensor in unet.state_dict().items()}, tmp_path / "unet.ckpt")
    (finding,) = check(tmp_path / "unet.ckpt")
    assert "a UNet as that of tiny" in finding.text


@pytest.fixture(scope="module")
def run(weights, tmp_path_factory) -> Path:
    """One checkpoint, as training writes it."""
    tokens = {"num_tokens": 12, "num_keypoints": 3, "candidates": 6, "map_px": 16, "image_px": 32, "layers": LAYERS}
    config = KeypointNvsConfig.model_validate({"model": {"weights": str(weights)}, "keypoints": tokens})
    beginning = find_beginning(config)
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    save_checkpoint(
        folder,
        system=SYSTEM,
        system_version="0.1.0",
        step=3,
        epoch=0,
        weights=build_network(config, beginning).state_dict(),
        state={},
        config={"config": config.to_json_dict(), "parts": beginning.description()},
    )
    return folder


def test_a_run_is_rebuilt_and_counted_and_a_broken_one_is_an_error(run, tmp_path):
    text = format_findings(check(run))
    assert "stage keypoints" in text
    assert "12 tokens of which 3 are kept" in text
    shutil.copytree(run, tmp_path / "run", symlinks=True)
    for file in (tmp_path / "run").rglob("model.safetensors"):
        file.write_bytes(file.read_bytes()[:-10])
    assert of_level(check(tmp_path / "run"), "error")


def test_a_configuration_is_checked_with_all_that_it_names(config):
    findings = check(config)
    assert not of_level(findings, "error")
    text = format_findings(findings)
    assert "stage keypoints" in text
    assert "3 samples of 6 pictures, 32 x 32 pixels" in text
    assert "model.weights: " in text
    assert "maps of tokens: " in text


def test_every_missing_file_of_a_configuration_is_told_at_once(config):
    value = json.loads(config.read_text())
    value["data"]["train"][0]["path"] = "nowhere.hdf5"
    value["model"]["weights"] = "no/such/weights"
    config.write_text(json.dumps(value))
    problems = of_level(check(config), "error")
    assert any("nowhere.hdf5" in problem for problem in problems)
    assert any("model.weights: no/such/weights does not exist" in problem for problem in problems)


def test_weights_that_do_not_fit_the_stage_are_an_error(config, weights, tmp_path):
    folder = as_stable_diffusion(shutil.copytree(weights, tmp_path / "sd"))
    edit_json(config, model={"weights": str(folder)}, nvs={})
    assert any("no image encoder" in problem for problem in of_level(check(config), "error"))


@pytest.mark.parametrize("name", ["notes.txt", "empty"])
def test_what_is_nothing_known_lists_what_is(name, tmp_path):
    (tmp_path / name).touch() if "." in name else (tmp_path / name).mkdir()
    (finding,) = check(tmp_path / name)
    assert finding.level == "error"
    assert "a store of views" in finding.remedy


def test_a_path_that_does_not_exist_is_an_error(tmp_path):
    assert of_level(check(tmp_path / "gone"), "error") == ["no such file or folder"]


# -- memory


def test_layers_of_stable_diffusion_are_those_of_the_published_method():
    sizes = layer_sizes(architecture("sd15").unet, 64, None)
    assert sizes == [LayerSize(8, 1280, 16)] * 3 + [LayerSize(8, 640, 32)]


def test_the_original_needs_a_copy_of_every_score_of_picture_and_warped_copy():
    layers = [LayerSize(8, 1280, 16)] * 3 + [LayerSize(8, 640, 32)]
    memory = map_memory(layers, num_tokens=500, num_keypoints=10, map_px=128, pictures=2, block=2**27)
    # layers x heads x R^2 x N x 4 bytes, of two pictures, 2 and 3 times
    assert memory.upstream == (2 * 2 * 4 * 8 * 128**2 * 500 * 4, 3 * 2 * 4 * 8 * 128**2 * 500 * 4)
    assert memory.kept < memory.upstream[0] / 40


def test_working_memory_does_not_grow_with_the_pictures_beyond_a_block():
    layers = [LayerSize(8, 1280, 16)]
    options = {"num_tokens": 500, "num_keypoints": 10, "map_px": 128, "block": 2**27}
    few, many = (map_memory(layers, pictures=pictures, **options) for pictures in (4, 400))
    assert few.working == many.working
    assert many.kept > 50 * few.kept


def test_what_maps_keep_for_the_gradient_is_within_what_is_told():
    heads, features, side, tokens, kept_tokens, size, pictures = 4, 16, 8, 60, 5, 32, 3
    query = torch.randn(pictures, heads, side, side, features, requires_grad=True)
    key = torch.randn(heads, tokens, features, requires_grad=True)
    stored: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        stored[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    scores = TokenScores((LayerScores(query, key),), size)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        maps = scores.maps(torch.arange(kept_tokens))
    maps_bytes = 2 * maps.numel() * 4  # and their gradient
    gradients = (query.numel() + key.numel()) * 4
    layers = [LayerSize(heads, heads * features, side)]
    told = map_memory(
        layers, num_tokens=tokens, num_keypoints=kept_tokens, map_px=size, pictures=pictures, block=2**20
    ).kept
    assert told / 1.5 < sum(stored.values()) + maps_bytes + gradients <= told + 1000  # and a few indices
