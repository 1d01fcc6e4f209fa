"""A component of a folder as a module with its weights, through diffusers and transformers.

Their own `from_pretrained` is used because it knows the renames of a decade: the autoencoder's query/key/value/proj_attn,
the prefix that transformers 5 takes off. What it passes over in silence, or with a warning, is refused here.
"""

import contextlib
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from keypoint_nvs.model.folder_description import CLASSES
from keypoint_nvs.model.folder_files import LIBRARY, WeightFile
from posecore.errors import InputError

SHOWN = 8
"""Problems of one kind that are told before the rest is only counted."""


def load_component(folder: Path, component: str, file: WeightFile) -> nn.Module:
    """One of unet, vae, text_encoder, vision_encoder: float32, on the CPU, not in training mode.

    Raises:
        InputError: The file is damaged, or its keys or shapes are not those that config.json asks for.
    """
    _check_file(file)
    module, info = _load(folder, component, file)
    problems = [
        *(f"{file.path}: {key}: missing; config.json asks for it" for key in sorted(info["missing_keys"])),
        *(f"{file.path}: {key}: not part of a {CLASSES[component]}" for key in sorted(info["unexpected_keys"])),
        *(
            f"{file.path}: {key}: has shape {tuple(found)}, config.json asks for {tuple(wanted)}"
            for key, found, wanted in sorted(info["mismatched_keys"], key=lambda item: str(item[0]))
        ),
    ]
    if problems:
        raise InputError(shortened(problems, file.path))
    return module.eval()


def shortened(problems: list[str], subject: object) -> list[str]:
    """The first few, and how many more there are."""
    more = len(problems) - SHOWN
    return problems if more <= 0 else [*problems[:SHOWN], f"{subject}: and {more} more like these"]


def _check_file(file: WeightFile) -> None:
    """Read the header, so that a damaged file is told as such."""
    if not file.is_safetensors:
        return
    try:
        with safe_open(file.path, framework="pt") as opened:
            opened.keys()
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file.path}: damaged, or no safetensors file: {error}") from None


def _load(folder: Path, component: str, file: WeightFile) -> tuple[nn.Module, dict[str, Any]]:
    by_library: dict[str, Callable[..., Any]] = {"diffusers": _from_diffusers, "transformers": _from_transformers}
    options = {
        "local_files_only": True,
        "output_loading_info": True,
        "use_safetensors": file.is_safetensors,
        "variant": file.variant,
    }
    try:
        with quiet():
            module, info = by_library[LIBRARY[component]](component, str(folder / component), options)
    except pickle.UnpicklingError:
        raise InputError(f"{file.path}: holds more than tensors; that is not executed") from None
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, EOFError) as error:
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{folder / component}: cannot be loaded as a {CLASSES[component]}: {text}") from error
    return module, info


def _from_diffusers(component: str, path: str, options: dict[str, Any]) -> Any:
    import diffusers

    model = getattr(diffusers, CLASSES[component])
    try:
        return model.from_pretrained(path, torch_dtype=torch.float32, **options)
    except ValueError as error:
        if "expected shape" not in str(error):
            raise
        # with this option it tells all shapes instead of the first, but first fills a network with random numbers
        return model.from_pretrained(path, low_cpu_mem_usage=False, ignore_mismatched_sizes=True, **options)


def _from_transformers(component: str, path: str, options: dict[str, Any]) -> Any:
    import transformers

    model = getattr(transformers, CLASSES[component])
    return model.from_pretrained(path, dtype=torch.float32, ignore_mismatched_sizes=True, **options)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' bars and tables; what is wrong is told in our own words."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    before = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    diffusers_logging.set_verbosity(diffusers_logging.CRITICAL)
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(before[0])
        transformers_logging.set_verbosity(before[1])
        if had_bars:
            transformers_logging.enable_progress_bar()
