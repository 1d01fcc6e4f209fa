"""`handvit doctor`: is this file what it should be, does it fit the others, and what is to be done if not?"""

from collections.abc import Callable
from pathlib import Path

from handvit.doctor.environment import environment_findings
from posecore.doctor import Finding, format_findings, from_error
from posecore.errors import InputError

__all__ = ["Finding", "check", "environment_findings", "format_findings"]

KINDS = (
    "a MANO file (.pkl, .npz), shards (.tar or a folder of them), a configuration (.json), predictions (.h5), a run or "
    "checkpoint, an image encoder's folder, or a folder with MANO_RIGHT"
)
Checker = Callable[[Path], list[Finding]]


def check(path: Path) -> list[Finding]:
    """Everything that can be said about a file or folder. Wrong input becomes findings, never an exception."""
    if not path.exists():
        return [Finding("error", str(path), "no such file or folder")]
    checker = _of_folder(path) if path.is_dir() else _of_file(path)
    if checker is None:
        return [Finding("error", str(path), "not a kind of file or folder that handvit knows", f"known are: {KINDS}")]
    try:
        return checker(path)
    except InputError as error:
        return from_error(path, error)


def _of_file(path: Path) -> Checker | None:
    from handvit.doctor import configurations, data, hands, networks

    by_suffix: dict[str, Checker] = {
        ".pkl": hands.check_hand,
        ".npz": hands.check_hand,
        ".tar": data.check_shards,
        ".h5": data.check_predictions,
        ".json": configurations.check_config,
        ".safetensors": networks.check_checkpoint,
    }
    return by_suffix.get(path.suffix.lower())


def _of_folder(path: Path) -> Checker | None:
    from handvit.doctor import data, hands, networks

    if (path / "checkpoints").is_dir() or (path / "meta.json").is_file():
        return networks.check_checkpoint
    if (path / "config.json").is_file():
        return networks.check_encoder
    if any(path.glob("*.tar")):
        return data.check_shards
    if hands.hand_files(path):
        return hands.check_hand_folder
    return None
