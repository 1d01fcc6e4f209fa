"""Shared fixtures: the reference vectors, from this package's copies or from a folder of all of them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import jaxtyping
import numpy as np
import pytest

from posecore.bodymodel import BodyArrays

hypothesis.settings.register_profile("suite", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("suite")

DATA = Path(__file__).parent / "data"
REFERENCE = Path(os.environ.get("POSE_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))

Arrays = dict[str, np.ndarray]


@pytest.fixture
def unchecked() -> Iterator[None]:
    """A function's own checks alone, also in a run that checks annotations (`--jaxtyping-packages`)."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


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


@pytest.fixture(scope="session")
def random_body() -> Callable[..., BodyArrays]:
    """A made-up body: two bones a vertex, a regressor of few vertices, a tree that branches; its sizes are its seed."""

    def build(v: int = 40, j: int = 7, c: int = 3, posedirs: bool = False, static: bool = False) -> BodyArrays:
        rng = np.random.default_rng([v, j, c])
        weights = np.zeros((v, j))
        for bone in rng.integers(0, j, (2, v)):
            weights[np.arange(v), bone] += rng.uniform(0.1, 1, v)
        regressor = np.zeros((j, v))
        for row in regressor:
            row[rng.choice(v, 5, replace=False)] = rng.uniform(0.1, 1, 5)
        return BodyArrays(
            template=rng.normal(size=(v, 3)),
            faces=rng.integers(0, v, (2 * v, 3)),
            weights=weights / weights.sum(1, keepdims=True),
            parents=np.array([-1, *(max(0, i - int(rng.integers(1, 4))) for i in range(1, j))]),
            joint_names=tuple(f"bone_{i}" for i in range(j)),
            shapedirs=0.1 * rng.normal(size=(v, 3, c)),
            joint_regressor=None if static else regressor / regressor.sum(1, keepdims=True),
            static_joints=static,
            joints=rng.normal(size=(j, 3)),
            posedirs=0.02 * rng.normal(size=(v, 3, 9 * (j - 1))) if posedirs else None,
            scaledirs=0.1 * rng.normal(size=(c, j, 3)) if c else None,
            transdirs=rng.normal(size=(c, j, 3)) if c else None,
        )

    return build
