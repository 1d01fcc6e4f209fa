"""One training run from its configuration: files are found and checked, then the loop runs."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from handvit.assembly import HAND_FILE, Facts, build_hand, find_file, hand_facts
from handvit.config import HandvitConfig
from handvit.config.backbones import known_architecture
from handvit.data.mixing import open_sources
from handvit.data.token_files import TokenOrigin
from handvit.hand import HandModel, write_hand
from handvit.model.architecture import folder_of, resolved
from handvit.task import SYSTEM, HandTask, RunData, fit_config
from posecore.errors import InputError
from posecore.report import write_report
from posecore.training import fit
from posecore.training.checkpoints import load_checkpoint
from posecore.training.starting_point import is_first_process, starting_point

logger = logging.getLogger(__name__)


def train(
    config: HandvitConfig,
    folders: Sequence[Path],
    run_dir: Path,
    resume: str | None = None,
    *,
    dry_run: bool = False,
) -> dict[str, Any] | None:
    """Train a configuration of either stage.

    Args:
        folders: Where relative paths in the configuration are looked for, after the working folder.
        resume: As `posecore.training.fit`.
        dry_run: Open and check everything, build the network, train nothing.

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
    if is_first_process():
        keep_hand(task.config, task.hand, run_dir)
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
        "also_best": {name: str(path) for name, path in outcome.also_best.items()},
        "hand": "stand-in" if task.facts.is_standin else "MANO",
        "report": str(write_report(run_dir)),
    }


def open_task(config: HandvitConfig, folders: Sequence[Path] = ()) -> HandTask:
    """Find and check all files of a configuration; nothing is trained."""
    config = with_found_files(config, folders)
    hand = build_hand(config)
    if hand.is_standin:
        logger.warning("hand.mano_path is %s: results belong to the stand-in hand, not to MANO", config.hand.mano_path)
    weights, source = _starting_weights(config)
    tokens_of = TokenOrigin.of(config, weights, source) if config.data.token_cache and weights is not None else None
    data = open_run_data(config, hand, folders, tokens_of)
    facts = replace(hand_facts(hand, embedded=config.hand.mano_path is None), encoder=_unknown_encoder(config))
    return HandTask(config, hand, data, facts, weights, source)


def check_inputs(config: HandvitConfig, folders: Sequence[Path]) -> None:
    """What can be told of a training before it waits in a queue: all but what only its devices can tell.

    Raises:
        InputError: A file is missing or damaged, or the configuration does not fit the data.
    """
    open_task(config, folders)


def open_run_data(
    config: HandvitConfig, hand: HandModel, folders: Sequence[Path] = (), tokens_of: TokenOrigin | None = None
) -> RunData:
    """Training and validation samples.

    Args:
        tokens_of: Train on the tokens of this network instead of on pictures.

    Raises:
        InputError: No shards are named or found, or they hold no clip that passes the filters.
    """
    if not config.data.train.datasets:
        raise InputError("data.train.datasets: names no shards; give --data FOLDER, or name them in the configuration")
    train, weights = open_sources(config, "train", hand, folders, tokens_of)
    if not config.data.val.datasets:
        return RunData(train, None, weights)
    validation, _ = open_sources(config, "val", hand, folders)
    datasets = sorted(set(validation.data_sources.tolist()))
    return RunData(train, validation, weights, datasets if len(datasets) > 1 else ())


def with_found_files(config: HandvitConfig, folders: Sequence[Path]) -> HandvitConfig:
    """The configuration with whole paths that exist, so that the run can be evaluated from any folder."""
    changes: dict[str, Any] = {}
    mano = config.hand.mano_path
    if mano is not None:  # read_hand tells of a missing one, and where to get it
        found = next((c for c in (mano, *(folder / mano for folder in folders)) if c.exists()), mano).absolute()
        changes["hand"] = config.hand.model_copy(update={"mano_path": found})
    named = {"stage1_path": config.general.stage1_path, "weights_path": config.general.weights_path}
    files = {k: find_file(p, f"general.{k}", folders).resolve() for k, p in named.items() if p is not None}
    changes["general"] = config.general.model_copy(update=files)
    return config.model_copy(update=changes)


def _unknown_encoder(config: HandvitConfig) -> dict[str, Any] | None:
    backbone = config.model.backbone
    is_known = folder_of(backbone.backbone_str) is None and known_architecture(backbone.backbone_str, backbone.kwargs)
    return None if is_known else resolved(config.model).backbone.to_json_dict()


def keep_hand(config: HandvitConfig, hand: HandModel, folder: Path) -> None:
    """Copy the hand model beside the checkpoints: with it a run folder is all that is needed to predict."""
    folder.mkdir(parents=True, exist_ok=True)
    if config.hand.mano_path is not None and not (folder / HAND_FILE).exists():
        write_hand(hand, folder / HAND_FILE)


def _starting_weights(config: HandvitConfig) -> tuple[Mapping[str, Tensor] | None, str]:
    """Weights that the run begins with, and where they come from.

    Raises:
        InputError: Stage 2 without stage 1, or a checkpoint of another system or stage.
    """
    general, stage = config.general, config.model.stage
    if stage == 2 and general.stage1_path is None and general.weights_path is None:
        raise InputError(
            "general.stage1_path: stage 2 begins with a trained stage 1; give --stage1 RUN, or name its run in the config"
        )
    path = general.weights_path or general.stage1_path
    if path is None:
        return None, ""
    stored = load_checkpoint(path, SYSTEM)
    field = "weights_path" if general.weights_path is not None else "stage1_path"
    found, wanted = stored.config["config"]["model"]["stage"], stage if field == "weights_path" else 1
    if found != wanted:
        raise InputError(f"general.{field}: {path} is a checkpoint of stage {found}; one of stage {wanted} is needed")
    return stored.weights, str(stored.folder)


def _dry_run(task: HandTask, run_dir: Path) -> dict[str, Any]:
    network = task.build_model()
    return {
        "run_dir": str(run_dir),
        "dry_run": True,
        "parameters": sum(p.numel() for p in network.parameters()),
        "trained_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "train": len(task.data.train),
        "validation": 0 if task.data.validation is None else len(task.data.validation),
        "hand": "stand-in" if task.facts.is_standin else "MANO",
    }


__all__ = ["Facts", "keep_hand", "open_run_data", "open_task", "train", "with_found_files"]
