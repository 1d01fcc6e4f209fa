"""One training run from its configuration: files are found and checked, then the loop runs."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keypoint_nvs.assembly import SYSTEM, Beginning, find_beginning
from keypoint_nvs.config.data import DatasetConfig
from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.data.sources import SourceOptions, open_source
from keypoint_nvs.finding import find_data, find_path, find_weights
from keypoint_nvs.rig import rig_of
from keypoint_nvs.task import KeypointNvsTask, RunData, fit_config
from posecore.data.spread import spread
from posecore.errors import InputError
from posecore.report import write_report
from posecore.training import fit
from posecore.training.checkpoints import load_checkpoint
from posecore.training.starting_point import is_first_process, starting_point

logger = logging.getLogger(__name__)


def train(
    config: KeypointNvsConfig,
    folders: Sequence[Path],
    run_dir: Path,
    resume: str | None = None,
    *,
    dry_run: bool = False,
) -> dict[str, Any] | None:
    """Train a configuration.

    Args:
        folders: Where relative paths in the configuration are looked for, after the working folder.
        resume: As `posecore.training.fit`.
        dry_run: Open and check everything, load one sample, build the networks, train nothing.

    Returns:
        Where the run is and how it ended; None in processes other than the first.

    Raises:
        InputError: A file is missing or damaged, or the configuration does not fit the data.
    """
    if resume is None and not dry_run and is_first_process():
        starting_point(run_dir, resume)  # refuses a folder with a run in it, before anything in there is touched
    task = open_task(config, folders)
    if dry_run:
        return _dry_run(task, run_dir)
    outcome = fit(task, fit_config(task.config), run_dir, resume)
    if not is_first_process():
        return None
    if outcome.was_preempted:
        return {"run_dir": str(run_dir), "step": outcome.step, "preempted": True}
    return {
        "run_dir": str(run_dir),
        "step": outcome.step,
        "validation": outcome.metrics,
        "best_checkpoint": None if outcome.best_checkpoint is None else str(outcome.best_checkpoint),
        "report": str(write_report(run_dir)),
    }


def open_task(config: KeypointNvsConfig, folders: Sequence[Path] = ()) -> KeypointNvsTask:
    """Find and check all files of a configuration; nothing is trained."""
    config = with_found_files(config, folders)
    data = open_run_data(config)
    beginning = find_beginning(config)
    if config.train.weights is None:
        return KeypointNvsTask(config, data, beginning)
    stored = load_checkpoint(config.train.weights, SYSTEM)
    return KeypointNvsTask(config, data, beginning, stored.weights, str(stored.folder))


def check_inputs(config: KeypointNvsConfig, folders: Sequence[Path]) -> Beginning:
    """What can be told of a training before it waits in a queue: all but what only its devices can tell."""
    return open_task(config, folders).beginning


def open_run_data(config: KeypointNvsConfig) -> RunData:
    """Training and validation samples.

    Raises:
        InputError: No data set is named or found, or a sample does not fit the rig.
    """
    data = config.data
    if not data.train:
        raise InputError("data.train: names no data set; give --data PATH, or name them in the configuration")
    train, weights = open_source(data.train, replace(source_options(config), frames=data.frames))
    if not data.val:
        return RunData(train, None, weights)
    validation, _ = open_source(data.val, source_options(config))
    return RunData(train, spread(validation, data.val_limit), weights)


def source_options(config: KeypointNvsConfig, *, with_keypoints: bool = False) -> SourceOptions:
    """What the readers need to know of a run. Training needs no ground truth; `evaluate` reads it."""
    return SourceOptions(
        rig=rig_of(config.model.rig),
        image_px=config.model.view_px if config.keypoints is None else config.keypoints.image_px,
        max_pose_error_deg=config.data.max_pose_error_deg,
        with_keypoints=with_keypoints,
    )


def with_found_files(config: KeypointNvsConfig, folders: Sequence[Path], *, download: bool = True) -> KeypointNvsConfig:
    """The configuration with whole paths that exist, so that the run can be evaluated from any folder.

    Args:
        download: Whether weights that are named as on the hub are fetched where the cache has none.
    """

    def found(datasets: Sequence[DatasetConfig]) -> list[DatasetConfig]:
        return [d.model_copy(update={"path": find_data(d.path, folders)}) for d in datasets]

    data = config.data.model_copy(update={"train": found(config.data.train), "val": found(config.data.val)})
    model = config.model
    names = [name for name in ("weights", "vision_weights", "unet_weights") if getattr(model, name) is not None]
    found_weights = {n: find_weights(getattr(model, n), f"model.{n}", folders, download=download) for n in names}
    model = model.model_copy(update=found_weights)
    changes: dict[str, Any] = {"data": data, "model": model}
    if config.keypoints is not None and config.keypoints.weights is not None:
        place = find_weights(config.keypoints.weights, "keypoints.weights", folders, download=download)
        changes["keypoints"] = config.keypoints.model_copy(update={"weights": place})
    if config.train.weights is not None:
        place = find_path(config.train.weights, "train.weights", folders)
        changes["train"] = config.train.model_copy(update={"weights": place})
    return config.model_copy(update=changes)


def _dry_run(task: KeypointNvsTask, run_dir: Path) -> dict[str, Any]:
    network = task.build_model()
    sample = task.data.train.load(0, np.random.default_rng(0))
    return {
        "run_dir": str(run_dir),
        "dry_run": True,
        "stage": task.config.stage,
        "parameters": sum(p.numel() for p in network.parameters()),
        "trained_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "train": len(task.data.train),
        "validation": 0 if task.data.validation is None else len(task.data.validation),
        "pictures_of_a_sample": list(sample.target_imgs.shape),
    }
