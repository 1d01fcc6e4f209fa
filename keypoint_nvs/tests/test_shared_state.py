"""Running sizes and votes are the same in all processes, as on the whole batch."""

import json
import os
import subprocess
import sys

import pytest
import torch

ONE_OF_TWO = """
import json, sys, torch
from keypoint_nvs.losses.balance import LossBalance
from keypoint_nvs.model.running_votes import RunningVotes
from posecore.losses import Term

def run(part):
    balance, votes = LossBalance(("nvs", "point"), "ema", 0.9), RunningVotes(6, memory=5)
    generator = torch.Generator().manual_seed(0)
    for step in range(4):
        errors, tokens = torch.rand(2, 4, generator=generator), torch.randint(0, 6, (4, 2), generator=generator)
        terms = {name: Term(e[part].sum(), torch.tensor(float(len(e[part])))) for name, e in zip(balance.names, errors)}
        counts = dict.fromkeys(balance.names, torch.tensor(4.0))
        for _ in range(2):  # two micro-batches
            balance.weigh(terms, dict.fromkeys(balance.names, 1.0), counts, step)
        votes.add(tokens[part], step)
    state = [value.double().tolist() for module in (balance, votes) for value in module.state_dict().values()]
    print(json.dumps(state))

rank = int(sys.argv[1])
if rank < 2:
    torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
    run(slice(2 * rank, 2 * rank + 2))
    torch.distributed.destroy_process_group()
else:
    run(slice(None))
"""


@pytest.mark.ddp
@pytest.mark.slow  # three processes import torch for it
def test_two_processes_keep_the_state_of_one(tmp_path):
    commands = [[sys.executable, "-P", "-c", ONE_OF_TWO, str(rank), str(tmp_path / "store")] for rank in (0, 1, 2)]
    alone_on_a_core = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True, env=alone_on_a_core) for each in commands]
    first, second, whole = (json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in processes)
    assert first == second
    for split, together in zip(first, whole, strict=True):
        torch.testing.assert_close(torch.tensor(split), torch.tensor(together), rtol=1e-5, atol=1e-6)
