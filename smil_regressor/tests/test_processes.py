"""Two processes train as one."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch

from posecore.training import load_checkpoint

TIMEOUT_S = 240


def environment(rank, port):
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    size = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    return os.environ | meeting | size | {"OMP_NUM_THREADS": "1"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_learn_the_weights_of_one(run, insects_file, tmp_path):
    """Slow: torch, Fabric and the task are imported in two new processes."""
    config = json.loads((run / "config.json").read_text())["config"]
    assert (config["model"]["camera_dropout"], config["model"]["transformer_dropout"]) == (0, 0)
    (tmp_path / "same.json").write_text(json.dumps(config))
    words = ["train", "--config", tmp_path / "same.json", "--data-path", insects_file, "--run-dir", tmp_path / "two"]
    command, port = [sys.executable, "-P", "-m", "smil_regressor.cli", *map(str, words)], free_port()
    two = [subprocess.Popen(command, env=environment(rank, port)) for rank in range(2)]
    assert [process.wait(TIMEOUT_S) for process in two] == [0, 0]
    alone, both = (load_checkpoint(r / "checkpoints" / "step-00000002", "smil") for r in (run, tmp_path / "two"))
    assert both.step == 2
    torch.testing.assert_close(both.weights, alone.weights, rtol=1e-5, atol=1e-5)
