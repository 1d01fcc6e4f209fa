"""Weights as safetensors files, and into models."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from posecore.errors import InputError


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """`load_state_dict` with a readable refusal."""
    own = model.state_dict()
    problems = [f"{source}: {name}: missing; this configuration needs it" for name in own.keys() - weights.keys()]
    problems += [
        f"{source}: {name}: not part of the model that this configuration builds"
        for name in weights.keys() - own.keys()
    ]
    problems += [
        f"{source}: {name}: has shape {tuple(weights[name].shape)}, the model needs {tuple(own[name].shape)}"
        for name in own.keys() & weights.keys()
        if own[name].shape != weights[name].shape
    ]
    if problems:
        shown = sorted(problems)[:8]
        more = len(problems) - len(shown)
        raise InputError([*shown, f"{source}: and {more} more like these"] if more else shown)
    model.load_state_dict(dict(weights))


def save_weights(weights: Mapping[str, Tensor], file: Path) -> None:
    save_file(_unshared(weights), file)
    file.chmod(0o666 & ~_umask())  # safetensors keeps its files from everyone but the owner


def _umask() -> int:
    """Python has no way to read it but to set it."""
    current = os.umask(0o077)
    os.umask(current)
    return current


def _unshared(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors; safetensors refuses tensors that share memory (tied weights), so each gets its own."""
    seen: set[int] = set()
    own = {}
    for name, tensor in weights.items():
        value = tensor.detach().cpu().contiguous()
        address = value.untyped_storage().data_ptr()
        own[name] = value.clone() if address in seen else value
        seen.add(address)
    return own
