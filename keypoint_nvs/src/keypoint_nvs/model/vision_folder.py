"""The image encoder alone, from a folder in the layout of transformers: to make Zero123++ from Stable Diffusion 2."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from keypoint_nvs.model.folder_components import quiet, shortened
from keypoint_nvs.model.folder_files import read_json
from posecore.errors import InputError

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection

KEPT = (
    "hidden_size",
    "intermediate_size",
    "projection_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
)
"""What rebuilds the encoder."""


def describe_vision(folder: Path) -> dict[str, Any]:
    """Settings of the image encoder in a folder of CLIP: of the whole model, or of the image encoder alone.

    Raises:
        InputError: There is no config.json, or it is none of CLIP.
    """
    file = folder / "config.json"
    kind = read_json(file, "a folder with an image encoder of CLIP has one").get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise InputError(f"{file}: model_type: is {kind!r}, must be clip or clip_vision_model")
    from transformers import CLIPVisionConfig

    found = CLIPVisionConfig.from_pretrained(str(folder), local_files_only=True).to_dict()
    return {name: found[name] for name in KEPT}


def read_vision(folder: Path) -> "CLIPVisionModelWithProjection":
    """With weights: float32, on the CPU.

    Raises:
        InputError: The file is missing or damaged, or its keys or shapes are not those that config.json asks for.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(**describe_vision(folder))
    options = {"local_files_only": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        with quiet():
            model, info = CLIPVisionModelWithProjection.from_pretrained(
                str(folder), config=config, dtype=torch.float32, **options
            )
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{folder}: cannot be loaded as an image encoder: {next(iter(str(error).splitlines()), '')}"
        ) from None
    problems = [f"{folder}: {key}: missing; config.json asks for it" for key in sorted(info["missing_keys"])]
    problems += [
        f"{folder}: {key}: has shape {tuple(there)}, config.json asks for {tuple(wanted)}"
        for key, there, wanted in sorted(info["mismatched_keys"], key=str)
    ]
    if problems:
        raise InputError(shortened(problems, folder))
    encoder: CLIPVisionModelWithProjection = model.eval()
    return encoder
