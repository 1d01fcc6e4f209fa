"""A model as a folder in the layout of diffusers, for other programs and for `read_folder`."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from keypoint_nvs.model.architectures import LATENT_SCALE, LATENT_SHIFT, Kind
from keypoint_nvs.model.folder_components import quiet
from keypoint_nvs.model.folder_description import CLASSES, COND_PX, PIPELINES, VIEW_PX
from keypoint_nvs.model.folder_files import (
    FEATURES_CLIP,
    FEATURES_VAE,
    INDEX,
    LIBRARY,
    PROMPT_FILE,
    SCHEDULER,
    TEXT,
    UNET,
    VAE,
    VISION,
)
from keypoint_nvs.model.preprocessing import clip_settings, vae_settings
from keypoint_nvs.model.trainable import has_lora
from posecore.errors import InputError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection

TOKENIZER: Final = "tokenizer"


@dataclass(frozen=True)
class FolderParts:
    """What is written. Give `text` or `prompt_embeds`; a source folder's text encoder goes before the latter."""

    kind: Kind
    unet: "UNet2DConditionModel"
    """Without LoRA layers: merge them first."""
    vae: "AutoencoderKL"
    scheduler: Mapping[str, Any]
    """As scheduler_config.json has it, with _class_name."""
    text: "CLIPTextModel | None" = None
    prompt_embeds: Float[Tensor, "1 77 d"] | None = None
    """Written where there is no text encoder. Only this package reads it."""
    vision: "CLIPVisionModelWithProjection | None" = None
    ramp: Float[Tensor, " 77"] | None = None
    latent_shift: float | Float[Tensor, "4 1 1"] = LATENT_SHIFT
    latent_scale: float | Float[Tensor, "4 1 1"] = LATENT_SCALE
    """The same for all channels. Written where they differ from Zero123++'s, as keys of model_index.json."""
    cond_px: int = COND_PX
    view_px: int = VIEW_PX
    """As latent_shift: only this package reads another one than 320."""


def write_folder(folder: Path, parts: FolderParts, source: Path | None = None) -> Path:
    """Write it whole or not at all; what is read back has equal bits.

    Args:
        folder: New, or empty.
        source: The folder that the model began from: its tokenizer and, where `parts` has none, its text encoder are copied.

    Raises:
        InputError: The folder holds something, or a part that the kind of model needs is not given.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is there and not empty; give a new folder")
    _check_parts(parts, source)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(draft, parts, source)
        draft.chmod(0o755)
        draft.replace(folder)
    except BaseException:
        shutil.rmtree(draft)
        raise
    return folder


def _check_parts(parts: FolderParts, source: Path | None) -> None:
    if has_lora(parts.unet):
        raise ValueError("the unet has LoRA layers; merge_lora makes them part of its weights")
    has_text = parts.text is not None or (source is not None and (source / TEXT).is_dir())
    if not has_text and parts.prompt_embeds is None:
        raise InputError("the folder needs a text encoder, or the embedding of the empty prompt")
    if (parts.kind == "zero123plus") != (parts.vision is not None) or (parts.vision is None) != (parts.ramp is None):
        raise InputError(
            f"a folder of kind {parts.kind} needs vision encoder and ramp if and only if it is zero123plus"
        )


def _write(folder: Path, parts: FolderParts, source: Path | None) -> None:
    index: dict[str, Any] = {"_class_name": _pipeline(parts.kind), "_diffusers_version": _diffusers_version()}
    modules: dict[str, nn.Module | None] = {UNET: parts.unet, VAE: parts.vae, TEXT: parts.text, VISION: parts.vision}
    for name, module in modules.items():
        if module is not None:
            _save(module, folder / name, name)
            index[name] = [LIBRARY[name], CLASSES[name]]
    if source is not None:
        index |= _copy(source, folder, [TOKENIZER, *([] if TEXT in index else [TEXT])])
    if TEXT not in index:
        assert parts.prompt_embeds is not None
        save_file({"prompt_embeds": parts.prompt_embeds.detach().cpu().contiguous()}, folder / PROMPT_FILE)
    if parts.vision is not None and parts.ramp is not None:
        _write_json(folder / FEATURES_VAE / "preprocessor_config.json", vae_settings(parts.cond_px))
        vision_px = parts.vision.config.image_size
        _write_json(folder / FEATURES_CLIP / "preprocessor_config.json", clip_settings(vision_px))
        index |= {name: ["transformers", "CLIPImageProcessor"] for name in (FEATURES_VAE, FEATURES_CLIP)}
        index["ramping_coefficients"] = parts.ramp.tolist()  # a float32 survives the way through a decimal float64
    _write_json(folder / SCHEDULER / "scheduler_config.json", dict(parts.scheduler))
    index[SCHEDULER] = ["diffusers", parts.scheduler["_class_name"]]
    index |= _own_number("latent_shift", parts.latent_shift, LATENT_SHIFT)
    index |= _own_number("latent_scale", parts.latent_scale, LATENT_SCALE)
    if parts.view_px != VIEW_PX:
        index["view_px"] = parts.view_px
    _write_json(folder / INDEX, dict(sorted(index.items())))
    _readable(folder)


def _save(module: nn.Module, folder: Path, component: str) -> None:
    saved: Any = module
    with quiet():
        saved.save_pretrained(folder, safe_serialization=True)
    if component == TEXT:
        _restore_prefix(folder / "model.safetensors")


def _restore_prefix(file: Path) -> None:
    """transformers 5 writes a text encoder's names without the prefix that version 4 needs; both read the old names."""
    old = {name if name.startswith("text_model.") else f"text_model.{name}": t for name, t in load_file(file).items()}
    save_file(old, file, metadata={"format": "pt"})


def _copy(source: Path, folder: Path, names: list[str]) -> dict[str, Any]:
    """Components that are the source's own, and their entries of the index."""
    index = json.loads((source / INDEX).read_text(encoding="utf-8"))
    found = [name for name in names if (source / name).is_dir() and name in index]
    for name in found:
        shutil.copytree(source / name, folder / name)
    return {name: index[name] for name in found}


def _own_number(key: str, value: float | Tensor, usual: float) -> dict[str, float]:
    """Nothing where it is the usual one, which other programs take without being told."""
    of_channels = torch.as_tensor(value, dtype=torch.float32).flatten()
    if not bool((of_channels == of_channels[0]).all()):
        raise InputError(f"{key}: is {of_channels.tolist()}, must be one number for all channels to be written")
    number = float(of_channels[0])
    return {} if number == float(torch.tensor(usual)) else {key: number}


def _pipeline(kind: Kind) -> str:
    return next(name for name, of in PIPELINES.items() if of == kind)


def _diffusers_version() -> str:
    from importlib.metadata import version

    return version("diffusers")


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _readable(folder: Path) -> None:
    """safetensors keeps its files from everyone but the owner."""
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)
