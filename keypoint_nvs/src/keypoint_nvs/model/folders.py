"""Real weights: folders in the layout of diffusers (Zero123++, Stable Diffusion 1.x and 2.x) as modules ready to be used."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from keypoint_nvs.model.architectures import PROMPT_LENGTH, Kind, empty_prompt_ids
from keypoint_nvs.model.folder_components import load_component
from keypoint_nvs.model.folder_description import FolderDescription, describe_folder
from keypoint_nvs.model.folder_files import PROMPT_FILE, TEXT, UNET, VAE, VISION
from keypoint_nvs.model.folder_schedule import ScheduleSettings
from keypoint_nvs.model.hub import local_folder
from posecore.errors import InputError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection


@dataclass(frozen=True)
class LoadedFolder:
    """What a folder holds; float32 on the CPU, whatever precision the files have."""

    folder: Path
    kind: Kind
    unet: "UNet2DConditionModel"
    vae: "AutoencoderKL"
    prompt_embeds: Float[Tensor, "1 77 d"] | None
    """The empty prompt. None: the conditioning was not asked for."""
    vision: "CLIPVisionModelWithProjection | None"
    """None: the model has no image prompt, or the conditioning was not asked for."""
    ramp: Float[Tensor, " 77"] | None
    """As vision."""
    scheduler: dict[str, Any]
    """scheduler_config.json."""
    schedule: ScheduleSettings
    latent_scaling: float
    """Latents of the grid, and of Stable Diffusion, are the autoencoder's times this."""
    latent_shift: float
    latent_scale: float
    """Of the grid: (latent - shift) * scale, after latent_scaling."""
    cond_px: int
    """Side of the input view for the autoencoder."""
    vision_px: int | None
    """Side of the input view for the vision encoder."""
    view_px: int
    """Side of one view of the grid."""


def read_folder(name: str | Path, *, conditioning: bool = True) -> LoadedFolder:
    """Load a folder, or a hub's repository (org/name) where a network or the hub's cache has it.

    Args:
        name: A local path goes before a hub's name.
        conditioning: False: neither prompt nor vision encoder is loaded (keypoints need none of them).

    Raises:
        InputError: Something is missing, damaged or does not fit.
    """
    described = describe_folder(local_folder(name))
    unet: Any = _load(described, UNET)
    vae: Any = _load(described, VAE)
    has_vision = conditioning and VISION in described.settings
    vision: Any = _load(described, VISION) if has_vision else None
    ramp = torch.tensor(described.ramp) if has_vision and described.ramp is not None else None
    return LoadedFolder(
        folder=described.folder,
        kind=described.kind,
        unet=unet,
        vae=vae,
        prompt_embeds=_prompt_embeds(described, unet.config.cross_attention_dim) if conditioning else None,
        vision=vision,
        ramp=ramp,
        scheduler=described.scheduler,
        schedule=described.schedule,
        latent_scaling=vae.config.scaling_factor,
        latent_shift=described.latent_shift,
        latent_scale=described.latent_scale,
        cond_px=described.cond_px,
        vision_px=None if vision is None else vision.config.image_size,
        view_px=described.view_px,
    )


@torch.no_grad()
def embed_empty_prompt(text: "CLIPTextModel") -> Float[Tensor, "1 77 d"]:
    """The constant part of Zero123++'s context. The encoder is not needed afterwards."""
    ids = torch.tensor([empty_prompt_ids(text.config.to_dict())], device=text.device)
    hidden: Tensor = text(input_ids=ids).last_hidden_state
    return hidden


def _load(described: FolderDescription, component: str) -> Any:
    return load_component(described.folder, component, described.weights[component])


def _prompt_embeds(described: FolderDescription, width: int) -> Float[Tensor, "1 77 d"]:
    if TEXT in described.settings:
        return embed_empty_prompt(_load(described, TEXT))
    return _read_prompt(described.folder / PROMPT_FILE, width)


def _read_prompt(file: Path, width: int) -> Float[Tensor, "1 77 d"]:
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: damaged, or no safetensors file: {error}") from None
    wanted = (1, PROMPT_LENGTH, width)
    if set(tensors) != {"prompt_embeds"}:
        raise InputError(f"{file}: holds {', '.join(sorted(tensors)) or 'nothing'}, must hold prompt_embeds alone")
    found = tensors["prompt_embeds"]
    if tuple(found.shape) != wanted:
        raise InputError(f"{file}: prompt_embeds: has shape {tuple(found.shape)}, must have {wanted}")
    return found.float()
