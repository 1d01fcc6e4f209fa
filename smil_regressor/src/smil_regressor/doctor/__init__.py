"""`smil doctor`: is this file what it should be, does it fit the others, and what is to be done if not?"""

from collections.abc import Callable
from pathlib import Path

from posecore.doctor import Finding, format_findings, from_error
from posecore.errors import InputError
from smil_regressor.doctor.environment import environment_findings

__all__ = ["Finding", "check", "environment_findings", "format_findings"]

KINDS = ".pkl or .npz model, calibration.toml, .h5, .json configuration, .slp, .pth, or a session, set or run folder"


def check(path: Path) -> list[Finding]:
    """Everything that can be said about a file or folder. Wrong input becomes findings, never an exception."""
    if not path.exists():
        return [Finding("error", str(path), "no such file or folder")]
    checker = _checker(path)
    if checker is None:
        return [Finding("error", str(path), f"not a kind of file that smil knows: {KINDS}")]
    try:
        return checker(path)
    except InputError as error:
        return from_error(path, error)


def _checker(path: Path) -> Callable[[Path], list[Finding]] | None:
    from smil_regressor.doctor import files, folders

    if path.is_dir():
        if (path / "checkpoints").is_dir() or (path / "meta.json").is_file():
            return files.check_checkpoint
        if any(path.glob("_BatchData*.json")):
            return folders.check_replicant
        return folders.check_sessions
    by_suffix: dict[str, Callable[[Path], list[Finding]]] = {
        ".pkl": files.check_model,
        ".npz": files.check_model,
        ".toml": folders.check_calibration,
        ".h5": files.check_hdf5,
        ".hdf5": files.check_hdf5,
        ".json": files.check_config,
        ".slp": _check_project,
        ".pth": files.check_checkpoint,
        ".pt": files.check_checkpoint,
        ".safetensors": files.check_checkpoint,
    }
    return by_suffix.get(path.suffix.lower())


def _check_project(path: Path) -> list[Finding]:
    from smil_regressor.data.converters.tracks import read_tracks

    tracks = read_tracks(path)
    text = f"SLEAP project: {len(tracks.points_px)} frames, tracks {', '.join(tracks.track_names)}"
    return [Finding("ok", str(path), text, "check the folder of its session")]
