"""Weights of image encoders: from a folder, from the hub, or random ones of a given size."""

import math
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from handvit.config.backbones import KINDS
from handvit.config.model import BackboneConfig
from handvit.model.architecture import Architecture, first_line, folder_of, model_class, transformers_config
from posecore.errors import InputError

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
POSITIONS = "embeddings.position_embeddings"
NOT_NEEDED = re.compile(
    r"(^|\.)(pooler|classifier|decoder|mask_token|relative_position_index|relative_coords_table)(\.|$)"
)
"""Parts of published files that the encoder itself does not have, or does not use."""
BLOCK = re.compile(r"(?:^|\.)layers?\.(\d+)\.")


def create_trunk(config: BackboneConfig, architecture: Architecture, img_size: int, load_weights: bool) -> nn.Module:
    """The encoder for square images of `img_size`, with its published weights unless only sizes were given.

    Position embeddings for another image size are interpolated once, here, as transformers does in every forward.

    Raises:
        InputError: Weights are missing, incomplete, or of another architecture.
    """
    wanted = transformers_config(_without_unused_blocks(architecture, config), img_size)
    if not load_weights or (config.backbone_str in KINDS and folder_of(config.backbone_str) is None):
        random: nn.Module = model_class(architecture)(wanted)
        if load_weights and architecture["model_type"] == "dinov2":  # MAE and SwinV2 have what it takes themselves
            _start_from_waves(random)
        return random
    published = transformers_config(_without_unused_blocks(architecture, config), None)
    stored = _load(config.backbone_str, published, architecture)
    if published.image_size in (img_size, [img_size, img_size], (img_size, img_size)):
        return stored
    if architecture["model_type"] == "swinv2" and POSITIONS in stored.state_dict():
        raise InputError(
            f"backbone_str {config.backbone_str}: its absolute position embeddings fit images of "
            f"{published.image_size} px only; model.img_size is {img_size}"
        )
    return _resized(stored, model_class(architecture)(wanted))


def interpolated_positions(positions: Float[Tensor, "1 n d"], num_positions: int) -> Float[Tensor, "1 m d"]:
    """Positions of class token and square grid for a grid of another size (bicubic, as in transformers)."""
    old, new = (round((count - 1) ** 0.5) for count in (positions.shape[1], num_positions))
    grid = positions[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2).float()
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False).to(positions.dtype)
    return torch.cat((positions[:, :1], grid.flatten(2).transpose(1, 2)), 1)


def wave_positions(side: int, width: int, amplitude: float = 0.5) -> Float[Tensor, "n d"]:
    """Sines and cosines of half turns and their multiples over the rows and the columns of a square grid.

    An encoder trained from nothing learns where things are several times sooner from these than from noise.

    Raises:
        ValueError: A width that is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"width {width}: half of it is needed for rows and half for columns, in pairs")
    turns = torch.arange(side) / side * math.pi
    phases = turns[:, None] * torch.arange(1, width // 4 + 1)
    axis = torch.cat([phases.sin(), phases.cos()], 1)
    rows, columns = axis[:, None].expand(side, side, -1), axis[None].expand(side, side, -1)
    return amplitude * torch.cat([rows, columns], -1).reshape(side * side, width)


def _start_from_waves(trunk: nn.Module) -> None:
    positions = dict(trunk.named_parameters())[POSITIONS]
    count, width = positions.shape[1] - 1, positions.shape[2]
    with torch.no_grad():
        positions[0, 1:] = wave_positions(math.isqrt(count), width)


def _resized(stored: nn.Module, fresh: nn.Module) -> nn.Module:
    state, expected = stored.state_dict(), fresh.state_dict()
    if POSITIONS in state:
        state[POSITIONS] = interpolated_positions(state[POSITIONS], expected[POSITIONS].shape[1])
    fresh.load_state_dict(state)
    return fresh


def _without_unused_blocks(architecture: Architecture, config: BackboneConfig) -> Architecture:
    if config.infusion_layer is None or architecture["model_type"] == "swinv2":
        return architecture
    return architecture | {"num_hidden_layers": max(config.infusion_layer[-1], 1)}


def _load(name: str, options: Any, architecture: Architecture) -> nn.Module:
    folder = folder_of(name)
    if folder is not None and not any((folder / file).is_file() for file in WEIGHT_FILES):
        raise InputError(
            f"backbone_str {name}: {folder} has no weights; one of {', '.join(WEIGHT_FILES)} should lie beside "
            "config.json"
        )
    source = name if folder is None else str(folder)
    try:
        with _quiet():
            model, report = model_class(architecture).from_pretrained(
                source,
                config=options,
                output_loading_info=True,
                dtype=torch.float32,
                local_files_only=folder is not None,
            )
    except pickle.UnpicklingError as error:
        raise InputError(
            f"backbone_str {name}: its weights could not be read: the file holds more than tensors"
        ) from error
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise InputError(f"backbone_str {name}: its weights could not be read: {first_line(error)}") from error
    _check_complete(name, report, getattr(options, "num_hidden_layers", None))
    loaded: nn.Module = model
    return loaded


def _check_complete(name: str, report: Any, num_blocks: int | None) -> None:
    """No parameter may be left random, none may be left over, but for what the encoder does not use."""

    def matters(key: str) -> bool:
        block = BLOCK.search(key)
        beyond = num_blocks is not None and block is not None and int(block.group(1)) >= num_blocks
        return not (NOT_NEEDED.search(key) or beyond)

    problems = [
        f"backbone_str {name}: {what} {_some(keys)}"
        for what, keys in (
            ("its weights lack", sorted(filter(matters, report["missing_keys"]))),
            ("its weights hold unknown", sorted(filter(matters, report["unexpected_keys"]))),
        )
        if keys
    ]
    if problems:
        raise InputError(problems)


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers' own loading report and bars stay away; `_check_complete` tells what matters."""
    from transformers.utils import logging as reports

    level, bars = reports.get_verbosity(), reports.is_progress_bar_enabled()
    reports.set_verbosity_error()
    reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if bars:
            reports.enable_progress_bar()
