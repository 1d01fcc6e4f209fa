"""Novel views of many pictures into a store, from which keypoints are learnt."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from keypoint_nvs.assembly import build_network, find_beginning
from keypoint_nvs.config.inference import InferenceConfig
from keypoint_nvs.config.model import ModelConfig
from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.config.stages import NvsConfig
from keypoint_nvs.data.records import MultiviewSample
from keypoint_nvs.data.rgba_images import Rgba, made_square, opaque, read_rgba, resized
from keypoint_nvs.data.store_paths import SUFFIXES
from keypoint_nvs.data.store_writing import StoreWriter
from keypoint_nvs.loading import LoadedNetwork
from keypoint_nvs.model.folder_description import describe_folder
from keypoint_nvs.model.folder_files import INDEX
from keypoint_nvs.model.hub import local_folder
from keypoint_nvs.predict_files import VIDEOS, find_inputs
from keypoint_nvs.predictor import Predictor
from posecore.devices import choose_device
from posecore.errors import InputError


def generate_store(
    inputs: Sequence[Path],
    checkpoint: Path,
    output: Path,
    *,
    fit: str = "exact",
    rig: str = "zero123plus-v1.2",
    changes: Mapping[str, Any] | None = None,
    part: tuple[int, int] = (0, 1),
    device: str = "auto",
) -> dict[str, Any]:
    """Write a store with the pictures as input views and generated target views.

    Args:
        checkpoint: A run, or a folder in the layout of diffusers.
        rig: Cameras of such a folder.
        part: (i, n): every n-th picture from the i-th on, into a file of its own beside `output`.

    Raises:
        InputError: A picture is not square, two have one name, a video is among them, the store exists already, or there
            is no such model.
    """
    pictures = list(find_inputs(inputs))
    _check_pictures(pictures)
    index, count = part
    chosen = pictures[index::count]
    if not chosen:
        raise InputError(f"--shard {index}/{count}: no picture is left of {len(pictures)}")
    path = output if count == 1 else output.with_stem(f"{output.stem}-{index:05d}-of-{count:05d}")
    _check_output(path)
    predictor = open_generator(checkpoint, rig, device, changes or {})
    if not predictor.has_views:
        raise InputError(f"{checkpoint}: cannot make novel views; it was not trained from Zero123++")
    if predictor.rig.name == "free":
        raise InputError(
            f"{checkpoint}: model.rig is of its own; stores of generated views have one of Zero123++'s rigs"
        )
    with StoreWriter(path, predictor.rig.name) as writer:
        for picture in chosen:
            writer.append(_sample(predictor, picture, fit))
        writer.finish()
    return {"path": str(path), "rig": predictor.rig.name, "samples": len(chosen)}


def open_generator(checkpoint: Path, rig: str, device: str, changes: Mapping[str, Any]) -> Predictor:
    """Of a run, or of a folder as it was downloaded (or a hub's name)."""
    folder = local_folder(checkpoint)
    if not (folder / INDEX).is_file():
        return Predictor.load(checkpoint, device, changes)
    values = {name: value for name, value in changes.items() if value is not None}
    model = ModelConfig.from_dict(
        {"weights": str(folder), "rig": rig, "view_px": describe_folder(folder).view_px}, "model"
    )
    config = KeypointNvsConfig(model=model, nvs=NvsConfig(), inference=InferenceConfig.from_dict(values, "inference"))
    place = choose_device(device)
    network = build_network(config, find_beginning(config)).eval().requires_grad_(False).to(place)
    return Predictor(LoadedNetwork(folder, folder, config, network, place), config.inference)


def _check_pictures(paths: Sequence[Path]) -> None:
    """Each must be one object's, and the names tell them apart."""
    seen: dict[str, Path] = {}
    problems = []
    for path in paths:
        if path.suffix.lower() in VIDEOS:
            problems.append(f"{path}: is a video; give pictures, each of one object")
        elif path.stem in seen:
            problems.append(f"{path}: has the name of {seen[path.stem]}, and samples are named after files; rename one")
        seen.setdefault(path.stem, path)
    if problems:
        raise InputError(problems)


def _check_output(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: the name of a store ends in {' or '.join(SUFFIXES)}")
    if path.exists():
        raise InputError(f"{path}: exists already; remove it or choose another name")


def _sample(predictor: Predictor, path: Path, fit: str) -> MultiviewSample:
    rgba = made_square(read_rgba(path), fit, str(path))
    views = predictor.novel_views([rgba])[0]
    return MultiviewSample(
        sample_id=f"{path.stem}/0",
        cond_imgs=resized(rgba, views.shape[-1]),
        target_imgs=np.stack([_opaque(view) for view in views]),
        cond_camera=None,
        target_cameras=None,
    )


def _opaque(view: Tensor) -> Rgba:
    return opaque((view * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())
