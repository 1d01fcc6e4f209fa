"""Folders of tiny networks as diffusers and transformers themselves save them."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerAncestralDiscreteScheduler
from torch import nn

from keypoint_nvs.model.architectures import architecture, build_text, build_unet, build_vae, build_vision

RAMP = [i / 77 for i in range(77)]
INDEX = {
    "_class_name": "Zero123PlusPipeline",
    "_diffusers_version": "0.17.1",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "vision_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"],
    "ramping_coefficients": RAMP,
}


def tiny_modules(seed: int = 0) -> dict[str, nn.Module]:
    """By the names of their folders."""
    torch.manual_seed(seed)
    arch = architecture("tiny")
    vision = build_vision(arch)
    assert vision is not None
    modules = {
        "unet": build_unet(arch),
        "vae": build_vae(arch),
        "text_encoder": build_text(arch),
        "vision_encoder": vision,
    }
    return {name: module.eval() for name, module in modules.items()}


def save_folder(folder: Path, modules: dict[str, nn.Module], **options: Any) -> Path:
    """Zero123++'s layout; options of save_pretrained."""
    for name, module in modules.items():
        module.save_pretrained(folder / name, **options)
    settings = {key: value for key, value in architecture("tiny").scheduler.items() if key != "_class_name"}
    EulerAncestralDiscreteScheduler(**settings).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    return folder


def edit_json(file: Path, **changes: Any) -> None:
    """None takes a key out."""
    value = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: v for key, v in value.items() if v is not None}))


def as_stable_diffusion(folder: Path) -> Path:
    """Without an image prompt, with the other schedule."""
    edit_json(
        folder / "model_index.json",
        _class_name="StableDiffusionPipeline",
        vision_encoder=None,
        ramping_coefficients=None,
        safety_checker=[None, None],
    )
    edit_json(folder / "scheduler" / "scheduler_config.json", beta_schedule="scaled_linear", prediction_type="epsilon")
    return folder
