"""`vpog doctor`: is this file what it should be, does it fit the others, and what is to be done if not?"""

from collections.abc import Callable
from pathlib import Path

from posecore.doctor import (
    TRACKERS,
    Finding,
    device_findings,
    format_findings,
    from_error,
    machine_findings,
    package_findings,
)
from posecore.errors import InputError

__all__ = ["Finding", "check", "environment_findings", "format_findings"]

REQUIRED = (
    *("posecore", "vpog", "torch", "timm", "numpy", "scipy", "trimesh", "safetensors", "webdataset"),
    *("lightning-fabric", "warp-lang"),
)
LEAST_FREE_GB = 20
KINDS = (
    "a configuration (.json), a run or checkpoint, CroCo weights (.pth), a mesh (.ply, .obj, .glb), the folder of a split "
    "(shards or BOP scenes), or a folder of templates"
)
Checker = Callable[[Path], list[Finding]]


def environment_findings(folder: Path | None = None) -> list[Finding]:
    """Versions, devices and room on the disk."""
    reason = "templates of GSO and ShapeNet take 15 GB, a run of the preset large 10 GB"
    return [
        *package_findings(REQUIRED, TRACKERS),
        *device_findings("set train.precision to fp16 or no"),
        *machine_findings(folder or Path.cwd(), LEAST_FREE_GB, "vpog", reason),
    ]


def check(path: Path) -> list[Finding]:
    """Everything that can be said about a file or folder. Wrong input becomes findings, never an exception."""
    if not path.exists():
        return [Finding("error", str(path), "no such file or folder")]
    checker = _of_folder(path) if path.is_dir() else _of_file(path)
    if checker is None:
        return [Finding("error", str(path), "not a kind of file or folder that vpog knows", f"known are: {KINDS}")]
    try:
        return checker(path)
    except InputError as error:
        return from_error(path, error)


def _of_file(path: Path) -> Checker | None:
    from vpog.doctor import files

    by_suffix: dict[str, Checker] = {
        ".json": files.check_config,
        ".pth": files.check_croco,
        ".safetensors": files.check_checkpoint,
        ".ply": files.check_mesh,
        ".obj": files.check_mesh,
        ".glb": files.check_mesh,
    }
    return by_suffix.get(path.suffix.lower())


def _of_folder(path: Path) -> Checker | None:
    from vpog.doctor import files

    if (path / "checkpoints").is_dir() or (path / "meta.json").is_file():
        return files.check_checkpoint
    if (path / "object_poses").is_dir():
        return files.check_templates
    if any(path.glob("*.tar")) or any(path.glob("[0-9][0-9][0-9][0-9][0-9][0-9]")):
        return files.check_split
    return None
