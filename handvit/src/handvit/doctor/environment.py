"""The machine: versions, devices, optional packages, and which files lie where `handvit` would be given them."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from handvit.config.backbones import PUBLIC
from handvit.doctor.findings import Finding
from handvit.doctor.hands import hand_files
from handvit.hand.files import MANO_PAGE

REQUIRED = (
    *("posecore", "handvit", "torch", "transformers", "kornia", "numpy", "scipy", "h5py", "safetensors"),
    *("webdataset", "lightning-fabric", "warp-lang", "trimesh"),
)
OPTIONAL = {
    "onnx": ("export --format onnx", "pip install 'handvit[onnx]'"),
    "onnxruntime": ("compares an ONNX export with PyTorch", "pip install 'handvit[onnx]'"),
    "mediapipe": ("predict --detector: finds hands in pictures", "pip install 'handvit[detector]'"),
    "aim": ("tracking with aim", "pip install aim"),
    "wandb": ("tracking with wandb", "pip install wandb"),
}
LEAST_FREE_GB = 30
MANO_FOLDERS = ("", "models", "mano", "models/mano", "data", "data/mano")


def environment_findings(folder: Path | None = None) -> list[Finding]:
    """Versions, devices, optional packages and files found below `folder` (default: where the command runs)."""
    folder = folder or Path.cwd()
    return [*_packages(), *_optional(), *_devices(), *_hands(folder), *_encoders(), *_machine(folder)]


def _packages() -> list[Finding]:
    findings = [Finding("ok", "python", f"{platform.python_version()} at {sys.executable}, {platform.platform()}")]
    for name in REQUIRED:
        found = _version(name)
        if found is None:
            findings.append(Finding("error", name, "not installed", f"pip install {name}"))
        else:
            findings.append(Finding("ok", name, found))
    found = _version("opencv-python-headless") or _version("opencv-python") or _version("opencv-contrib-python")
    if found is None:
        findings.append(Finding("error", "opencv", "not installed", "pip install opencv-python-headless"))
    else:
        findings.append(Finding("ok", "opencv", found))
    return findings


def _optional() -> list[Finding]:
    findings = []
    for module, (purpose, remedy) in OPTIONAL.items():
        if find_spec(module) is None:
            findings.append(Finding("ok", module, f"not installed (optional: {purpose})", remedy))
        else:
            findings.append(Finding("ok", module, f"{_version(module) or 'installed'} ({purpose})"))
    return findings


def _devices() -> list[Finding]:
    import torch

    if not torch.cuda.is_available():
        text = f"no GPU is visible to torch {torch.__version__}; everything runs on {os.cpu_count()} CPU cores"
        if shutil.which("nvidia-smi") is None:
            return [Finding("ok", "devices", text)]
        remedy = (
            "there is an NVIDIA driver: install a torch build for its CUDA version (https://pytorch.org/get-started)"
        )
        return [Finding("warning", "devices", text, remedy)]
    findings = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: set train.mixed_precision to fp16 or no"
        findings.append(
            Finding("ok", f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {bf16}")
        )
    return findings


def _hands(folder: Path) -> list[Finding]:
    found = [file for name in MANO_FOLDERS for file in hand_files(folder / name)]
    if found:
        names = ", ".join(str(file) for file in dict.fromkeys(found))
        return [Finding("ok", "MANO", names, "handvit doctor FILE checks each; set hand.mano_path to MANO_RIGHT")]
    looked = ", ".join(name or "." for name in MANO_FOLDERS)
    text = f"no MANO_RIGHT in {folder} ({looked}); the stand-in hand is used, which needs none"
    return [Finding("ok", "MANO", text, f"register at {MANO_PAGE}, download it and set hand.mano_path to the file")]


def _encoders() -> list[Finding]:
    """Image encoders that transformers has already loaded from the hub."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    here = [name for name in PUBLIC if (hub / f"models--{name.replace('/', '--')}" / "snapshots").is_dir()]
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
    if here:
        return [Finding("ok", "image encoders", f"{', '.join(here)} in {hub}{offline}")]
    remedy = (
        "on machines without network copy a model's config.json and model.safetensors to a folder and set "
        "model.backbone.backbone_str to it"
    )
    text = f"none in {hub}{offline}; a hub name is loaded when a run first needs it"
    return [Finding("ok", "image encoders", text, remedy)]


def _machine(folder: Path) -> list[Finding]:
    free = shutil.disk_usage(folder).free / 1e9
    findings = [
        Finding("ok", "disk", f"{free:.0f} GB free at {folder}")
        if free >= LEAST_FREE_GB
        else Finding(
            "warning",
            "disk",
            f"{free:.1f} GB free at {folder}",
            "a run of dinov2-large keeps 20 to 30 GB of checkpoints",
        )
    ]
    if shutil.which("sbatch"):
        findings.append(Finding("ok", "slurm", "sbatch is here: handvit submit works"))
    return findings


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
