"""A trained network as files for other programs."""

from pathlib import Path
from typing import Any, Literal

import torch

from keypoint_nvs.assembly import SYSTEM
from keypoint_nvs.loading import load_network
from keypoint_nvs.model.architectures import ARCHITECTURES
from keypoint_nvs.model.folder_writing import FolderParts, write_folder
from keypoint_nvs.model.trainable import merge_lora
from posecore.errors import InputError
from posecore.training.checkpoints import export_checkpoint, load_checkpoint


def export_run(checkpoint: Path, output: Path, form: Literal["safetensors", "diffusers"]) -> dict[str, Any]:
    """Write a checkpoint as safetensors with its meta.json, or its novel views as a folder of Zero123++.

    Raises:
        InputError: The folder holds something, or the run has no novel views (diffusers).
    """
    if form == "safetensors":
        folder = export_checkpoint(load_checkpoint(checkpoint, SYSTEM), output, {})
    else:
        folder = _export_diffusers(checkpoint, output)
    return {
        "folder": str(folder),
        "files": sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()),
    }


def _export_diffusers(checkpoint: Path, output: Path) -> Path:
    loaded = load_network(checkpoint, torch.device("cpu"))
    model = loaded.network.zero123
    if model is None:
        raise InputError(f"{checkpoint}: has no novel views; only those are written in the layout of diffusers")
    merge_lora(model.unet)
    parts = FolderParts(
        kind="zero123plus",
        unet=model.unet,
        vae=model.vae,
        scheduler=ARCHITECTURES["zero123plus"].scheduler,
        prompt_embeds=model.prompt_embeds,
        vision=model.vision,
        ramp=model.ramp.detach(),
        latent_shift=model.latent_shift,
        latent_scale=model.latent_scale,
        cond_px=model.autoencoder_px,
        view_px=model.view_px,
    )
    return write_folder(output, parts)
