"""Published weight files, read without running anything that they hold."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from posecore.errors import InputError


def read_torch_file(path: Path, field: str) -> Any:
    """What `torch.save` wrote, as plain containers and tensors.

    Raises:
        InputError: No such file, or no torch file, or one that holds other things than tensors and plain values.
    """
    _check_is_file(path, field)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: no torch file of plain tensors, or a damaged one: {first}") from error


def read_tensors(path: Path, field: str) -> dict[str, Tensor]:
    """A state dict: .safetensors, or a torch file that is one or holds one under `model` or `state_dict`."""
    if path.suffix == ".safetensors":
        _check_is_file(path, field)
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: no safetensors file, or a damaged one: {error}") from error
    stored = read_torch_file(path, field)
    for name in ("model", "state_dict"):
        if isinstance(stored, Mapping) and isinstance(stored.get(name), Mapping):
            stored = stored[name]
    if not isinstance(stored, Mapping) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise InputError(f"{path}: should hold a state dict of tensors")
    return dict(stored)


def _check_is_file(path: Path, field: str) -> None:
    if not path.is_file():
        raise InputError(f"{field} {path}: no such file")
