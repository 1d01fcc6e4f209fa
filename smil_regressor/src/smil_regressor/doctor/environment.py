"""The machine: versions, devices, optional packages, and which files lie where `smil` would be given them."""

import os
from pathlib import Path

from posecore.doctor import TRACKERS, Finding, device_findings, machine_findings, package_findings

REQUIRED = ("posecore", "smil-regressor", "torch", "numpy", "scipy", "h5py", "timm", "sleap-io", "warp-lang")
OPTIONAL = {
    "pytorch3d": ("a rendering backend; the built-in ones need nothing", "see its INSTALL page"),
    "onnx": ("export --format onnx", "pip install 'smil-regressor[onnx]'"),
    "onnxruntime": ("checks an ONNX export", "pip install 'smil-regressor[onnx]'"),
} | TRACKERS
MODEL_PAGE = "https://github.com/FabianPlum/SMILify"
LEAST_FREE_GB = 5


def environment_findings(folder: Path | None = None) -> list[Finding]:
    """Versions, devices, optional packages and files found below `folder` (default: where the command runs)."""
    folder = folder or Path.cwd()
    return [
        *package_findings(REQUIRED, OPTIONAL),
        *device_findings("set training.precision to 16-mixed or 32-true"),
        *_body_models(folder),
        *_weights(),
        *machine_findings(folder, LEAST_FREE_GB, "smil", "checkpoints of ViT-L need 4 GB a run"),
    ]


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
