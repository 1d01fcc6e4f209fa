"""Shared fixtures: the reference vectors, the command, small made-up data and small trained networks."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        for folder in (SHARED / "reference" / "handvit", HERE / "data"):
            file = folder / f"{name}.npz"
            if file.is_file():
                with np.load(file, allow_pickle=False) as arrays:
                    return {key: arrays[key] for key in arrays.files}
        pytest.skip(f"{name}.npz is neither in tests/data nor in a shared reference folder (set POSE_SHARED)")

    return read


@pytest.fixture(scope="session")
def command() -> Callable[..., Any]:
    """Runs `handvit ARGUMENTS` in this process; what nobody foresaw is raised."""
    import logging

    from typer.testing import CliRunner

    from handvit.cli import app
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
def synthetic(tmp_path_factory) -> Callable[..., Path]:
    """`synthetic(split, clips=12, frames=1, seed=3)`: a folder of shards of the stand-in hand, 96 px; each is made once."""
    from handvit.data.synthetic import synthesise
    from handvit.hand import read_hand

    made: dict[tuple[Any, ...], Path] = {}

    def make(split: str, clips: int = 12, frames: int = 1, seed: int = 3) -> Path:
        key = (split, clips, frames, seed)
        if key not in made:
            folder = tmp_path_factory.mktemp(split)
            synthesise(folder, read_hand(None), clips=clips, frames=frames, size=(96, 96), seed=seed, split=split)
            made[key] = folder
        return made[key]

    return make


@pytest.fixture(scope="session")
def pictures(synthetic) -> Path:
    """Shards of twelve single frames."""
    return synthetic("train")


@pytest.fixture(scope="session")
def videos(synthetic) -> Path:
    """Shards of four clips of nine frames, of right and left hands."""
    return synthetic("val", clips=4, frames=9, seed=4)


SMALL = (
    "general.log_step=1",
    "general.vis_step=null",
    "general.trackers=[]",
    "general.warmup_step=1",
    "train.sample_per_device=4",
    "model.img_size=32",
    'model.backbone.kwargs={"hidden_size":32,"num_hidden_layers":2,"num_attention_heads":2,"mlp_ratio":2,"patch_size":8}',
    "model.backbone.infusion_layer=null",
    "model.handec.num_layer=1",
    "model.handec.mlp_dim=32",
    "model.handec.translation.num_bins=[32,32,48]",
)
"""Overrides of tiny.json: a network that takes a step in milliseconds."""


@pytest.fixture(scope="session")
def settings(pictures, videos) -> Callable[..., list[str]]:
    """`settings("a.b=c", ...)`: overrides of tiny.json for a small network on the made-up data."""

    def make(*overrides: str) -> list[str]:
        data = (f"data.{part}.datasets={json.dumps([{'name': part, 'shards': str(folder)}])}"
                for part, folder in (("train", pictures), ("val", videos), ("test", videos)))  # fmt: skip
        return [*SMALL, *data, *overrides]

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory, command, settings) -> Callable[..., Path]:
    """`trained("a.b=c", ...)`: the folder of a small run of two steps with these overrides; each is made once."""
    made: dict[tuple[str, ...], Path] = {}

    def make(*overrides: str) -> Path:
        if overrides not in made:
            folder = tmp_path_factory.mktemp("run") / "run"
            words = [part for o in settings("general.total_step=2", *overrides) for part in ("--set", o)]
            done = command("train", "--config", "tiny.json", "--run-dir", folder, *words)
            assert done.exit_code == 0, done.output
            made[overrides] = folder
        return made[overrides]

    return make


ATTENDED = ("model.persp_info_embed.type=ca", "model.persp_info_embed.num_head=2", "model.persp_info_embed.dim_head=8")
"""Viewing rays through attention, without batch statistics: samples do not depend on the others in their batch."""


@pytest.fixture(scope="session")
def stage1(trained) -> Path:
    """A run of stage 1, of the `dense` embedder with its batch statistics."""
    return trained()


@pytest.fixture(scope="session")
def stage2(trained, videos, stage1) -> Path:
    """A run of stage 2 on clips of three frames, from `stage1`."""
    data = json.dumps([{"name": "videos", "shards": str(videos)}])
    return trained("model.stage=2", "model.num_frame=3", f"general.stage1_path={stage1}", f"data.train.datasets={data}")
