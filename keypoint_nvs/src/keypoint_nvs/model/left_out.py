"""Networks that are never trained, left out of what is saved: a digest of their weights stands for them."""

from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from posecore.errors import InputError


def leave_out(module: nn.Module, children: Sequence[str], field: str) -> None:
    """From now on `state_dict` has `weights_digest` instead of the weights of these children, and loading checks it.

    Args:
        children: Names of modules that have their final weights.
        field: Of the configuration, where they come from; for the refusal.

    Loading a state of other weights raises InputError.
    """
    digest = weights_digest([getattr(module, name) for name in children])
    module.register_buffer("weights_digest", digest.clone())
    module.register_state_dict_post_hook(partial(_remove, tuple(children)))  # type: ignore[no-untyped-call]
    module.register_load_state_dict_post_hook(partial(_check, tuple(children), digest, field))  # type: ignore[no-untyped-call]


def weights_digest(networks: Sequence[nn.Module]) -> UInt8[Tensor, "32"]:
    """SHA-256 of all names, types, shapes and values."""
    total = sha256()
    for network in networks:
        for name, value in network.state_dict().items():
            total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return torch.frombuffer(bytearray(total.digest()), dtype=torch.uint8)


def _remove(children: tuple[str, ...], module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    gone = tuple(f"{prefix}{child}." for child in children)
    for name in [name for name in state if name.startswith(gone)]:
        del state[name]


def _check(children: tuple[str, ...], digest: Tensor, field: str, module: nn.Module, incompatible: Any) -> None:
    """torch tells whole names, not from which module on: children's names are as good as unique."""
    incompatible.missing_keys[:] = [
        name for name in incompatible.missing_keys if not any(f".{child}." in f".{name}" for child in children)
    ]
    found: Any = module.weights_digest
    if not torch.equal(found.cpu(), digest):
        raise InputError(
            f"{field}: holds other weights (SHA-256 {_short(digest)}) than those that this was trained with "
            f"({_short(found)}), which were left out of its checkpoints; name the folder with these"
        )


def _short(digest: Tensor) -> str:
    return bytes(digest.tolist()).hex()[:12]
