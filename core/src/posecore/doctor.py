"""What every system's `doctor` says: findings that a person can act on, packages, devices, disk."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from posecore.errors import InputError

Level = Literal["ok", "warning", "error"]
MARKS: dict[Level, str] = {"ok": "ok      ", "warning": "warning ", "error": "ERROR   "}
OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python")
TRACKERS = {
    "aim": ("tracking with aim", "pip install aim"),
    "wandb": ("tracking with wandb", "pip install wandb"),
}
"""Optional packages of all systems."""


@dataclass(frozen=True)
class Finding:
    """One fact about a file or the machine. error: it will not work, or train on wrong data; warning: know this."""

    level: Level
    subject: str
    """What was looked at: a path, a part of it, a package."""
    text: str
    remedy: str = ""
    """What to do; empty where nothing is to be done or the text says it."""


def format_findings(findings: Sequence[Finding]) -> str:
    """A line a finding, its remedy below, and a count at the end."""
    lines = []
    for finding in findings:
        lines.append(f"{MARKS[finding.level]}{finding.subject}: {finding.text}")
        if finding.remedy:
            lines.append(f"{'':8}-> {finding.remedy}")
    errors, warnings = (sum(f.level == level for f in findings) for level in ("error", "warning"))
    return "\n".join([*lines, f"{errors} errors, {warnings} warnings"])


def from_error(path: object, error: InputError) -> list[Finding]:
    """The problems of a wrong input; they name the file and what would be right themselves."""
    return [
        Finding("error", str(path), problem.removeprefix(f"{path}: ").removeprefix(f"{path}"))
        for problem in error.problems
    ]


def package_findings(required: Sequence[str], optional: Mapping[str, tuple[str, str]]) -> list[Finding]:
    """Python, the packages that are needed (OpenCV under any of its names), and those that are not.

    Args:
        required: Names of distributions.
        optional: Module to what it is for and how to get it.
    """
    findings = [Finding("ok", "python", f"{platform.python_version()} at {sys.executable}, {platform.platform()}")]
    for name in required:
        found = installed_version(name)
        if found is None:
            findings.append(Finding("error", name, "not installed", f"pip install {name}"))
        else:
            findings.append(Finding("ok", name, found))
    opencv = next((found for name in OPENCV if (found := installed_version(name)) is not None), None)
    if opencv is None:
        findings.append(Finding("error", "opencv", "not installed", f"pip install {OPENCV[0]}"))
    else:
        findings.append(Finding("ok", "opencv", opencv))
    for module, (purpose, remedy) in optional.items():
        if find_spec(module) is None:
            findings.append(Finding("ok", module, f"not installed (optional: {purpose})", remedy))
        else:
            findings.append(Finding("ok", module, f"{installed_version(module) or 'installed'} ({purpose})"))
    return findings


def device_findings(without_bf16: str) -> list[Finding]:
    """GPUs that torch sees, or why there is none.

    Args:
        without_bf16: What to set on a GPU that has no bf16.
    """
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
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else f"no bf16: {without_bf16}"
        text = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {bf16}"
        findings.append(Finding("ok", f"cuda:{index}", text))
    return findings


def machine_findings(folder: Path, least_free_gb: float, command: str, reason: str) -> list[Finding]:
    """Room on the disk of a folder, and SLURM.

    Args:
        least_free_gb: Less is worth a warning.
        command: The system's own.
        reason: What takes the room.
    """
    free = shutil.disk_usage(folder).free / 1e9
    if free >= least_free_gb:
        findings = [Finding("ok", "disk", f"{free:.0f} GB free at {folder}")]
    else:
        findings = [Finding("warning", "disk", f"{free:.1f} GB free at {folder}", reason)]
    if shutil.which("sbatch"):
        findings.append(Finding("ok", "slurm", f"sbatch is here: {command} submit works"))
    return findings


def installed_version(name: str) -> str | None:
    """Of a distribution; None: it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
