"""Shared fixtures: the reference vectors, the command, small made-up data and small trained networks."""

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
        for folder in (SHARED / "reference" / "vpog", HERE / "data"):
            file = folder / f"{name}.npz"
            if file.is_file():
                with np.load(file, allow_pickle=False) as arrays:
                    return {key: arrays[key] for key in arrays.files}
        pytest.skip(f"{name}.npz is neither in tests/data nor in a shared reference folder (set POSE_SHARED)")

    return read


@pytest.fixture(scope="session")
def command() -> Callable[..., Any]:
    """Runs `vpog ARGUMENTS` in this process; what nobody foresaw is raised."""
    import logging

    from typer.testing import CliRunner

    from posecore.training import preemption
    from vpog.cli import app

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
def data(tmp_path_factory) -> Path:
    """A root folder: `synth/train` (12 pictures of 96 px) and `synth/val` (5), both of the same three objects; templates
    of level 0; the pictures of `val` also as the BOP scenes `synth/test`, with targets."""
    from vpog.data.synthetic import EASY, SyntheticOptions, synthesise

    root = tmp_path_factory.mktemp("objects")
    common: dict[str, Any] = {"objects": 3, "size_hw": (96, 96), "scene": EASY, "template_level": 0}
    synthesise(root, SyntheticOptions(images=12, split="train", images_per_shard=5, **common))
    synthesise(root, SyntheticOptions(images=5, split="val", seed=1, bop_split="test", **common))
    return root


SMALL = (
    "model.img_size=64",
    'model.encoder={"kind":"croco","dim":32,"depth":1,"heads":1}',
    'model.decoder={"kind":"joint","dim":32,"depth":1,"heads":1,"window":2,"position":{"px":2,"py":2,"ps":2}}',
    'model.heads={"hidden":32,"proj":16,"flow_hidden":32}',
    "data.selection.num_positive=2",
    "train.batch_size=4",
    "train.warmup_steps=1",
    "train.log_steps=1",
    "train.trackers=[]",
    "train.workers=0",
    "figures.enabled=false",
    "inference.group=3",
    "inference.kept_views=2",
    "inference.min_probability=0.001",
    "inference.point_stride=8",
    "inference.refinements=0",
    "loss.pnp.weight=0.0",
)
"""Overrides of tiny.json: a network that takes a step in milliseconds."""


@pytest.fixture(scope="session")
def settings(data) -> Callable[..., list[str]]:
    """`settings("a.b=c", ...)`: overrides of tiny.json for a small network on the made-up data."""
    from vpog.layout import dataset_of_folder

    def make(*overrides: str) -> list[str]:
        named = (
            f"data.{part}={json.dumps([dataset_of_folder(data / 'synth' / split).to_json_dict()])}"
            for part, split in (("train", "train"), ("val", "val"), ("test", "test"))
        )
        return [*SMALL, *named, *overrides]

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory, command, settings) -> Callable[..., Path]:
    """`trained("a.b=c", ...)`: the folder of a small run of two steps with these overrides; each is made once."""
    made: dict[tuple[str, ...], Path] = {}

    def make(*overrides: str) -> Path:
        if overrides not in made:
            folder = tmp_path_factory.mktemp("run") / "run"
            words = [part for o in settings("train.steps=2", *overrides) for part in ("--set", o)]
            done = command("train", "--config", "tiny.json", "--run-dir", folder, *words)
            assert done.exit_code == 0, done.output
            made[overrides] = folder
        return made[overrides]

    return make


@pytest.fixture(scope="session")
def run(trained) -> Path:
    """The folder of a small run of two steps."""
    return trained()
