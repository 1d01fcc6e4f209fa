"""Shared fixtures: the reference vectors, from this package's copies or from a folder of all of them."""

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("suite", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("suite")

DATA = Path(__file__).parent / "data"
REFERENCE = Path(os.environ.get("POSE_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def reference() -> Callable[[str], Arrays]:
    """Arrays of one reference file by its name, e.g. `core/rotations`."""

    def read(name: str) -> Arrays:
        for folder in (DATA, REFERENCE):
            file = folder / f"{name}.npz"
            if file.is_file():
                with np.load(file, allow_pickle=False) as arrays:
                    return {key: arrays[key] for key in arrays.files}
        pytest.skip(f"{name}.npz is neither in tests/data nor in {REFERENCE} (set POSE_REFERENCE)")

    return read
