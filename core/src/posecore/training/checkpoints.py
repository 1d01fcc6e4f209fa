"""Checkpoints: written whole or not at all, checked by SHA-256 when read, nothing in them is ever executed.

checkpoints/step-00003000/model.safetensors   the weights that predict (the moving average where there is one)
                          state.pt            what training needs to go on; read with weights_only=True
                          meta.json           format, system, versions, step, metrics, configuration, checksums
checkpoints/best -> step-00002000
checkpoints/best-NAME -> step-00001000             by a further metric of the task (`Task.also_best`)
"""

import json
import os
import pickle
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from posecore.errors import InputError
from posecore.training._atomic import digest, fsync_folder, replace_link, write_bytes
from posecore.training._meta import FORMAT, META, MODEL, STATE, damage, write_meta
from posecore.training._retention import all_checkpoints, best_links, link_bests, retain, set_aside_newer, sweep
from posecore.weights import load_weights, save_weights


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose checksums were right when it was read."""

    folder: Path
    system: str
    system_version: str
    step: int
    epoch: int
    config: dict[str, Any]
    """The resolved configuration of the run."""
    metrics: dict[str, float | None]
    """The newest validation metrics at that step."""
    is_best: bool
    weights: dict[str, Tensor]
    """On the CPU; the moving average where the run kept one."""

    def training_state(self) -> dict[str, Any]:
        """Optimizer, random states, data position and so on.

        Raises:
            InputError: It is an export, which has only what predicts; or it holds foreign objects.
        """
        if not (self.folder / STATE).is_file():
            raise InputError(f"{self.folder}: is an export without {STATE}; training cannot go on from it")
        try:
            state: dict[str, Any] = torch.load(self.folder / STATE, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise InputError(f"{self.folder / STATE}: holds more than plain values; that is not executed") from None
        return state

    def load_into(self, model: nn.Module) -> None:
        """Put the weights into a model.

        Raises:
            InputError: Names or shapes differ; says which.
        """
        load_weights(model, self.weights, str(self.folder / MODEL))


def save_checkpoint(
    run_dir: Path,
    *,
    system: str,
    system_version: str,
    step: int,
    epoch: int,
    weights: Mapping[str, Tensor],
    state: Mapping[str, Any],
    config: Mapping[str, Any],
    metrics: Mapping[str, float | None] | None = None,
    is_best: bool = False,
    also_best: Sequence[str] = (),
    keep_last: int | None = 3,
) -> Path:
    """Write one checkpoint, point `best` at it if it is, and remove what is neither best nor among the last.

    The folder appears under its name only when all its bytes are on the disk.

    Args:
        weights: What predicts.
        state: Tensors, numbers, strings and containers of these.
        also_best: Further metrics by which it is the best; `best-NAME` points at it.
        keep_last: None: remove nothing.
    """
    checkpoints = run_dir / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    sweep(checkpoints)
    folder = checkpoints / f"step-{step:08d}"
    unfinished = checkpoints / f".writing-{folder.name}"
    unfinished.mkdir()
    save_weights(weights, unfinished / MODEL)
    torch.save(dict(state), unfinished / STATE)
    files = {name: {"sha256": digest(unfinished / name, sync=True)} for name in (MODEL, STATE)}
    meta = {
        "format": list(FORMAT),
        "system": system,
        "system_version": system_version,
        "versions": {"posecore": version("posecore"), "torch": torch.__version__, "python": platform.python_version()},
        "step": step,
        "epoch": epoch,
        "is_best": is_best,
        "metrics": dict(metrics or {}),
        "config": dict(config),
        "files": files,
    }
    write_meta(unfinished, meta)
    fsync_folder(unfinished)
    if folder.exists():
        os.replace(folder, checkpoints / f".removed-{folder.name}")
    os.replace(unfinished, folder)
    fsync_folder(checkpoints)
    for link in [*(["best"] if is_best else []), *(f"best-{metric}" for metric in also_best)]:
        replace_link(checkpoints / link, folder.name)
    if keep_last is not None:
        retain(checkpoints, keep_last)
    sweep(checkpoints)
    return folder


def load_checkpoint(path: Path | str, system: str | None = None) -> Checkpoint:
    """Read a checkpoint after checking it.

    Args:
        path: The folder of a checkpoint, its `model.safetensors`, or a run folder (its best
            checkpoint, or the newest where none was chosen).
        system: Refuse checkpoints of another system.

    Raises:
        InputError: No checkpoint, damaged (names the newest whole one beside it), of another
            system, or of a newer format.
    """
    folder = find_checkpoint(path)
    meta = _checked_meta(folder)
    if system is not None and meta["system"] != system:
        raise InputError(f"{folder}: is a checkpoint of {meta['system']}; one of {system} is needed")
    try:
        weights = load_file(folder / MODEL)
    except SafetensorError as error:  # the checksum was right, so it was written like this
        raise InputError(f"{folder / MODEL}: cannot be read: {error}") from None
    return Checkpoint(
        folder=folder,
        system=meta["system"],
        system_version=meta["system_version"],
        step=meta["step"],
        epoch=meta["epoch"],
        config=meta["config"],
        metrics=meta["metrics"],
        is_best=meta["is_best"],
        weights=weights,
    )


def export_checkpoint(checkpoint: Checkpoint, folder: Path, extra: Mapping[str, bytes] | None = None) -> Path:
    """Write what predicts, and nothing that only training needs, to a folder that `load_checkpoint` reads.

    Args:
        extra: Further files by name, such as a body model; they get checksums too.

    Raises:
        InputError: The folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty; an export needs a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    meta = json.loads((checkpoint.folder / META).read_text(encoding="utf-8"))
    save_weights(checkpoint.weights, folder / MODEL)
    for name, data in (extra or {}).items():
        write_bytes(folder / name, data)
    meta["files"] = {name: {"sha256": digest(folder / name, sync=True)} for name in (MODEL, *(extra or {}))}
    write_meta(folder, meta | {"format": list(FORMAT)})
    fsync_folder(folder)
    return folder


def find_checkpoint(path: Path | str) -> Path:
    """The checkpoint folder that a path means, see `load_checkpoint`.

    Raises:
        InputError: There is none.
    """
    given = Path(path)
    if given.name == MODEL and given.is_file():
        given = given.parent
    if (given / META).is_file() or given.parent.name == "checkpoints":
        if not given.is_dir():
            raise InputError(f"{path}: no such checkpoint{_instead(given)}")
        return given.resolve()
    best = given / "checkpoints" / "best"
    if best.is_dir():
        return best.resolve()
    newest = latest_checkpoint(given)
    if newest is None:
        raise InputError(
            f"{path}: holds no checkpoint; a run folder or a folder like checkpoints/step-00003000 is needed"
        )
    return newest


def latest_checkpoint(run_dir: Path | str) -> Path | None:
    """The newest checkpoint of a run whose checksums are right, None if there is none."""
    for folder in reversed(all_checkpoints(Path(run_dir) / "checkpoints")):
        if damage(folder) is None:
            return folder
    return None


def _checked_meta(folder: Path) -> dict[str, Any]:
    problem = damage(folder)
    if problem is not None:
        raise InputError(f"{folder}: {problem}{_instead(folder)}")
    meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
    major, minor = meta["format"]
    if major != FORMAT[0] or minor > FORMAT[1]:
        readable = f"{FORMAT[0]}.0 to {FORMAT[0]}.{FORMAT[1]}"
        raise InputError(
            f"{folder / META}: format: {major}.{minor} cannot be read by posecore {version('posecore')}, "
            f"which reads {readable}; written by posecore {meta['versions']['posecore']}, install that version"
        )
    return meta


def _instead(folder: Path) -> str:
    newest = latest_checkpoint(folder.parent.parent) if folder.parent.name == "checkpoints" else None
    return (
        "; there is no whole checkpoint beside it" if newest is None else f"; the newest whole checkpoint is {newest}"
    )


__all__ = [
    "FORMAT",
    "META",
    "MODEL",
    "STATE",
    "Checkpoint",
    "all_checkpoints",
    "best_links",
    "damage",
    "export_checkpoint",
    "find_checkpoint",
    "latest_checkpoint",
    "link_bests",
    "load_checkpoint",
    "load_weights",
    "save_checkpoint",
    "set_aside_newer",
]
