"""Whole runs: killed and resumed, two processes that train as one, accumulated batches, workers."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from posecore.training import load_checkpoint
from posecore.training.checkpoints import Checkpoint, all_checkpoints
from posecore.training.trackers import read_metrics

TIMEOUT_S = 240
STEPS = 8
SYSTEM = "keypoint_nvs"
SMALL_LR = 1e-4
"""Adam divides by gradients that are rounding alone: weights that nothing moves differ by up to the rate."""
ALL_THAT_VARIES = (
    "train.ema_decay=0.9",
    "loss.balance=ema",
    "loss.point=300",
    "loss.spread=1",
    "loss.foreground=1",
    "nvs.drop_condition=0.5",
    "data.vary_condition_px=[16,32]",
    "keypoints.train_unet=true",
    "keypoints.use_condition_view=true",
)


@pytest.fixture(autouse=True)
def one_thread():
    """As in the other processes: sums over several threads round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def words_of(folder: Path, overrides: list[str], stage: str = "joint") -> list[object]:
    return [
        "train",
        "--config",
        f"tiny_{stage}.json",
        "--run-dir",
        folder,
        *(w for o in overrides for w in ("--set", o)),
    ]


def start(words: list[object], **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "keypoint_nvs.cli", *map(str, words)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)


def timeless_metrics(run: Path) -> list[dict[str, object]]:
    ignored = ("samples_per_s", "data_wait_s")
    return [{k: v for k, v in line.items() if k not in ignored} for line in read_metrics(run / "metrics.jsonl")]


def kill_after(process: subprocess.Popen[bytes], checkpoint: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    assert process.wait(TIMEOUT_S) == -9, "it ended before it was killed"


def newest(run: Path) -> Checkpoint:
    return load_checkpoint(all_checkpoints(run / "checkpoints")[-1], SYSTEM)


def test_a_killed_joint_run_that_goes_on_ends_as_the_undisturbed_one_to_the_bit(settings, trained, command, tmp_path):
    """With all that varies: dropped conditions, warps, votes, running sizes of the terms, the average of the weights."""
    weights = f"model.weights={trained('nvs')}"
    changes = (f"train.steps={STEPS}", "train.checkpoint_steps=2", "train.validation_steps=4")
    overrides = settings("joint", weights, *changes, *ALL_THAT_VARIES)
    killed, straight = (words_of(tmp_path / name, overrides) for name in ("killed", "straight"))
    kill_after(start(killed), tmp_path / "killed" / "checkpoints" / "step-00000002")
    assert 2 <= newest(tmp_path / "killed").step < STEPS
    for words in ([*killed, "--resume", "auto"], straight):
        done = command(*words)
        assert done.exit_code == 0, done.output
    mine, theirs = (newest(tmp_path / name) for name in ("killed", "straight"))
    assert mine.step == theirs.step == STEPS
    assert mine.weights.keys() == theirs.weights.keys()
    assert [name for name, value in mine.weights.items() if not torch.equal(value, theirs.weights[name])] == []
    assert timeless_metrics(tmp_path / "killed") == timeless_metrics(tmp_path / "straight")


def test_workers_change_nothing(settings, command, tmp_path, trained):
    alone = trained("nvs")
    overrides = settings("nvs", "train.steps=2", f"model.weights={trained('autoencoder')}", "train.workers=2")
    done = command(*words_of(tmp_path / "run", overrides, "nvs"))
    assert done.exit_code == 0, done.output
    torch.testing.assert_close(newest(alone).weights, newest(tmp_path / "run").weights, rtol=1e-5, atol=1e-6)
    first, other = (read_metrics(folder / "metrics.jsonl")[1]["train/total"] for folder in (alone, tmp_path / "run"))
    assert first == other


def assert_close_runs(first: Path, second: Path) -> None:
    mine, theirs = newest(first), newest(second)
    torch.testing.assert_close(mine.weights, theirs.weights, rtol=1e-4, atol=3e-5)
    lines = [read_metrics(run / "metrics.jsonl") for run in (first, second)]
    for line, other in zip(*lines, strict=True):
        for name in line.keys() - {"samples_per_s", "data_wait_s"}:
            if "train/" in name or name == "grad_norm":
                assert line[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), name


STAGES = {"autoencoder": None, "nvs": "autoencoder", "joint": "nvs"}


@pytest.mark.parametrize("stage", STAGES)
def test_two_accumulated_halves_learn_the_weights_of_the_whole_batch(stage, settings, trained, command, tmp_path):
    before = STAGES[stage]
    weights = [] if before is None else [f"model.weights={trained(before)}"]
    more = ALL_THAT_VARIES if stage == "joint" else ()
    for name, changes in (
        ("whole", ("train.batch_size=4",)),
        ("halves", ("train.batch_size=2", "train.accumulation=2")),
    ):
        overrides = settings(stage, "train.steps=3", f"train.lr={SMALL_LR}", *weights, *more, *changes)
        done = command(*words_of(tmp_path / name, overrides, stage))
        assert done.exit_code == 0, done.output
    assert_close_runs(tmp_path / "halves", tmp_path / "whole")


def environment(rank: int, port: int) -> dict[str, str]:
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    return meeting | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_learn_the_weights_of_one(settings, trained, command, tmp_path):
    """The multi-view terms come in at step 1: which of them there are must be the same in both processes."""
    overrides = settings(
        "joint", "train.steps=3", f"train.lr={SMALL_LR}", f"model.weights={trained('nvs')}", *ALL_THAT_VARIES
    )
    halves, port = words_of(tmp_path / "two", [*overrides, "train.batch_size=2"]), free_port()
    two = [start(halves, **environment(rank, port)) for rank in range(2)]
    try:
        done = command(*words_of(tmp_path / "one", [*overrides, "train.batch_size=4"]))
        assert done.exit_code == 0, done.output
        assert [process.wait(TIMEOUT_S) for process in two] == [0, 0]
    finally:
        for process in two:
            process.kill()
    assert_close_runs(tmp_path / "two", tmp_path / "one")
