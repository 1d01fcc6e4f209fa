"""`keypoint-nvs doctor`: is this file what it should be, does it fit the others, and what is to be done if not?"""

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
    *("posecore", "keypoint-nvs", "torch", "torchvision", "diffusers", "transformers", "peft", "safetensors"),
    *("numpy", "scipy", "h5py", "pillow", "av", "lightning-fabric"),
)
OPTIONAL = {**TRACKERS, "lpips": ("the metric LPIPS", "pip install lpips")}
LEAST_FREE_GB = 20
STORES = (".h5", ".hdf5")
STATE_DICTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")
KINDS = (
    "a configuration (.json), a run or checkpoint, a folder of weights in the layout of diffusers, a UNet's state dict "
    "(.safetensors, .bin, .ckpt), a store of views (.hdf5, .h5, or a folder of them), or a folder of pictures"
)
Checker = Callable[[Path], list[Finding]]


def environment_findings(folder: Path | None = None) -> list[Finding]:
    """Versions, devices and room on the disk."""
    reason = "the weights of Zero123++ take 7 GB, a run that trains its whole UNet 25 GB"
    return [
        *package_findings(REQUIRED, OPTIONAL),
        *device_findings("set train.precision to no"),
        *machine_findings(folder or Path.cwd(), LEAST_FREE_GB, "keypoint-nvs", reason),
    ]


def check(path: Path) -> list[Finding]:
    """Everything that can be said about a file or folder. Wrong input becomes findings, never an exception."""
    if not path.exists():
        return [Finding("error", str(path), "no such file or folder")]
    checker = _of_folder(path) if path.is_dir() else _of_file(path)
    if checker is None:
        text = "not a kind of file or folder that keypoint-nvs knows"
        return [Finding("error", str(path), text, f"known are: {KINDS}")]
    try:
        return checker(path)
    except InputError as error:
        return from_error(path, error)


def _of_file(path: Path) -> Checker | None:
    from keypoint_nvs.doctor import configurations, data, weights

    suffix = path.suffix.lower()
    if suffix == ".json":
        return configurations.check_config
    if suffix in STORES:
        return data.check_store
    if suffix in STATE_DICTS:
        return weights.check_run if (path.parent / "meta.json").is_file() else weights.check_state_dict
    return None


def _of_folder(path: Path) -> Checker | None:
    from keypoint_nvs.data.rgba_images import SUFFIXES
    from keypoint_nvs.doctor import data, weights
    from keypoint_nvs.model.folder_files import INDEX, UNET

    if (path / INDEX).is_file() or (path / UNET).is_dir():
        return weights.check_folder
    if (path / "checkpoints").is_dir() or (path / "meta.json").is_file():
        return weights.check_run
    if any(file.suffix.lower() in STORES for file in path.iterdir()):
        return data.check_store
    if any(file.suffix.lower() in SUFFIXES for file in path.rglob("*")):
        return data.check_pictures
    return None
