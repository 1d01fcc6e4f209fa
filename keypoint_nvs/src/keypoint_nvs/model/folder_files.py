"""The files of a folder in the layout of diffusers: which exist, which of several is taken, JSON read with a clear refusal."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from posecore.errors import InputError

INDEX: Final = "model_index.json"
UNET: Final = "unet"
VAE: Final = "vae"
TEXT: Final = "text_encoder"
VISION: Final = "vision_encoder"
SCHEDULER: Final = "scheduler"
FEATURES_VAE: Final = "feature_extractor_vae"
FEATURES_CLIP: Final = "feature_extractor_clip"
PROMPT_FILE: Final = "prompt_embeds.safetensors"
"""Ours: the empty prompt's embedding, in folders without a text encoder."""

LIBRARY: Final = {UNET: "diffusers", VAE: "diffusers", TEXT: "transformers", VISION: "transformers"}
_STEMS: Final = {
    "diffusers": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    "transformers": ("model", "pytorch_model"),
}
"""Of .safetensors and of .bin files."""


@dataclass(frozen=True)
class WeightFile:
    """The weights of a component, and how the library must be asked for them."""

    path: Path
    variant: str | None
    """fp16, or None for full precision."""
    is_safetensors: bool


def candidates(component: str) -> list[tuple[str, str | None, bool]]:
    """Names of weight files, best first: full precision before half, safetensors before .bin."""
    safe, binary = _STEMS[LIBRARY[component]]
    return [
        (f"{safe}.safetensors", None, True),
        (f"{binary}.bin", None, False),
        (f"{safe}.fp16.safetensors", "fp16", True),
        (f"{binary}.fp16.bin", "fp16", False),
    ]


def choose(component: str, names: Collection[str]) -> tuple[str, str | None, bool] | None:
    """The best of the files that are there; None: none is."""
    return next((candidate for candidate in candidates(component) if candidate[0] in names), None)


def find_weight_file(folder: Path, component: str) -> WeightFile:
    """Of a component of a folder.

    Raises:
        InputError: None of the names is there.
    """
    inside = folder / component
    found = choose(component, {path.name for path in inside.iterdir() if path.is_file()})
    if found is None:
        names = ", ".join(name for name, _, _ in candidates(component))
        raise InputError(f"{inside}: no weights; there must be one of {names}")
    name, variant, is_safetensors = found
    return WeightFile(inside / name, variant, is_safetensors)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """An object of a JSON file.

    Raises:
        InputError: There is none, or it is damaged.
    """
    if not path.is_file():
        raise InputError(f"{path}: missing; {what}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds {type(found).__name__}, it must be an object; {what}")
    return found
