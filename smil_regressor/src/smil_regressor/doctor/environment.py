"""The machine: versions, devices, optional packages, and which files lie where `smil` would be given them."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from smil_regressor.doctor.findings import Finding

REQUIRED = ("posecore", "smil-regressor", "torch", "numpy", "scipy", "h5py", "timm", "sleap-io", "warp-lang")
OPTIONAL = {
    "pytorch3d": ("pytorch3d", "a rendering backend; the built-in ones need nothing", "see its INSTALL page"),
    "onnx": ("onnx", "export --format onnx", "pip install 'smil-regressor[onnx]'"),
    "onnxruntime": ("onnxruntime", "checks an ONNX export", "pip install 'smil-regressor[onnx]'"),
    "aim": ("aim", "tracking with aim", "pip install aim"),
    "wandb": ("wandb", "tracking with wandb", "pip install wandb"),
}
MODEL_PAGE = "https://github.com/FabianPlum/SMILify"
LEAST_FREE_GB = 5


def environment_findings(folder: Path | None = None) -> list[Finding]:
    """Versions, devices, optional packages and files found below `folder` (default: where the command runs)."""
    folder = folder or Path.cwd()
    return [*_packages(), *_optional(), *_devices(), *_body_models(folder), *_weights(), *_machine(folder)]


def _packages() -> list[Finding]:
    findings = [Finding("ok", "python", f"{platform.python_version()} at {sys.executable}, {platform.platform()}")]
    for name in REQUIRED:
        found = _version(name)
        if found is None:
            findings.append(Finding("error", name, "not installed", f"pip install {name}"))
        else:
            findings.append(Finding("ok", name, found))
    found = _version("opencv-python-headless") or _version("opencv-python")
    if found is None:
        findings.append(Finding("error", "opencv", "not installed", "pip install opencv-python-headless"))
    else:
        findings.append(Finding("ok", "opencv", found))
    return findings


def _optional() -> list[Finding]:
    findings = []
    for module, (package, purpose, remedy) in OPTIONAL.items():
        if find_spec(module) is None:
            findings.append(Finding("ok", module, f"not installed (optional: {purpose})", remedy))
        else:
            findings.append(Finding("ok", module, f"{_version(package) or 'installed'} ({purpose})"))
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
        memory = properties.total_memory / 2**30
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        findings.append(Finding("ok", f"cuda:{index}", f"{properties.name}, {memory:.0f} GiB, {bf16}"))
    return findings


def _body_models(folder: Path) -> list[Finding]:
    found = [path for place in (folder, folder / "models", folder / "data") for path in sorted(place.glob("*.pkl"))]
    if found:
        return [Finding("ok", "body models", ", ".join(str(path) for path in found), "smil doctor FILE checks each")]
    return [
        Finding(
            "ok",
            "body models",
            f"no .pkl in {folder}, models/ or data/ there; the procedural insect is used, which needs none",
            f"for real animals set smal_model.smal_file; models are at {MODEL_PAGE}",
        )
    ]


def _weights() -> list[Finding]:
    """Backbone weights that timm has already loaded from the hub."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    names = sorted(path.name.removeprefix("models--").replace("--", "/") for path in hub.glob("models--timm--*"))
    if names:
        return [Finding("ok", "backbone weights", f"{', '.join(names)} in {hub}")]
    return [
        Finding(
            "ok",
            "backbone weights",
            f"none in {hub}; they are loaded from the hub when a run first needs them",
            "on machines without network set model.pretrained_path, or model.pretrained false",
        )
    ]


def _machine(folder: Path) -> list[Finding]:
    free = shutil.disk_usage(folder).free / 1e9
    findings = [
        Finding("ok", "disk", f"{free:.0f} GB free at {folder}")
        if free >= LEAST_FREE_GB
        else Finding("warning", "disk", f"{free:.1f} GB free at {folder}", "checkpoints of ViT-L need 4 GB a run")
    ]
    if shutil.which("sbatch"):
        findings.append(Finding("ok", "slurm", "sbatch is here: smil submit works"))
    return findings


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
