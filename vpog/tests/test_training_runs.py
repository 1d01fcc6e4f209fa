"""Whole runs: what they leave, killed and resumed, two processes that train as one, accumulated batches."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
import torch

from posecore.training import load_checkpoint
from posecore.training.checkpoints import all_checkpoints
from posecore.training.trackers import read_metrics

TIMEOUT_S = 240
STEPS = 12


@pytest.fixture(autouse=True)
def one_thread():
    """As in the other processes: sums over several threads round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def words_of(folder, overrides):
    return ["train", "--config", "tiny.json", "--run-dir", folder, *(w for o in overrides for w in ("--set", o))]


def start(words, **environment):
    command = [sys.executable, "-P", "-m", "vpog.cli", *map(str, words)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)


def timeless_metrics(run):
    ignored = ("samples_per_s", "data_wait_s")
    return [{k: v for k, v in line.items() if k not in ignored} for line in read_metrics(run / "metrics.jsonl")]


def kill_after(process, checkpoint) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    assert process.wait(TIMEOUT_S) == -9, "it ended before it was killed"


def assert_same_weights(first, second):
    assert first.weights.keys() == second.weights.keys()
    assert all(torch.equal(value, second.weights[name]) for name, value in first.weights.items())


def test_training_leaves_all_that_a_run_is(run):
    for name in ("config.json", "metrics.jsonl", "report.html", "checkpoints/best/model.safetensors"):
        assert (run / name).exists(), name
    assert json.loads((run / "config.json").read_text())["config"]["train"]["steps"] == 2
    lines = read_metrics(run / "metrics.jsonl")
    assert [line["step"] for line in lines if "train/total" in line] == [1, 2]
    assert all(0 <= line["validation/solved"] <= 1 for line in lines if "validation/solved" in line)


def test_a_killed_run_that_goes_on_ends_as_the_undisturbed_one_to_the_bit(settings, command, tmp_path):
    """With all that varies: colours, templates' turns, drawn references, the pose loss's draws and its running scale."""
    overrides = settings(
        f"train.steps={STEPS}", "train.checkpoint_steps=3", "train.validation_steps=6", "train.ema_decay=0.9",
        "data.selection.mode=random_within_range", "data.augmentation.inplane_deg=20", "loss.pnp.weight=0.02",
        "loss.pnp.from_step=2",
    )  # fmt: skip
    killed, straight = words_of(tmp_path / "killed", overrides), words_of(tmp_path / "straight", overrides)
    kill_after(start(killed), tmp_path / "killed" / "checkpoints" / "step-00000003")
    assert 3 <= load_checkpoint(all_checkpoints(tmp_path / "killed" / "checkpoints")[-1], "vpog").step < STEPS
    for words in ([*killed, "--resume", "auto"], straight):
        done = command(*words)
        assert done.exit_code == 0, done.output
    last = f"checkpoints/step-{STEPS:08d}"
    assert_same_weights(*(load_checkpoint(tmp_path / name / last, "vpog") for name in ("killed", "straight")))
    assert timeless_metrics(tmp_path / "killed") == timeless_metrics(tmp_path / "straight")


def test_workers_change_nothing(settings, command, tmp_path, run):
    done = command(*words_of(tmp_path / "run", settings("train.steps=2", "train.workers=2")))
    assert done.exit_code == 0, done.output
    last = "checkpoints/step-00000002"
    alone, helped = (load_checkpoint(folder / last, "vpog").weights for folder in (run, tmp_path / "run"))
    torch.testing.assert_close(alone, helped, rtol=1e-5, atol=1e-6)  # sums of gradients depend on where memory begins
    first, other = (read_metrics(folder / "metrics.jsonl")[1]["train/total"] for folder in (run, tmp_path / "run"))
    assert first == other


def assert_close_runs(first, second, step):
    mine, theirs = (load_checkpoint(run / "checkpoints" / f"step-{step:08d}", "vpog") for run in (first, second))
    torch.testing.assert_close(mine.weights, theirs.weights, rtol=1e-4, atol=3e-5)
    for line, other in zip(*(read_metrics(run / "metrics.jsonl") for run in (first, second)), strict=True):
        for name in line.keys() - {"samples_per_s", "data_wait_s"}:
            if "train/" in name or name == "grad_norm":
                assert line[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), name


def test_two_accumulated_halves_learn_the_weights_of_the_whole_batch(settings, command, tmp_path):
    for name, changes in (
        ("whole", ("train.batch_size=4",)),
        ("halves", ("train.batch_size=2", "train.accumulation=2")),
    ):
        done = command(*words_of(tmp_path / name, settings("train.steps=3", *changes)))
        assert done.exit_code == 0, done.output
    assert_close_runs(tmp_path / "halves", tmp_path / "whole", 3)


def environment(rank, port):
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    return meeting | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.ddp
def test_two_processes_learn_the_weights_of_one(settings, command, tmp_path):
    """The pose loss comes in at step 2: until then its head has gradients of zero, which the other process waits for."""
    overrides = settings("train.steps=3", "loss.pnp.weight=0.02", "loss.pnp.from_step=2")
    halves, port = words_of(tmp_path / "two", [*overrides, "train.batch_size=2"]), free_port()
    two = [start(halves, **environment(rank, port)) for rank in range(2)]
    done = command(*words_of(tmp_path / "one", [*overrides, "train.batch_size=4"]))
    assert done.exit_code == 0, done.output
    assert [process.wait(TIMEOUT_S) for process in two] == [0, 0]
    assert_close_runs(tmp_path / "two", tmp_path / "one", 3)
