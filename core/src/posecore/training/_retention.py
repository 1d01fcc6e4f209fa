"""Which checkpoints of a run are there, which is best, and which go."""

import os
import shutil
from collections.abc import Mapping
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


def link_bests(checkpoints: Path, steps: Mapping[str, int]) -> None:
    """Let each link (`best`, `best-NAME`) name the checkpoint of its step, if it is there; other links go."""
    for name, step in steps.items():
        folder = checkpoints / f"step-{step:08d}"
        if folder.is_dir():
            replace_link(checkpoints / name, folder.name)
    for link in best_links(checkpoints):
        if steps.get(link.name) is None or not link.is_dir() or link.resolve().name != f"step-{steps[link.name]:08d}":
            link.unlink()


def best_links(checkpoints: Path) -> list[Path]:
    return [*checkpoints.glob("best"), *sorted(checkpoints.glob("best-*"))]


def retain(checkpoints: Path, keep_last: int) -> None:
    bests = {link.resolve() for link in best_links(checkpoints)}
    for folder in all_checkpoints(checkpoints)[:-keep_last]:
        if folder.resolve() not in bests:
            os.replace(folder, checkpoints / f".removed-{folder.name}")


def sweep(checkpoints: Path) -> None:
    """Remove what a killed process left half written or half removed."""
    for pattern in (".writing-*", ".removed-*"):
        for folder in checkpoints.glob(pattern):
            shutil.rmtree(folder)
