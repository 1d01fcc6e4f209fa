"""Checkpoints: written whole or not at all, checked by SHA-256 when read, nothing in them is ever executed.

checkpoints/step-00003000/model.safetensors   the weights that predict (the moving average where there is one)
                          state.pt            what training needs to go on; read with weights_only=True
                          meta.json           format, system, versions, step, metrics, configuration, checksums
checkpoints/best -> step-00002000
"""

import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from posecore.errors import InputError
from posecore.training._atomic import digest, fsync_folder, replace_link, write_bytes

FORMAT = (1, 0)
"""Major and minor version; files of an older minor version load, those of a newer one are refused."""
MODEL, STATE, META = "model.safetensors", "state.pt", "meta.json"


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
            InputError: It is an export, which has only what predicts.
        """
        if not (self.folder / STATE).is_file():
            raise InputError(f"{self.folder}: is an export without {STATE}; training cannot go on from it")
        state: dict[str, Any] = torch.load(self.folder / STATE, map_location="cpu", weights_only=True)
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
    keep_last: int | None = 3,
) -> Path:
    """Write one checkpoint, point `best` at it if it is, and remove what is neither best nor among the last.

    The folder appears under its name only when all its bytes are on the disk.

    Args:
        weights: What predicts.
        state: Tensors, numbers, strings and containers of these.
        keep_last: None: remove nothing.
    """
    checkpoints = run_dir / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    _sweep(checkpoints)
    folder = checkpoints / f"step-{step:08d}"
    unfinished = checkpoints / f".writing-{folder.name}"
    unfinished.mkdir()
    save_file(_unshared(weights), unfinished / MODEL)
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
    write_bytes(unfinished / META, json.dumps(meta, indent=2, allow_nan=False).encode())
    fsync_folder(unfinished)
    if folder.exists():
        os.replace(folder, checkpoints / f".removed-{folder.name}")
    os.replace(unfinished, folder)
    fsync_folder(checkpoints)
    if is_best:
        replace_link(checkpoints / "best", folder.name)
    if keep_last is not None:
        _retain(checkpoints, keep_last)
    _sweep(checkpoints)
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
    save_file(_unshared(checkpoint.weights), folder / MODEL)
    for name, data in (extra or {}).items():
        write_bytes(folder / name, data)
    meta["files"] = {name: {"sha256": digest(folder / name, sync=True)} for name in (MODEL, *(extra or {}))}
    write_bytes(folder / META, json.dumps(meta, indent=2, allow_nan=False).encode())
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


def all_checkpoints(checkpoints: Path) -> list[Path]:
    """Checkpoint folders by step, oldest first, whole or not."""
    return sorted(folder for folder in checkpoints.glob("step-*") if folder.is_dir())


def damage(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint, None if nothing is."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        expected = {name: entry["sha256"] for name, entry in meta["files"].items()} | {
            MODEL: meta["files"][MODEL]["sha256"]
        }
    except FileNotFoundError:
        return f"{META} is missing"
    except (ValueError, KeyError, TypeError):
        return f"{META} is damaged or half written"
    for name, sha256 in expected.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if digest(folder / name) != sha256:
            return f"{name} does not match its checksum (damaged or half written)"
    return None


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """`load_state_dict` with a readable refusal."""
    own = model.state_dict()
    problems = [f"{source}: {name}: missing; this configuration needs it" for name in own.keys() - weights.keys()]
    problems += [
        f"{source}: {name}: not part of the model that this configuration builds"
        for name in weights.keys() - own.keys()
    ]
    problems += [
        f"{source}: {name}: has shape {tuple(weights[name].shape)}, the model needs {tuple(own[name].shape)}"
        for name in own.keys() & weights.keys()
        if own[name].shape != weights[name].shape
    ]
    if problems:
        shown = sorted(problems)[:8]
        more = len(problems) - len(shown)
        raise InputError([*shown, f"{source}: and {more} more like these"] if more else shown)
    model.load_state_dict(dict(weights))


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


def _retain(checkpoints: Path, keep_last: int) -> None:
    best = (checkpoints / "best").resolve()
    for folder in all_checkpoints(checkpoints)[:-keep_last]:
        if folder.resolve() != best:
            os.replace(folder, checkpoints / f".removed-{folder.name}")


def _sweep(checkpoints: Path) -> None:
    """Remove what a killed process left half written or half removed."""
    for pattern in (".writing-*", ".removed-*"):
        for folder in checkpoints.glob(pattern):
            shutil.rmtree(folder)


def _unshared(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors; safetensors refuses tensors that share memory (tied weights), so each gets its own."""
    seen: set[int] = set()
    own = {}
    for name, tensor in weights.items():
        value = tensor.detach().cpu().contiguous()
        address = value.untyped_storage().data_ptr()
        own[name] = value.clone() if address in seen else value
        seen.add(address)
    return own
