"""One training run from its configuration: files are found and checked, then the loop runs."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from posecore.data.spread import spread
from posecore.errors import InputError
from posecore.report import write_report
from posecore.training import fit
from posecore.training.checkpoints import load_checkpoint
from posecore.training.starting_point import is_first_process, starting_point
from vpog.config.data import DatasetConfig
from vpog.config.run import VpogConfig
from vpog.data.groups import GroupRules
from vpog.data.opening import find_path, open_sources
from vpog.loading import SYSTEM
from vpog.task import PoseTask, RunData, fit_config

logger = logging.getLogger(__name__)


def train(
    config: VpogConfig,
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
        dry_run: Open and check everything, load one sample, build the network, train nothing.

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


def open_task(config: VpogConfig, folders: Sequence[Path] = ()) -> PoseTask:
    """Find and check all files of a configuration; nothing is trained."""
    config = with_found_files(config, folders)
    weights = config.train.weights
    stored = None if weights is None else load_checkpoint(weights, SYSTEM)
    starting: Mapping[str, Tensor] | None = None if stored is None else stored.weights
    return PoseTask(config, open_run_data(config, folders), starting, "" if stored is None else str(stored.folder))


def check_inputs(config: VpogConfig, folders: Sequence[Path]) -> None:
    """What can be told of a training before it waits in a queue: all but what only its devices can tell."""
    open_task(config, folders)


def group_rules(config: VpogConfig, *, vary: bool) -> GroupRules:
    """What samples look like; in training they vary."""
    data = config.data
    return GroupRules(
        size=config.model.img_size,
        selection=data.selection.rules,
        crop_scale=data.crop_scale,
        background=data.background,
        augmentation=data.augmentation if vary and data.augment else None,
    )


def open_run_data(config: VpogConfig, folders: Sequence[Path] = ()) -> RunData:
    """Training and validation samples.

    Raises:
        InputError: No data set is named or found, or none of its instances can be used.
    """
    data = config.data
    if not data.train:
        raise InputError("data.train: names no data set; give --data FOLDER, or name them in the configuration")
    train, weights = open_sources(data.train, data, group_rules(config, vary=True), folders)
    if not data.val:
        return RunData(train, None, weights)
    validation, _ = open_sources(data.val, data, group_rules(config, vary=False), folders)
    return RunData(train, spread(validation, data.val_limit), weights)


def with_found_files(config: VpogConfig, folders: Sequence[Path]) -> VpogConfig:
    """The configuration with whole paths that exist, so that the run can be evaluated from any folder."""
    parts = {
        part: [_with_found_files(dataset, folders) for dataset in getattr(config.data, part)]
        for part in ("train", "val", "test")
    }
    changes: dict[str, Any] = {"data": config.data.model_copy(update=parts)}
    if config.train.weights is not None:
        found = find_path(config.train.weights, "train.weights", folders).resolve()
        changes["train"] = config.train.model_copy(update={"weights": found})
    return config.model_copy(update=changes)


def _with_found_files(dataset: DatasetConfig, folders: Sequence[Path]) -> DatasetConfig:
    found = {
        name: find_path(getattr(dataset, name), f"data: {dataset.name}: {name}", folders).resolve()
        for name in ("templates", "models_info", "object_numbers", "object_index")
        if getattr(dataset, name) is not None
    }
    images = next(
        (
            str((folder / dataset.images).absolute())
            for folder in (Path(), *folders)
            if (folder / dataset.images).exists()
        ),
        dataset.images,
    )
    return dataset.model_copy(update=found | {"images": images})


def _dry_run(task: PoseTask, run_dir: Path) -> dict[str, Any]:
    network = task.build_model()
    sample = task.data.train.load(0, np.random.default_rng(0))
    return {
        "run_dir": str(run_dir),
        "dry_run": True,
        "parameters": sum(p.numel() for p in network.parameters()),
        "trained_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "train": len(task.data.train),
        "validation": 0 if task.data.validation is None else len(task.data.validation),
        "pictures_of_a_sample": list(sample.images.shape),
    }
