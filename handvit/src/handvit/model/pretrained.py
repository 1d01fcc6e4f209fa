"""Image encoders of transformers with their weights: from a folder, the hub, or random ones of a given size.

The only file of the networks that touches files. transformers (some seconds of import) is loaded inside functions.
"""

import difflib
import json
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from handvit.config.backbones import KINDS, PUBLIC, known_architecture
from handvit.config.model import BackboneConfig, ModelConfig, token_stride
from handvit.model.backbone import TrunkLayout
from posecore.errors import InputError

Architecture = dict[str, Any]

CLASSES = {
    "dinov2": ("Dinov2Config", "Dinov2Model"),
    "vit_mae": ("ViTMAEConfig", "ViTMAEModel"),
    "swinv2": ("Swinv2Config", "Swinv2Model"),
}
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
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
NOT_SIZES = (
    *("architectures", "transformers_version", "dtype", "torch_dtype", "_name_or_path"),
    *("out_features", "out_indices", "stage_names"),
)
"""Fields of a config.json that say nothing of the encoder's architecture."""


def resolved(config: ModelConfig) -> ModelConfig:
    """The same network with its encoder's sizes written out: builds anywhere, without folder and hub.

    To be kept with a checkpoint, whose weights are complete.
    """
    architecture = read_architecture(config.backbone)
    kwargs = {key: value for key, value in architecture.items() if key not in ("model_type", "image_size")}
    fields = {"backbone_str": architecture["model_type"], "kwargs": kwargs}
    return config.model_copy(update={"backbone": config.backbone.model_copy(update=fields)})


def read_architecture(config: BackboneConfig) -> Architecture:
    """Kind and sizes of the encoder, from the configuration, a folder's config.json or the hub's.

    Raises:
        InputError: No such folder or hub model, or a kind that is not known here.
    """
    name = config.backbone_str
    architecture = None if _folder(name) is not None else known_architecture(name, config.kwargs)
    if architecture is None:
        stored = _stored_config(name)
        kind = stored.get("model_type")
        if kind not in KINDS:
            raise InputError(
                f"backbone_str {name}: its config.json says model_type {kind!r}; known are {', '.join(KINDS)}"
            )
        architecture = {key: value for key, value in stored.items() if key not in NOT_SIZES} | config.kwargs
    _check_kwargs(architecture["model_type"], config.kwargs)
    return architecture


def layout_of(architecture: Architecture, name: str, img_size: int) -> TrunkLayout:
    """What the network must know of the encoder; checks that the patch is a whole number of tokens."""
    options = _config(architecture, img_size).to_dict()
    kind = architecture["model_type"]
    is_swin = kind == "swinv2"
    depths = len(options["depths"]) if is_swin else int(options["num_hidden_layers"])
    width = options["embed_dim"] * 2 ** (depths - 1) if is_swin else options["hidden_size"]
    stride = token_stride(options)
    if stride is None:
        raise InputError(f"backbone_str {name}: patch_size {options.get('patch_size')!r} should be one number")
    if img_size % stride:
        raise InputError(f"model.img_size {img_size} is no multiple of {stride}, the token size of {name}")
    return TrunkLayout(kind, int(width), stride, depths)


def create_trunk(config: BackboneConfig, architecture: Architecture, img_size: int, load_weights: bool) -> nn.Module:
    """The encoder for square images of `img_size`, with its published weights unless only sizes were given.

    Position embeddings for another image size are interpolated once, here, as transformers does in every forward.

    Raises:
        InputError: Weights are missing, incomplete, or of another architecture.
    """
    wanted = _config(_without_unused_blocks(architecture, config), img_size)
    if not load_weights or (config.backbone_str in KINDS and _folder(config.backbone_str) is None):
        random: nn.Module = _model_class(architecture)(wanted)
        return random
    published = _config(_without_unused_blocks(architecture, config), None)
    stored = _load(config.backbone_str, published, architecture)
    if published.image_size in (img_size, [img_size, img_size], (img_size, img_size)):
        return stored
    return _resized(stored, _model_class(architecture)(wanted), config.backbone_str)


def interpolated_positions(positions: Float[Tensor, "1 n d"], num_positions: int) -> Float[Tensor, "1 m d"]:
    """Positions of class token and square grid for a grid of another size (bicubic, as in transformers)."""
    old, new = (round((count - 1) ** 0.5) for count in (positions.shape[1], num_positions))
    grid = positions[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2).float()
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False).to(positions.dtype)
    return torch.cat((positions[:, :1], grid.flatten(2).transpose(1, 2)), 1)


def _resized(stored: nn.Module, fresh: nn.Module, name: str) -> nn.Module:
    state, expected = stored.state_dict(), fresh.state_dict()
    if POSITIONS in state and state[POSITIONS].shape != expected[POSITIONS].shape:
        if type(fresh).__name__ == "Swinv2Model":
            raise InputError(f"backbone_str {name}: absolute position embeddings of swinv2 fit their own size only")
        state[POSITIONS] = interpolated_positions(state[POSITIONS], expected[POSITIONS].shape[1])
    fresh.load_state_dict(state)
    return fresh


def _without_unused_blocks(architecture: Architecture, config: BackboneConfig) -> Architecture:
    if config.infusion_layer is None or architecture["model_type"] == "swinv2":
        return architecture
    return architecture | {"num_hidden_layers": max(config.infusion_layer[-1], 1)}


def _load(name: str, options: Any, architecture: Architecture) -> nn.Module:
    folder = _folder(name)
    if folder is not None and not any((folder / file).is_file() for file in WEIGHT_FILES):
        raise InputError(
            f"backbone_str {name}: {folder} has no weights; one of {', '.join(WEIGHT_FILES)} should lie beside "
            "config.json"
        )
    source = name if folder is None else str(folder)
    try:
        with _quiet():
            model, report = _model_class(architecture).from_pretrained(
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
        raise InputError(f"backbone_str {name}: its weights could not be read: {_first_line(error)}") from error
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


def _check_kwargs(kind: str, kwargs: Architecture) -> None:
    """transformers would keep an unknown field, and never read it."""
    import transformers

    known = list(getattr(transformers, CLASSES[kind][0])().to_dict())
    problems = []
    for name in kwargs:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        if name not in known:
            problems.append(f"backbone.kwargs.{name}: {kind} has no such field{hint}")
    if problems:
        raise InputError(problems)


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")


def _folder(name: str) -> Path | None:
    path = Path(name).expanduser()
    return path if path.is_dir() else None


def _stored_config(name: str) -> Architecture:
    folder = _folder(name)
    if folder is not None:
        file = folder / "config.json"
        if not file.is_file():
            raise InputError(f"backbone_str {name}: {file} is missing; the folder should hold config.json and weights")
        try:
            stored: Any = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{file}: not valid JSON: {error}") from error
        if not isinstance(stored, dict):
            raise InputError(f"{file}: holds a {type(stored).__name__}; an object is needed")
        return stored
    if not HUB_NAME.fullmatch(name) or name.startswith("."):
        raise InputError(
            f"backbone_str {name}: no such folder; should be a folder with config.json and model.safetensors, a hub "
            f"name such as {next(iter(PUBLIC))}, or one of {', '.join(KINDS)} with kwargs"
        )
    from transformers import PretrainedConfig

    try:
        found, _ = PretrainedConfig.get_config_dict(name)
    except OSError as error:
        raise InputError(
            f"backbone_str {name}: no such folder, and the hub gave no config.json ({_first_line(error)})"
        ) from error
    return dict(found)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _config(architecture: Architecture, img_size: int | None) -> Any:
    """transformers' configuration; without an image size, for the one that the weights were stored with."""
    import transformers

    kind = architecture["model_type"]
    options = {key: value for key, value in architecture.items() if key != "model_type"}
    options |= {} if img_size is None else {"image_size": img_size}
    options["attn_implementation"] = "eager" if kind == "swinv2" else "sdpa"
    if kind == "vit_mae":
        options["mask_ratio"] = 0.0
    try:
        config = getattr(transformers, CLASSES[kind][0])(**options)
    except Exception as error:  # transformers raises its own classes for wrong values
        raise InputError(f"backbone.kwargs do not make a {kind}: {' '.join(str(error).split())}") from error
    return config


def _model_class(architecture: Architecture) -> Any:
    import transformers

    return getattr(transformers, CLASSES[architecture["model_type"]][1])


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
