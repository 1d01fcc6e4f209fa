"""Image encoders before they are built: which kind, which sizes; from the configuration, a folder or the hub.

transformers (some seconds of import) is loaded inside functions.
"""

import difflib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

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
    architecture = None if folder_of(name) is not None else known_architecture(name, config.kwargs)
    if architecture is None:
        stored = _stored_config(name)
        kind = stored.get("model_type")
        if kind not in KINDS:
            raise InputError(
                f"backbone_str {name}: its config.json says model_type {kind!r}; known are {', '.join(KINDS)}"
            )
        own = set(_known_fields(kind)) - set(NOT_SIZES)
        architecture = {key: value for key, value in stored.items() if key in own} | config.kwargs
    _check_kwargs(architecture["model_type"], config.kwargs)
    return architecture


def layout_of(architecture: Architecture, name: str, img_size: int) -> TrunkLayout:
    """What the network must know of the encoder; checks that the patch is a whole number of tokens."""
    options = transformers_config(architecture, img_size).to_dict()
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


def transformers_config(architecture: Architecture, img_size: int | None) -> Any:
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


def model_class(architecture: Architecture) -> Any:
    """The bare encoder of transformers, without a head."""
    import transformers

    return getattr(transformers, CLASSES[architecture["model_type"]][1])


def folder_of(name: str) -> Path | None:
    """The folder that a `backbone_str` names; None where it is a hub name or a kind."""
    path = Path(name).expanduser()
    return path if path.is_dir() else None


def first_line(error: Exception) -> str:
    """Of an error's message, or its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@cache
def _known_fields(kind: str) -> list[str]:
    import transformers

    return list(getattr(transformers, CLASSES[kind][0])().to_dict())


def _check_kwargs(kind: str, kwargs: Architecture) -> None:
    """transformers would keep an unknown field, and never read it."""
    known = _known_fields(kind)
    problems = []
    for name in kwargs:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        if name not in known:
            problems.append(f"backbone.kwargs.{name}: {kind} has no such field{hint}")
    if problems:
        raise InputError(problems)


def _stored_config(name: str) -> Architecture:
    folder = folder_of(name)
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
            f"backbone_str {name}: no such folder, and the hub gave no config.json ({first_line(error)})"
        ) from error
    return dict(found)
