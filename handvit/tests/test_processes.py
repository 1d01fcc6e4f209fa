"""Runs in processes of their own: killed and resumed, and two that train as one."""

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
STEPS = 16
ATTENDED = ("model.persp_info_embed.type=ca", "model.persp_info_embed.num_head=2", "model.persp_info_embed.dim_head=8")
"""No batch statistics: a process sees only its own share of the batch, so that those of `dense` differ by process."""


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
    command = [sys.executable, "-P", "-m", "handvit.cli", *map(str, words)]
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


def test_a_killed_run_that_goes_on_ends_as_the_undisturbed_one_to_the_bit(settings, command, tmp_path):
    overrides = settings(
        f"general.total_step={STEPS}", "general.checkpoint_step=3", "general.validation_step=8", "train.ema_decay=0.9",
        "train.augmentation.enabled=true", "model.handec.dropout=0.2", "general.dropout_warmup_step=8",
    )  # fmt: skip
    killed, straight = words_of(tmp_path / "killed", overrides), words_of(tmp_path / "straight", overrides)
    kill_after(start(killed), tmp_path / "killed" / "checkpoints" / "step-00000006")
    assert 6 <= load_checkpoint(all_checkpoints(tmp_path / "killed" / "checkpoints")[-1], "handvit").step < STEPS
    for words in ([*killed, "--resume", "auto"], straight):
        done = command(*words)
        assert done.exit_code == 0, done.output
    last = f"checkpoints/step-{STEPS:08d}"
    resumed, undisturbed = (load_checkpoint(tmp_path / name / last, "handvit") for name in ("killed", "straight"))
    assert resumed.weights.keys() == undisturbed.weights.keys()
    assert all(torch.equal(value, undisturbed.weights[name]) for name, value in resumed.weights.items())
    assert timeless_metrics(tmp_path / "killed") == timeless_metrics(tmp_path / "straight")


def environment(rank, port):
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    return meeting | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_learn_the_weights_of_one(settings, command, tmp_path):
    """Slow: torch, Fabric and the task are imported in two new processes."""
    overrides = settings(*ATTENDED, "general.total_step=4", "general.warmup_step=2", "train.augmentation.enabled=true")
    whole = words_of(tmp_path / "one", [*overrides, "train.sample_per_device=4"])
    halves, port = words_of(tmp_path / "two", [*overrides, "train.sample_per_device=2"]), free_port()
    two = [start(halves, **environment(rank, port)) for rank in range(2)]
    assert command(*whole).exit_code == 0
    assert [process.wait(TIMEOUT_S) for process in two] == [0, 0]
    alone, both = (
        load_checkpoint(tmp_path / name / "checkpoints" / "step-00000004", "handvit") for name in ("one", "two")
    )
    torch.testing.assert_close(_determined(both.weights), _determined(alone.weights), rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(
        read_metrics(tmp_path / "two" / "metrics.jsonl"), read_metrics(tmp_path / "one" / "metrics.jsonl"), strict=True
    ):
        for name in mine.keys() - {"samples_per_s", "data_wait_s"}:
            assert (mine[name] is None) == (theirs[name] is None), name
            assert mine[name] is None or mine[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-5), name


def _determined(weights):
    """All but q and k of the decoder's self-attention: of its one token with itself the weight is 1 whatever they are.

    Their gradients are rounding, which Adam scales up to whole steps.
    """
    name = "handec.transformer.transformer.layers.0.0.fn.to_qkv.weight"
    return weights | {name: weights[name].chunk(3)[2]}
