"""Shared fixtures: the reference vectors, the command, small made-up stores and small trained networks."""

import json
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

    from typer.testing import CliRunner

    from keypoint_nvs.cli import app
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


@pytest.fixture(scope="session")
def stores(tmp_path_factory) -> Path:
    """A folder of stores of 32 px: `train.h5` (12 objects), `val.h5` (4 others), `frames.h5` (4 objects of 3 frames)."""
    from keypoint_nvs.data.synthetic import SyntheticOptions, synthesise

    folder = tmp_path_factory.mktemp("stores")
    synthesise(folder / "train.h5", SyntheticOptions(objects=12))
    synthesise(folder / "val.h5", SyntheticOptions(objects=4, first_object=12))
    synthesise(folder / "frames.h5", SyntheticOptions(objects=4, frames=3))
    return folder


COMMON = (
    "train.warmup_steps=1",
    "train.log_steps=1",
    "train.trackers=[]",
    "train.workers=0",
    "train.checkpoint_steps=1000",
    "train.validation_steps=1000",
    "figures.enabled=false",
    "inference.sampling_steps=2",
    "inference.samples=1",
    "train.ema_decay=null",
    "train.lr=0.001",
)
TOKENS = (
    "train.token_lr=0.005",
    "keypoints.train_unet=false",
    "keypoints.num_tokens=16",
    "keypoints.num_keypoints=4",
    "keypoints.candidates=8",
    'keypoints.layers=["up_blocks.1.attentions.0"]',
    'keypoints.multiview={"start_step":1,"ramp_steps":2}',
    "keypoints.vote_samples=8",
    "inference.warps=2",
    "inference.map_px=32",
    "inference.batch_size=8",
)
"""Overrides of tiny_STAGE.json: steps of a fraction of a second."""
WITH_TOKENS = ("keypoints", "joint")


@pytest.fixture(scope="session")
def settings(stores) -> Callable[..., list[str]]:
    """`settings(stage, "a.b=c", ...)`: overrides of tiny_STAGE.json for small steps on the made-up data."""

    def make(stage: str, *overrides: str) -> list[str]:
        named = (
            f"data.{part}={json.dumps([{'kind': 'multiview', 'path': str(stores / f'{part}.h5')}])}"
            for part in ("train", "val")
        )
        own = (*COMMON, "train.batch_size=2", *(TOKENS if stage in WITH_TOKENS else ()))
        return [*own, *named, *overrides]

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory, command, settings) -> Callable[..., Path]:
    """`trained(stage, "a.b=c", ...)`: the folder of a run of two steps with these overrides; each is made once.

    nvs begins with the run of the autoencoder, keypoints and joint with that of nvs.
    """
    made: dict[tuple[str, ...], Path] = {}

    def make(stage: str, *overrides: str) -> Path:
        if (stage, *overrides) not in made:
            before = {"nvs": "autoencoder", "keypoints": "nvs", "joint": "nvs"}.get(stage)
            first = [] if before is None else [f"model.weights={make(before)}"]
            folder = tmp_path_factory.mktemp("run") / stage
            words = [w for o in settings(stage, "train.steps=2", *first, *overrides) for w in ("--set", o)]
            done = command("train", "--config", f"tiny_{stage}.json", "--run-dir", folder, *words)
            assert done.exit_code == 0, done.output
            made[(stage, *overrides)] = folder
        return made[(stage, *overrides)]

    return make
