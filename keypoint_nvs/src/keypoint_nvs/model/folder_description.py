"""What a folder in the layout of diffusers holds, told from its small files: nothing heavy is loaded.

Every mistake that the small files show is refused here, before gigabytes are read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from keypoint_nvs.model.architectures import LATENT_SCALE, LATENT_SHIFT, PROMPT_LENGTH, Kind
from keypoint_nvs.model.folder_files import (
    FEATURES_VAE,
    INDEX,
    PROMPT_FILE,
    SCHEDULER,
    TEXT,
    UNET,
    VAE,
    VISION,
    WeightFile,
    find_weight_file,
    read_json,
)
from keypoint_nvs.model.folder_schedule import ScheduleSettings, check_schedule, parse_schedule
from posecore.errors import InputError

PIPELINES: Final[dict[str, Kind]] = {
    "Zero123PlusPipeline": "zero123plus",
    "StableDiffusionPipeline": "stable-diffusion",
}
CLASSES: Final = {
    UNET: "UNet2DConditionModel",
    VAE: "AutoencoderKL",
    TEXT: "CLIPTextModel",
    VISION: "CLIPVisionModelWithProjection",
}
COND_PX: Final = 512
VIEW_PX: Final = 320
LATENT_CHANNELS: Final = 4


@dataclass(frozen=True)
class FolderDescription:
    """Settings and files of a folder that fit each other."""

    folder: Path
    kind: Kind
    settings: dict[str, dict[str, Any]]
    """config.json of each component that is there: unet, vae, text_encoder, vision_encoder."""
    weights: dict[str, WeightFile]
    ramp: tuple[float, ...] | None
    """77 numbers of the image prompt; None where the model has none."""
    scheduler: dict[str, Any]
    schedule: ScheduleSettings
    latent_shift: float
    latent_scale: float
    """Of the grid's latents. Zero123++'s own, unless model_index.json has others (a key of ours)."""
    cond_px: int
    """Side of the input view for the autoencoder."""
    view_px: int
    """Side of one view of the grid. Zero123++'s, unless model_index.json has another (a key of ours)."""


def describe_folder(folder: Path) -> FolderDescription:
    """Read the small files of a local folder.

    Raises:
        InputError: Something is missing or does not fit; each line names folder, component, key, value and what would be right.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; it must be in the layout of diffusers, with a {INDEX}")
    index = read_json(folder / INDEX, "a folder in the layout of diffusers has one")
    kind = _kind(index, folder)
    components = _components(folder, index, kind)
    settings = {name: read_json(folder / name / "config.json", f"the {name} needs it") for name in components}
    scheduler = read_json(
        folder / SCHEDULER / "scheduler_config.json", "it says which noise the model was trained with"
    )
    schedule = parse_schedule(scheduler, f"{folder / SCHEDULER / 'scheduler_config.json'}")
    if kind == "zero123plus":
        subject = f"{folder / SCHEDULER / 'scheduler_config.json'}"
        check_schedule(schedule, subject, beta_schedule="linear", prediction_type="v_prediction")
    _check_settings(folder, settings)
    return FolderDescription(
        folder=folder,
        kind=kind,
        settings=settings,
        weights={name: find_weight_file(folder, name) for name in components},
        ramp=_ramp(index, folder) if kind == "zero123plus" else None,
        scheduler=scheduler,
        schedule=schedule,
        latent_shift=_number(index, "latent_shift", LATENT_SHIFT, folder),
        latent_scale=_number(index, "latent_scale", LATENT_SCALE, folder),
        cond_px=_cond_px(folder),
        view_px=_view_px(index, folder),
    )


def _kind(index: Mapping[str, Any], folder: Path) -> Kind:
    name = index.get("_class_name")
    if isinstance(name, list) and name:  # newer diffusers put the file of a pipeline of one's own before its name
        name = name[-1]
    if not isinstance(name, str) or name not in PIPELINES:
        raise InputError(f"{folder / INDEX}: _class_name: is {name!r}, must be one of {', '.join(PIPELINES)}")
    return PIPELINES[name]


def _components(folder: Path, index: Mapping[str, Any], kind: Kind) -> list[str]:
    """Those that have weights. The text encoder may be replaced by the embedding of the empty prompt."""
    wanted = [UNET, VAE, *([] if (folder / PROMPT_FILE).is_file() else [TEXT])]
    if kind == "zero123plus":
        wanted.append(VISION)
    problems = []
    for name in wanted:
        entry = index.get(name)
        if not isinstance(entry, list) or len(entry) != 2 or entry[1] is None:
            problems.append(f"{folder / INDEX}: {name}: missing; a folder of kind {kind} needs it")
        elif entry[1] != CLASSES[name]:
            problems.append(f"{folder / INDEX}: {name}: is a {entry[1]}, must be a {CLASSES[name]}")
        elif not (folder / name).is_dir():
            problems.append(f"{folder / name}: no such folder; {INDEX} names it")
    if problems:
        raise InputError(problems)
    return wanted


def _ramp(index: Mapping[str, Any], folder: Path) -> tuple[float, ...]:
    subject = f"{folder / INDEX}: ramping_coefficients"
    found = index.get("ramping_coefficients")
    if not isinstance(found, list):
        raise InputError(f"{subject}: missing; Zero123++ has {PROMPT_LENGTH} numbers there")
    if len(found) != PROMPT_LENGTH:
        raise InputError(
            f"{subject}: has {len(found)} numbers, must have {PROMPT_LENGTH}, one a position of the prompt"
        )
    for i, value in enumerate(found):
        if not _is_number(value):
            raise InputError(f"{subject}[{i}]: is {value!r}, must be a number")
    return tuple(float(value) for value in found)


def _check_settings(folder: Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Widths of one component that another one must have."""
    unet, vae = settings[UNET], settings[VAE]
    problems = []

    def compare(component: str, key: str, wanted: object, why: str) -> None:
        value = settings[component].get(key, _DEFAULTS.get((component, key)))
        if value != wanted:
            problems.append(f"{folder / component / 'config.json'}: {key}: is {value}, must be {wanted}, {why}")

    for key in ("in_channels", "out_channels"):
        compare(UNET, key, vae.get("latent_channels", 4), "the vae's latent_channels")
    compare(VAE, "latent_channels", LATENT_CHANNELS, "as in every supported model")
    width = unet.get("cross_attention_dim", _DEFAULTS[UNET, "cross_attention_dim"])
    if TEXT in settings:
        text_width = settings[TEXT].get("hidden_size", _DEFAULTS[TEXT, "hidden_size"])
        compare(UNET, "cross_attention_dim", text_width, "the text_encoder's hidden_size")
        compare(TEXT, "max_position_embeddings", PROMPT_LENGTH, "the length of the prompt")
    if VISION in settings:
        compare(VISION, "projection_dim", width, "the unet's cross_attention_dim")
    if problems:
        raise InputError(problems)


_DEFAULTS: Final[dict[tuple[str, str], Any]] = {
    (UNET, "in_channels"): 4,
    (UNET, "out_channels"): 4,
    (UNET, "cross_attention_dim"): 1280,
    (VAE, "latent_channels"): 4,
    (TEXT, "hidden_size"): 512,
    (TEXT, "max_position_embeddings"): PROMPT_LENGTH,
    (VISION, "projection_dim"): 512,
}
"""What diffusers and transformers take where config.json leaves a key out."""


def _cond_px(folder: Path) -> int:
    file = folder / FEATURES_VAE / "preprocessor_config.json"
    if not file.is_file():
        return COND_PX
    crop = read_json(file, "sizes of the input view").get("crop_size")
    side = crop.get("height") if isinstance(crop, dict) else crop
    other = crop.get("width") if isinstance(crop, dict) else crop
    if not isinstance(side, int) or side != other or side <= 0:
        raise InputError(f"{file}: crop_size: is {crop!r}, must be the side of a square in pixels")
    return side


def _view_px(index: Mapping[str, Any], folder: Path) -> int:
    value = index.get("view_px", VIEW_PX)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0 or value % 8:
        raise InputError(f"{folder / INDEX}: view_px: is {value!r}, must be a multiple of 8, a side in pixels")
    return value


def _number(index: Mapping[str, Any], key: str, default: float, folder: Path) -> float:
    value = index.get(key, default)
    if not _is_number(value):
        raise InputError(f"{folder / INDEX}: {key}: is {value!r}, must be a number")
    return float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


__all__ = ["CLASSES", "PIPELINES", "FolderDescription", "describe_folder"]
