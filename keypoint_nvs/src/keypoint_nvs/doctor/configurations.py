"""Configurations: fields, the files that they name, whether those fit together, and the memory of the maps."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keypoint_nvs.assembly import find_beginning
from keypoint_nvs.config.data import DatasetConfig
from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.data.sources import open_source
from keypoint_nvs.doctor.memory import MapMemory, layer_sizes, map_memory
from keypoint_nvs.doctor.weights import check_run
from keypoint_nvs.experiment import source_options, with_found_files
from keypoint_nvs.finding import find_data, find_weights
from keypoint_nvs.model.folder_description import describe_folder
from keypoint_nvs.model.folder_files import INDEX
from keypoint_nvs.model.hub import PAGE, is_hub_name
from keypoint_nvs.model.token_softmax import GPU_BLOCK
from keypoint_nvs.model.unet_weights import read_unet_weights
from keypoint_nvs.model.vision_folder import describe_vision
from keypoint_nvs.rig import rig_of
from posecore.config import load_config
from posecore.doctor import Finding, from_error
from posecore.errors import InputError


def check_config(path: Path) -> list[Finding]:
    """The fields and all that they name; paths are relative to the working folder, then to the file."""
    config = load_config(KeypointNvsConfig, path)
    model = config.model
    origin = f"architecture {model.architecture}" if model.weights is None else f"weights of {model.weights}"
    text = f"stage {config.stage}, {origin}: no unknown or impossible field"
    weights = _weights(path, config)
    findings = [Finding("ok", str(path), text), *weights, *_data(path, config)]
    if not config.data.train:
        findings.append(Finding("warning", str(path), "data.train names no data set", "give --data PATH to train"))
    if all(finding.level == "ok" for finding in weights) and not any(f.level == "error" for f in findings):
        findings += _together(path, config)
    return findings


def _weights(path: Path, config: KeypointNvsConfig) -> list[Finding]:
    """Each path on its own, without loading networks."""
    named: list[tuple[str, Path | None, Callable[[Path], str]]] = [
        ("model.weights", config.model.weights, _folder_or_run),
        ("model.unet_weights", config.model.unet_weights, lambda p: f"a UNet of {len(read_unet_weights(p))} tensors"),
        ("model.vision_weights", config.model.vision_weights, lambda p: f"{describe_vision(p)['image_size']} px"),
        ("train.weights", config.train.weights, _folder_or_run),
    ]
    if config.keypoints is not None:
        named.append(("keypoints.weights", config.keypoints.weights, _folder_or_run))
    findings: list[Finding] = []
    for field, place, describe in named:
        if place is None:
            continue
        try:
            found = find_weights(place, field, [path.parent], download=False)
            findings.append(Finding("ok", f"{field}: {found}", describe(found)))
        except InputError as error:
            findings += from_error(path, error) if not is_hub_name(place) else [_not_here(field, place)]
    return findings


def _not_here(field: str, name: Path) -> Finding:
    text = "is neither a folder here nor in the cache of the hub"
    remedy = (
        f"training downloads {PAGE}/{name} where a network is; elsewhere download it before, or give the folder's path"
    )
    return Finding("warning", f"{field}: {name}", text, remedy)


def _folder_or_run(path: Path) -> str:
    if (path / INDEX).is_file():
        described = describe_folder(path)
        return f"{described.kind}, {described.schedule.prediction_type}, betas {described.schedule.beta_schedule}"
    return check_run(path)[0].text


def _data(path: Path, config: KeypointNvsConfig) -> list[Finding]:
    """Each data set is opened, and its first sample read."""
    findings: list[Finding] = []
    for part in ("train", "val"):
        datasets: Sequence[DatasetConfig] = getattr(config.data, part)
        for dataset in datasets:
            subject = f"data.{part}: {dataset.path}"
            try:
                found = dataset.model_copy(update={"path": find_data(dataset.path, [path.parent]), "weight": None})
                source, _ = open_source([found], source_options(config))
                sample = source.load(0, np.random.default_rng(0))
            except InputError as error:
                findings += from_error(subject, error)
                continue
            views, _, height, width = sample.target_imgs.shape
            findings.append(
                Finding("ok", subject, f"{len(source)} samples of {views} pictures, {width} x {height} pixels")
            )
    return findings


def _together(path: Path, config: KeypointNvsConfig) -> list[Finding]:
    """What can only be told of all parts at once."""
    try:
        found = with_found_files(config, [path.parent], download=False)
        beginning = find_beginning(found)
        if config.keypoints is None:
            return []
        described = beginning.keypoints or beginning.main
        memory = _memory(config, described.unet, described.vae)
    except InputError as error:
        return from_error(path, error)
    low, high = (value / 2**30 for value in memory.upstream)
    text = (
        f"maps of tokens: {memory.kept / 2**30:.2f} GiB a step beside the networks and {memory.working / 2**30:.2f} GiB while they "
        f"are computed; the original would keep {low:.1f} to {high:.1f} GiB for a single picture and its copy"
    )
    remedy = "less: keypoints.num_tokens, keypoints.map_px, train.batch_size (with train.accumulation)"
    return [Finding("ok", str(path), text, remedy)]


def _memory(config: KeypointNvsConfig, unet: dict[str, object], vae: dict[str, object]) -> MapMemory:
    keypoints = config.keypoints
    assert keypoints is not None
    channels = vae["block_out_channels"]
    assert isinstance(channels, Sequence)
    layers = layer_sizes(unet, keypoints.image_px // 2 ** (len(channels) - 1), keypoints.layers)
    is_single = any(dataset.kind == "images" for dataset in config.data.train)
    views = 1 if is_single else rig_of(config.model.rig).num_views + keypoints.use_condition_view
    return map_memory(
        layers,
        num_tokens=keypoints.num_tokens,
        num_keypoints=keypoints.num_keypoints,
        map_px=keypoints.map_px,
        pictures=2 * views * config.train.batch_size,
        block=GPU_BLOCK,
    )
