"""Where a run begins: anew, at its own newest checkpoint, or at a given one."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from posecore.errors import InputError
from posecore.training import checkpoints
from posecore.training.trackers import METRICS

logger = logging.getLogger(__name__)


def starting_point(run_dir: Path, resume: str | Path | None) -> Path | None:
    """The checkpoint to go on from, None to begin anew.

    Args:
        resume: "auto" (the newest whole checkpoint of the run folder; anew if it has none), the
            path of a checkpoint or of a run folder (its newest), or None.

    Raises:
        InputError: None was given but the folder holds a run already; or no checkpoint is whole.
    """
    if resume is None:
        if (run_dir / METRICS).exists() or checkpoints.all_checkpoints(run_dir / "checkpoints"):
            raise InputError(f"{run_dir}: holds a run already; resume it with --resume auto, or choose another folder")
        return None
    if resume != "auto":
        return checkpoints.latest_checkpoint(resume) or checkpoints.find_checkpoint(resume)
    written = checkpoints.all_checkpoints(run_dir / "checkpoints")
    for folder in reversed(written):
        problem = checkpoints.damage(folder)
        if problem is None:
            return folder
        logger.warning("%s: %s; an older checkpoint is taken", folder, problem)
    if written:
        raise InputError(f"{run_dir}: none of its {len(written)} checkpoints is whole; begin anew in another folder")
    return None


def prepare_folder(run_dir: Path, step: int, best_steps: Mapping[str, int]) -> None:
    """Set checkpoints beyond the starting point aside, and let links (by name) point at what was best up to there."""
    folder = run_dir / "checkpoints"
    for moved in checkpoints.set_aside_newer(folder, step):
        logger.warning("a checkpoint beyond step %d was set aside as %s", step, moved)
    if folder.is_dir():
        checkpoints.link_bests(folder, best_steps)


def is_first_process() -> bool:
    """The one that writes; known from what torchrun or SLURM set, before anything is launched."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0
