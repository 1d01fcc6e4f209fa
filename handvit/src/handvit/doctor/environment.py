"""The machine: versions, devices, optional packages, and which files lie where `handvit` would be given them."""

import os
from pathlib import Path

from handvit.config.backbones import PUBLIC
from handvit.doctor.hands import hand_files
from handvit.hand.files import MANO_PAGE
from posecore.doctor import TRACKERS, Finding, device_findings, machine_findings, package_findings

REQUIRED = (
    *("posecore", "handvit", "torch", "transformers", "kornia", "numpy", "scipy", "h5py", "safetensors"),
    *("webdataset", "lightning-fabric", "warp-lang", "trimesh"),
)
OPTIONAL = {
    "onnx": ("export --format onnx", "pip install 'handvit[onnx]'"),
    "onnxruntime": ("compares an ONNX export with PyTorch", "pip install 'handvit[onnx]'"),
    "mediapipe": ("predict --detector: finds hands in pictures", "pip install 'handvit[detector]'"),
} | TRACKERS
LEAST_FREE_GB = 30
MANO_FOLDERS = ("", "models", "mano", "models/mano", "data", "data/mano")


def environment_findings(folder: Path | None = None) -> list[Finding]:
    """Versions, devices, optional packages and files found below `folder` (default: where the command runs)."""
    folder = folder or Path.cwd()
    return [
        *package_findings(REQUIRED, OPTIONAL),
        *device_findings("set train.mixed_precision to fp16 or no"),
        *_hands(folder),
        *_encoders(),
        *machine_findings(folder, LEAST_FREE_GB, "handvit", "a run of dinov2-large keeps 20 to 30 GB of checkpoints"),
    ]


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
