"""Shared fixtures: the reference vectors and the command."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # networks this small wait for each other's threads longer than they take

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("suite", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("suite")

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("POSE_SHARED", HERE.parents[2] / "shared"))

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def reference() -> Callable[[str], Arrays]:
    """Arrays of one reference file, from the shared folder where there is one, else from this package's copies."""

    def read(name: str) -> Arrays:
        for folder in (SHARED / "reference" / "keypoint_nvs", HERE / "data"):
            file = folder / f"{name}.npz"
            if file.is_file():
                with np.load(file, allow_pickle=False) as arrays:
                    return {key: arrays[key] for key in arrays.files}
        pytest.skip(f"{name}.npz is neither in tests/data nor in a shared reference folder (set POSE_SHARED)")

    return read


@pytest.fixture(scope="session")
def command() -> Callable[..., Any]:
    """Runs `keypoint-nvs ARGUMENTS` in this process; what nobody foresaw is raised."""
    import logging

    from keypoint_nvs.cli import app
    from typer.testing import CliRunner

    from posecore.training import preemption

    def run(*arguments: object) -> Any:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        try:
            result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        finally:
            root.handlers[:], root.level = handlers, level
            preemption.uninstall()
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
