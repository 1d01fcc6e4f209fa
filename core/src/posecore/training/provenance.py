"""What a run folder says about where its numbers come from."""

import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from posecore.training._atomic import write_bytes

PACKAGES = ("posecore", "torch", "lightning-fabric", "numpy", "opencv-python-headless", "warp-lang", "timm")
GIT_TIMEOUT_S = 20


def write_provenance(run_dir: Path, config: dict[str, Any], system: str, system_version: str) -> None:
    """Write the resolved configuration, versions, command, and commit and diff of the folder worked in."""
    write_bytes(run_dir / "config.json", (json.dumps(config, indent=2, allow_nan=False) + "\n").encode())
    facts = {
        "system": f"{system} {system_version}",
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _git("rev-parse", "HEAD").strip() or None,
    }
    write_bytes(run_dir / "environment.json", (json.dumps(facts, indent=2) + "\n").encode())
    diff = _git("diff", "HEAD")
    if diff:
        write_bytes(run_dir / "uncommitted.diff", diff.encode(errors="replace"))


def changed_fields(old: Any, new: Any, path: str = "") -> list[str]:
    """One line for each value that differs between two configurations."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [
            line for key in keys for line in changed_fields(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if old == new else [f"{path}: {json.dumps(old)} -> {json.dumps(new)}"]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str:
    """Empty where there is no git or no repository."""
    try:
        done = subprocess.run(
            ("git", *arguments), capture_output=True, text=True, errors="replace", timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
