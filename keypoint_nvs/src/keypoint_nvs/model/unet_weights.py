"""UNets that are published as one state dict: InstantMesh's white-background one, or a checkpoint of a training."""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from posecore.errors import InputError
from posecore.weights import load_weights

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

SUFFIXES = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")
LANDMARK = "time_embedding.linear_1.weight"
"""A key that the UNet has once and no other part has."""


def load_unet_weights(unet: "UNet2DConditionModel", path: Path) -> None:
    """Replace a UNet's weights.

    Raises:
        InputError: The file is damaged, has no UNet or several, or names or shapes differ.
    """
    load_weights(unet, {name: tensor.float() for name, tensor in read_unet_weights(path).items()}, str(path))


def read_unet_weights(path: Path) -> dict[str, Tensor]:
    """The UNet's tensors, under diffusers' names: `unet.` and whatever else stands before them is taken off.

    Raises:
        InputError: As `load_unet_weights`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; it must be a state dict of a UNet ({', '.join(SUFFIXES)})")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: ends in {path.suffix!r}, must be one of {', '.join(SUFFIXES)}")
    tensors = _read_tensors(path)
    prefixes = sorted(name.removesuffix(LANDMARK) for name in tensors if _is_landmark(name))
    if not prefixes:
        raise InputError(f"{path}: {LANDMARK}: missing, also with something before it; this is no UNet of diffusers")
    if len(prefixes) > 1:
        raise InputError(f"{path}: holds {len(prefixes)} UNets, under {', '.join(map(repr, prefixes))}; must hold one")
    prefix = prefixes[0]
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _is_landmark(name: str) -> bool:
    return name == LANDMARK or name.endswith(f".{LANDMARK}")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: damaged, or no safetensors file: {error}") from None
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(f"{path}: holds more than tensors, or is damaged; foreign objects are not executed") from None
    except (RuntimeError, EOFError, OSError) as error:
        raise InputError(f"{path}: damaged: {next(iter(str(error).splitlines()), '')}") from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds {type(found).__name__}, must be a dict of tensors by name")
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
