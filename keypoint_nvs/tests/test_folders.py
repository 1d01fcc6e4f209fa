"""Folders in the layout of diffusers: what is read equals what was saved, and what does not fit is refused in one line."""

import dataclasses
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from keypoint_nvs.finding import find_weights
from keypoint_nvs.model.architectures import architecture
from keypoint_nvs.model.folder_description import describe_folder
from keypoint_nvs.model.folder_writing import FolderParts, write_folder
from keypoint_nvs.model.folders import LoadedFolder, embed_empty_prompt, read_folder
from keypoint_nvs.model.hub import local_folder
from keypoint_nvs.model.schedule import alphas_cumprod
from keypoint_nvs.model.vision_folder import read_vision
from posecore.errors import InputError

sys.path.append(str(Path(__file__).parent))
from weight_folders import as_stable_diffusion, edit_json, save_folder, tiny_modules

UNET_FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def modules() -> dict[str, nn.Module]:
    return tiny_modules()


@pytest.fixture(scope="module")
def saved(modules, tmp_path_factory) -> Path:
    return save_folder(tmp_path_factory.mktemp("saved") / "tiny", modules)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "tiny")


def equal(module: nn.Module, other: nn.Module) -> bool:
    own, others = module.state_dict(), other.state_dict()
    return own.keys() == others.keys() and all(torch.equal(own[name], others[name]) for name in own)


def assert_holds(loaded: LoadedFolder, modules: dict[str, nn.Module]) -> None:
    assert equal(loaded.unet, modules["unet"])
    assert equal(loaded.vae, modules["vae"])
    assert loaded.vision is not None
    assert equal(loaded.vision, modules["vision_encoder"])
    assert loaded.prompt_embeds is not None
    assert torch.equal(loaded.prompt_embeds, embed_empty_prompt(modules["text_encoder"]))


def test_a_folder_saved_by_diffusers_and_transformers_is_read_as_it_was(saved, modules):
    loaded = read_folder(saved)
    assert_holds(loaded, modules)
    assert loaded.kind == "zero123plus"
    assert loaded.ramp is not None
    assert loaded.ramp.tolist() == pytest.approx([i / 77 for i in range(77)], abs=1e-7)
    assert (loaded.cond_px, loaded.vision_px, loaded.latent_scaling) == (512, 32, modules["vae"].config.scaling_factor)
    assert (loaded.latent_shift, loaded.latent_scale) == (0.22, 0.75)
    assert torch.equal(loaded.schedule.alphas_cumprod(), alphas_cumprod("linear"))


def test_the_empty_prompt_is_that_of_the_token_ids(saved, modules):
    ids = torch.tensor([architecture("tiny").empty_prompt])
    with torch.no_grad():
        wanted = modules["text_encoder"](ids).last_hidden_state
    found = read_folder(saved).prompt_embeds
    assert found is not None
    assert found.shape == (1, 77, 64)
    assert torch.equal(found, wanted)


def test_stable_diffusion_has_no_image_prompt_and_its_own_schedule(folder, modules):
    loaded = read_folder(as_stable_diffusion(folder))
    assert (loaded.kind, loaded.vision, loaded.ramp) == ("stable-diffusion", None, None)
    assert loaded.schedule.prediction_type == "epsilon"
    assert torch.equal(loaded.schedule.alphas_cumprod(), alphas_cumprod("scaled_linear"))


def test_a_pipeline_that_newer_versions_saved_is_known_too(folder):
    edit_json(folder / "model_index.json", _class_name=["pipeline", "Zero123PlusPipeline"])
    assert describe_folder(folder).kind == "zero123plus"


def test_keypoints_need_neither_prompt_nor_vision_encoder(folder, modules):
    (folder / "vision_encoder" / "model.safetensors").write_bytes(b"never read")
    loaded = read_folder(folder, conditioning=False)
    assert (loaded.prompt_embeds, loaded.vision, loaded.ramp) == (None, None, None)
    assert equal(loaded.unet, modules["unet"])


def test_an_autoencoder_with_the_names_of_2022_is_read(folder, modules):
    file = folder / "vae" / UNET_FILE
    renames = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, tensor in load_file(file).items():
        for new_part, old_part in renames.items():
            name = name.replace(f"attentions.0.{new_part}.", f"attentions.0.{old_part}.")
        old[name] = tensor
    assert any("proj_attn" in name for name in old)
    save_file(old, file)
    assert equal(read_folder(folder).vae, modules["vae"])


def test_bin_files_and_a_text_encoder_with_old_names_are_read(folder, modules):
    for component in ("unet", "vae"):
        file = folder / component / UNET_FILE
        torch.save(load_file(file), file.with_suffix(".bin"))
        file.unlink()
    for component in ("text_encoder", "vision_encoder"):
        file = folder / component / "model.safetensors"
        tensors = load_file(file)
        if component == "text_encoder":
            tensors = {f"text_model.{name}": tensor for name, tensor in tensors.items()}
            tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        torch.save(tensors, file.with_name("pytorch_model.bin"))
        file.unlink()
    assert_holds(read_folder(folder), modules)


def test_a_half_precision_variant_is_read_as_float32(modules, tmp_path):
    halves = {name: module.half() for name, module in tiny_modules().items()}
    loaded = read_folder(save_folder(tmp_path / "halves", halves, variant="fp16"))
    assert {p.dtype for p in loaded.unet.parameters()} == {torch.float32}
    assert loaded.vision is not None
    assert {p.dtype for p in loaded.vision.parameters()} == {torch.float32}
    for own, half in zip(loaded.unet.parameters(), halves["unet"].parameters(), strict=True):
        assert torch.equal(own, half.float())


def test_full_precision_goes_before_half(folder, modules):
    modules_of_other_values = tiny_modules(seed=1)
    modules_of_other_values["unet"].half().save_pretrained(folder / "unet", variant="fp16")
    assert equal(read_folder(folder).unet, modules["unet"])


# -- writing


def parts_of(modules: dict[str, nn.Module], **changes: object) -> FolderParts:
    parts = FolderParts(
        kind="zero123plus",
        unet=modules["unet"],
        vae=modules["vae"],
        scheduler=architecture("tiny").scheduler,
        text=modules["text_encoder"],
        vision=modules["vision_encoder"],
        ramp=torch.linspace(0, 1.2, 77) ** 3,
        latent_shift=torch.full((4, 1, 1), 1 / 3),
        latent_scale=0.125,
        cond_px=32,
    )
    return dataclasses.replace(parts, **changes)


def test_a_written_folder_is_read_back_to_the_bit(modules, tmp_path):
    parts = parts_of(modules)
    loaded = read_folder(write_folder(tmp_path / "new", parts))
    assert_holds(loaded, modules)
    assert parts.ramp is not None
    assert torch.equal(loaded.ramp, parts.ramp)
    assert (torch.tensor(loaded.latent_shift), loaded.latent_scale, loaded.cond_px) == (torch.tensor(1 / 3), 0.125, 32)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_zero123plus_own_numbers_are_not_written_since_other_programs_know_them(modules, tmp_path):
    usual = parts_of(modules, latent_shift=torch.full((4, 1, 1), 0.22), latent_scale=0.75)
    written = write_folder(tmp_path / "new", usual)
    assert "latent" not in (written / "model_index.json").read_text()
    loaded = read_folder(written, conditioning=False)
    assert (loaded.latent_shift, loaded.latent_scale) == (0.22, 0.75)


def test_without_a_text_encoder_the_embedding_of_the_empty_prompt_is_kept(modules, tmp_path):
    embedding = torch.randn(1, 77, 64)
    written = write_folder(tmp_path / "new", parts_of(modules, text=None, prompt_embeds=embedding))
    assert torch.equal(read_folder(written).prompt_embeds, embedding)


def test_the_text_encoder_and_the_tokenizer_of_the_source_are_copied(folder, modules, tmp_path):
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    edit_json(folder / "model_index.json", tokenizer=["transformers", "CLIPTokenizer"])
    written = write_folder(tmp_path / "new", parts_of(modules, text=None), source=folder)
    assert (written / "tokenizer" / "vocab.json").is_file()
    assert_holds(read_folder(written), modules)


def test_names_of_a_written_text_encoder_are_those_that_other_programs_know(modules, tmp_path):
    written = write_folder(tmp_path / "new", parts_of(modules))
    assert all(name.startswith("text_model.") for name in load_file(written / "text_encoder" / "model.safetensors"))


def test_a_folder_that_holds_something_is_not_written_over(modules, folder):
    with pytest.raises(InputError, match="is there and not empty; give a new folder"):
        write_folder(folder, parts_of(modules))


# -- refusals


def damage(folder: Path, how: str) -> None:
    index, unet = folder / "model_index.json", folder / "unet" / UNET_FILE
    if how == "no vision encoder":
        edit_json(index, vision_encoder=None)
    elif how == "no folder of the vae":
        shutil.rmtree(folder / "vae")
    elif how == "no weights":
        unet.unlink()
    elif how == "no index":
        index.unlink()
    elif how == "index of no json":
        index.write_text("{")
    elif how == "other pipeline":
        edit_json(index, _class_name="StableDiffusionXLPipeline")
    elif how == "no class":
        edit_json(index, _class_name=None)
    elif how == "other class":
        edit_json(index, text_encoder=["transformers", "CLIPTextModelWithProjection"])
    elif how == "short ramp":
        edit_json(index, ramping_coefficients=[0.0] * 76)
    elif how == "ramp of text":
        edit_json(index, ramping_coefficients=[*[0.0] * 76, "x"])
    elif how == "scaled_linear":
        edit_json(folder / "scheduler" / "scheduler_config.json", beta_schedule="scaled_linear")
    elif how == "epsilon":
        edit_json(folder / "scheduler" / "scheduler_config.json", prediction_type="epsilon")
    elif how == "cosine":
        edit_json(folder / "scheduler" / "scheduler_config.json", beta_schedule="squaredcos_cap_v2")
    elif how == "narrow prompt":
        edit_json(folder / "unet" / "config.json", cross_attention_dim=48)
    elif how == "truncated":
        unet.write_bytes(unet.read_bytes()[:1000])
    else:
        change_tensors(unet, how)


def change_tensors(file: Path, how: str) -> None:
    tensors = load_file(file)
    if how == "missing key":
        del tensors["conv_in.bias"]
    elif how == "foreign key":
        tensors["control.weight"] = torch.zeros(1)
    elif how == "other shape":
        tensors["conv_in.bias"] = torch.zeros(31)
    save_file(tensors, file)


REFUSALS = {
    "no vision encoder": "model_index.json: vision_encoder: missing; a folder of kind zero123plus needs it",
    "no folder of the vae": "vae: no such folder; model_index.json names it",
    "no weights": "unet: no weights; there must be one of diffusion_pytorch_model.safetensors, diffusion_pytorch_model.bin,",
    "no index": "model_index.json: missing; a folder in the layout of diffusers has one",
    "index of no json": "model_index.json: not JSON",
    "other pipeline": "_class_name: is 'StableDiffusionXLPipeline', must be one of Zero123PlusPipeline, StableDiffusionPipeline",
    "no class": "model_index.json: _class_name: is None, must be one of Zero123PlusPipeline, StableDiffusionPipeline",
    "other class": "text_encoder: is a CLIPTextModelWithProjection, must be a CLIPTextModel",
    "short ramp": "ramping_coefficients: has 76 numbers, must have 77",
    "ramp of text": "ramping_coefficients[76]: is 'x', must be a number",
    "scaled_linear": "scheduler_config.json: beta_schedule: is 'scaled_linear', must be 'linear'",
    "epsilon": "scheduler_config.json: prediction_type: is 'epsilon', must be 'v_prediction'",
    "cosine": "beta_schedule: is 'squaredcos_cap_v2', must be one of linear, scaled_linear",
    "narrow prompt": "unet/config.json: cross_attention_dim: is 48, must be 64, the text_encoder's hidden_size",
    "truncated": f"unet/{UNET_FILE}: damaged, or no safetensors file",
    "missing key": f"unet/{UNET_FILE}: conv_in.bias: missing; config.json asks for it",
    "foreign key": f"unet/{UNET_FILE}: control.weight: not part of a UNet2DConditionModel",
    "other shape": f"unet/{UNET_FILE}: conv_in.bias: has shape (31,), config.json asks for (32,)",
}


@pytest.mark.parametrize("how", REFUSALS)
def test_what_does_not_fit_is_told_by_folder_component_key_and_value(how, folder):
    damage(folder, how)
    with pytest.raises(InputError) as caught:
        read_folder(folder)
    problem = caught.value.problems[0]
    assert problem.startswith(str(folder))
    assert REFUSALS[how] in problem
    assert "\n" not in problem


def test_shapes_of_a_text_encoder_are_checked_too(folder):
    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if "position_embedding" in name)
    save_file(tensors | {name: torch.zeros(3, 3)}, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"has shape \(3, 3\), config.json asks for \(77, 64\)"):
        read_folder(folder)


def test_foreign_objects_in_a_bin_file_are_not_executed(folder, tmp_path):
    class Foreign:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    file = folder / "unet" / UNET_FILE
    torch.save({"conv_in.weight": Foreign()}, file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(InputError, match="unet"):
        read_folder(folder)
    assert not (tmp_path / "executed").exists()


# -- the hub


@pytest.fixture
def offline(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_a_name_of_the_hub_without_a_network_says_to_give_a_path(offline, tmp_path):
    with pytest.raises(InputError, match="nobody/model: no such folder here, nor in the cache of the hub"):
        local_folder("nobody/model", tmp_path)


def test_a_downloaded_repository_is_taken_from_the_cache(offline, saved, tmp_path):
    there = cached(saved, tmp_path)
    assert local_folder("some/model", tmp_path) == there


def cached(folder: Path, cache: Path) -> Path:
    """A folder as the hub's programs keep it; returns where it then is."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / "models--some--model"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return repository / "snapshots" / commit


@pytest.mark.parametrize("download", [True, False])
def test_an_image_encoder_alone_is_taken_from_the_cache(offline, modules, tmp_path, download):
    modules["vision_encoder"].save_pretrained(tmp_path / "clip")
    there = cached(tmp_path / "clip", tmp_path / "cache")
    found = local_folder("some/model", tmp_path / "cache", layout="vision", download=download)
    assert found == there
    assert equal(read_vision(found), modules["vision_encoder"])


@pytest.mark.parametrize("field", ["model.weights", "keypoints.weights"])
def test_a_field_may_name_a_repository_of_the_hub(offline, saved, tmp_path, monkeypatch, field):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    there = cached(saved, tmp_path)
    assert find_weights(Path("some/model"), field, []) == there


def test_what_neither_the_disk_nor_the_hub_has_is_told_with_its_field_and_page(offline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        find_weights(Path("nobody/clip"), "model.vision_weights", [])
    assert "model.vision_weights: nobody/clip: no such folder here, nor in the cache of the hub" in str(caught.value)
    assert "https://huggingface.co/laion/CLIP-ViT-H-14" in str(caught.value)


def test_a_name_in_a_folder_that_is_here_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match=r"model\.weights: runs/first does not exist"):
        find_weights(Path("runs/first"), "model.weights", [])


def test_a_path_that_is_no_name_of_the_hub_stays_a_path():
    path = Path("/nowhere/at/all")
    assert local_folder(path) == path
    with pytest.raises(InputError, match="/nowhere/at/all: no such folder"):
        read_folder(path)
