"""Runs in processes of their own: killed, signalled, and several that train as one."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from posecore.training import FitConfig, fit, load_checkpoint
from posecore.training.checkpoints import all_checkpoints
from posecore.training.trackers import read_metrics

sys.path.append(str(Path(__file__).parent))
import toy_task as toy  # by its name, so that other processes can import it too

COMMON = {"epochs": 3, "lr": 0.02, "accelerator": "cpu", "trackers": [], "figures_every": None, "log_every": 3}
TIMEOUT_S = 120

# One process imports torch and Fabric (5 to 10 s); the runs are forked from it and start at once.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["posecore.training.loop"])


def start(run_dir, settings, resume=None, **environment):
    """Starts a run in this environment, in a process of its own."""
    process = processes.Process(target=toy.main, args=(run_dir, COMMON | settings, resume, environment))
    process.start()
    return process


def start_two(run_dir, settings, resume=None, launcher="torchrun", **environment):
    """Starts two processes with what torchrun or srun would put into their environments."""
    port = str(free_port())
    return [start(run_dir, settings, resume, **tasks[launcher](rank, port), **environment) for rank in ("0", "1")]


def torchrun_environment(rank, port):
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    return meeting | {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


def slurm_environment(rank, port):
    job = {"SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "toy", "SLURM_STEP_ID": "0", "SLURM_NODELIST": "localhost"}
    size = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
    return job | size | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "MASTER_PORT": port}


tasks = {"torchrun": torchrun_environment, "slurm": slurm_environment}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def exit_codes(*started):
    for process in started:
        process.join(TIMEOUT_S)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    return codes


def here(run_dir, settings, resume=None, **task):
    torch.set_num_threads(1)
    settings = COMMON | settings
    return fit(toy.Toy(settings, **task), FitConfig(**settings), run_dir, resume)


def last(run_dir):
    return load_checkpoint(all_checkpoints(run_dir / "checkpoints")[-1])


def outcomes(run_dir):
    return [json.loads(Path(f"{run_dir}.rank{rank}.json").read_text()) for rank in (0, 1)]


def timeless_metrics(run_dir):
    ignored = ("samples_per_s", "data_wait_s")
    return [{k: v for k, v in line.items() if k not in ignored} for line in read_metrics(run_dir / "metrics.jsonl")]


def test_a_run_killed_within_an_epoch_and_resumed_ends_with_the_weights_of_the_undisturbed_run(tmp_path):
    settings = {"save_every": {"steps": 4}, "ema_decay": 0.9, "workers": 2, "epochs": 2}
    killed = start(tmp_path / "killed", settings, TOY_DIE_AT_STEP="10", TOY_DROPOUT="0.3")
    here(tmp_path / "straight", settings, dropout=0.3)
    assert exit_codes(killed) == [-9]
    assert last(tmp_path / "killed").step == 8
    here(tmp_path / "killed", settings, resume="auto", dropout=0.3)
    assert toy.weights_digest(last(tmp_path / "killed")) == toy.weights_digest(last(tmp_path / "straight"))
    assert timeless_metrics(tmp_path / "killed") == timeless_metrics(tmp_path / "straight")


@pytest.mark.ddp
def test_two_processes_equal_one_with_micro_batches_averages_and_layers_that_unfreeze_on_the_way(tmp_path):
    settings = {"accumulation": 2, "ema_decay": 0.9}
    two = start_two(tmp_path / "two", settings, TOY_UNFREEZE_EPOCH="1")
    here(tmp_path / "one", settings, unfreeze_epoch=1)
    assert exit_codes(*two) == [0, 0]
    one, both = last(tmp_path / "one"), last(tmp_path / "two")
    torch.testing.assert_close(one.weights, both.weights, rtol=1e-5, atol=1e-6)
    assert [outcome["metrics"] for outcome in outcomes(tmp_path / "two")] == [both.metrics, both.metrics]
    for own, other in zip(*(timeless_metrics(tmp_path / name) for name in ("one", "two")), strict=True):
        assert own == pytest.approx(other, rel=1e-5)


@pytest.mark.ddp
def test_a_run_of_one_process_goes_on_in_two_tasks_of_slurm(tmp_path):
    here(tmp_path / "straight", {}, unfreeze_epoch=2)
    here(tmp_path / "moved", {"max_steps": 8}, unfreeze_epoch=2)
    two = start_two(tmp_path / "moved", {}, "auto", "slurm", TOY_UNFREEZE_EPOCH="2")
    assert exit_codes(*two) == [0, 0]
    straight, moved = last(tmp_path / "straight"), last(tmp_path / "moved")
    torch.testing.assert_close(straight.weights, moved.weights, rtol=1e-5, atol=1e-6)


@pytest.mark.ddp
def test_a_signal_to_one_of_two_processes_saves_and_ends_both(tmp_path):
    two = start_two(tmp_path / "run", {"validate_at_start": False}, TOY_SIGNAL_AT_STEP="4", TOY_ONLY_RANK="1")
    assert exit_codes(*two) == [0, 0]
    first, second = outcomes(tmp_path / "run")
    assert first == second
    assert first["was_preempted"]
    assert 4 < first["step"] < 9
    assert last(tmp_path / "run").step == first["step"]
    assert len(last(tmp_path / "run").training_state()["random"]) == 2


@pytest.mark.ddp
def test_a_process_that_dies_takes_the_other_along(tmp_path):
    started = time.monotonic()
    codes = exit_codes(*start_two(tmp_path / "run", {}, TOY_DIE_AT_STEP="4", TOY_ONLY_RANK="1"))
    assert codes[1] == -9
    assert codes[0] not in (0, None)
    assert time.monotonic() - started < 60


@pytest.mark.ddp
@pytest.mark.slow
def test_devices_2_starts_the_second_process_itself(tmp_path):
    """Slow: imports torch and Fabric twice, one after the other."""
    settings = COMMON | {"devices": 2}
    subprocess.run([sys.executable, toy.__file__, str(tmp_path / "run"), json.dumps(settings)], check=True, timeout=300)
    assert [outcome["step"] for outcome in outcomes(tmp_path / "run")] == [18, 18]
    assert os.listdir(tmp_path / "run" / "checkpoints")
