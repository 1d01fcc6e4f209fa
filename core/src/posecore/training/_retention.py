"""Which checkpoints of a run are there, which is best, and which go."""

import os
import shutil
from pathlib import Path

from posecore.training._atomic import replace_link


def all_checkpoints(checkpoints: Path) -> list[Path]:
    """Checkpoint folders by step, oldest first, whole or not."""
    return sorted(folder for folder in checkpoints.glob("step-*") if folder.is_dir())


def set_aside_newer(checkpoints: Path, step: int) -> list[Path]:
    """Rename checkpoints after `step`: a run that goes on from there writes its own, and `auto` must not mix them."""
    moved = []
    for folder in all_checkpoints(checkpoints):
        if int(folder.name.removeprefix("step-")) > step:
            aside = checkpoints / f"set-aside-{folder.name}"
            while aside.exists():
                aside = aside.with_name(f"{aside.name}-again")
            os.replace(folder, aside)
            moved.append(aside)
    return moved


def link_best(checkpoints: Path, step: int | None) -> None:
    """Let `best` name the checkpoint of that step, if it is there; else there is no best."""
    link = checkpoints / "best"
    folder = None if step is None else checkpoints / f"step-{step:08d}"
    if folder is not None and folder.is_dir():
        replace_link(link, folder.name)
    else:
        link.unlink(missing_ok=True)


def retain(checkpoints: Path, keep_last: int) -> None:
    best = (checkpoints / "best").resolve()
    for folder in all_checkpoints(checkpoints)[:-keep_last]:
        if folder.resolve() != best:
            os.replace(folder, checkpoints / f".removed-{folder.name}")


def sweep(checkpoints: Path) -> None:
    """Remove what a killed process left half written or half removed."""
    for pattern in (".writing-*", ".removed-*"):
        for folder in checkpoints.glob(pattern):
            shutil.rmtree(folder)
