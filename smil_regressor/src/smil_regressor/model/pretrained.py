"""Reading backbone weights and timm models; the only file of the networks that touches files."""

import difflib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from posecore.errors import InputError

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` file, or of a torch file, which is read with `weights_only`."""
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    stored: Any = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(stored, dict) and isinstance(stored.get(key), dict):
            stored = stored[key]
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise InputError(f"{path}: holds no table of tensors; expected the weights of one network")
    return stored


def _overlay(path: Path) -> dict[str, Any]:
    """What timm must know of local weights: a file, or a folder in the hub's layout (config.json beside it)."""
    if not path.is_dir():
        return {"state_dict": read_state_dict(path)}
    files = [path / name for name in WEIGHT_FILES if (path / name).is_file()]
    if not files:
        raise InputError(f"{path}: has none of {', '.join(WEIGHT_FILES)}")
    overlay: dict[str, Any] = {"state_dict": read_state_dict(files[0])}
    if (path / "config.json").is_file():
        stored = json.loads((path / "config.json").read_text()).get("pretrained_cfg", {})
        overlay |= {key: tuple(stored[key]) for key in ("mean", "std") if key in stored}
    return overlay


def create_timm(name: str, pretrained: bool, weights: Path | None, features_only: bool, **options: Any) -> nn.Module:
    """A timm model without classifier: random, with hub weights, or with local weights (file or hub folder)."""
    import timm

    architecture = name.split(".")[0]
    if "/" not in name and not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise InputError(f"backbone {name}: timm has no such model{hint}")
    options |= {"features_only": True} if features_only else {"num_classes": 0}
    if weights is not None:
        pretrained, options["pretrained_cfg_overlay"] = True, _overlay(weights)
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **options)
    except OSError as error:  # no network, or the hub refused
        raise InputError(f"backbone {name}: its weights could not be fetched ({error}); give a local path") from error
    except RuntimeError as error:
        raise InputError(f"{weights or name}: does not fit backbone {name}: {str(error).splitlines()[0]}") from error
    return model
