"""The parts of the training loop by themselves: schedules, processes, trackers, progress, where a run begins."""

import json
import logging
import math
import random
import subprocess
import sys
import types
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posecore.errors import InputError, RunError
from posecore.training import FitConfig, _random, progress, save_checkpoint
from posecore.training.batches import to_device, to_plain
from posecore.training.finite import FiniteCheck
from posecore.training.launch import _first_host, _prefer_ipv4, plan_processes
from posecore.training.provenance import changed_fields
from posecore.training.schedules import scheduled_rate
from posecore.training.starting_point import starting_point
from posecore.training.trackers import open_trackers, read_metrics


def rates(total=100, epoch_steps=10, **settings):
    config = FitConfig(max_steps=total, **settings)
    return [scheduled_rate(config, step, step // epoch_steps, total) for step in range(total)]


def test_warm_up_is_linear_and_its_first_step_is_not_zero():
    assert rates(lr=1.0, warmup_steps=4)[:6] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rates(lr=1.0, warmup_steps=2, warmup_start=0.5)[:3] == [0.75, 1.0, 1.0]


def test_a_cosine_starts_at_the_peak_after_warm_up_and_ends_at_its_floor():
    cosine = rates(total=1010, lr=2.0, warmup_steps=10, schedule={"kind": "cosine", "floor": 0.1})
    assert cosine[10] == 2.0
    assert cosine[510] == pytest.approx(2.0 * 0.55)
    assert cosine[-1] == pytest.approx(0.2, rel=1e-3)
    assert cosine[10:] == sorted(cosine[10:], reverse=True)


def test_a_shorter_cycle_ends_above_the_floor():
    """0.4 of a period: half of 1 + cos(0.8 pi) = 0.0955."""
    cosine = rates(total=1000, lr=1.0, schedule={"kind": "cosine", "cycle": 0.4})
    assert cosine[-1] == pytest.approx(0.5 * (1 + math.cos(0.8 * math.pi)), rel=0.03)


@pytest.mark.parametrize(("by", "change_at"), [("epoch", 30), ("step", 3)])
def test_steps_hold_each_rate_from_its_key_on(by, change_at):
    stepped = rates(lr=1.0, schedule={"kind": "steps", "by": by, "rates": {"3": 0.5, "5": 0.1}})
    assert stepped[change_at - 1 : change_at + 1] == [1.0, 0.5]
    assert stepped[-1] == 0.1


@given(step=st.integers(0, 500), warmup=st.integers(0, 50), kind=st.sampled_from(["constant", "cosine"]))
def test_no_rate_is_negative_or_above_the_peak_also_beyond_the_end(step, warmup, kind):
    config = FitConfig(max_steps=100, lr=0.3, warmup_steps=warmup, schedule={"kind": kind})
    assert 0.0 <= scheduled_rate(config, step, 0, 100) <= 0.3


SLURM = {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"}


@pytest.mark.parametrize(
    ("environment", "settings", "planned"),
    [
        ({}, {}, ("auto", 1, "posecore", None)),
        ({}, {"devices": 2, "nodes": 3}, (2, 3, "posecore", None)),
        (SLURM, {}, (4, 2, "SLURM", 8)),
        (SLURM, {"devices": 4, "nodes": 2}, (4, 2, "SLURM", 8)),
        (SLURM | {"SLURM_JOB_NAME": "interactive"}, {"devices": 2}, (2, 1, "posecore", None)),
        ({"SLURM_NTASKS": "1"}, {}, (1, 1, "SLURM", 1)),
        (TORCHRUN, {}, (3, 2, "torchrun", 6)),
        (TORCHRUN | SLURM, {}, (3, 2, "torchrun", 6)),
    ],
)
def test_processes_are_those_that_torchrun_or_slurm_started(environment, settings, planned):
    plan = plan_processes(FitConfig(epochs=1, **settings), environment)
    assert (plan.devices, plan.nodes, plan.launcher, plan.world_size) == planned


@pytest.mark.parametrize(
    ("environment", "settings", "message"),
    [
        (SLURM, {"devices": 1}, "devices: 1 was asked for, but SLURM started 4"),
        (TORCHRUN, {"nodes": 1}, "nodes: 1 was asked for, but torchrun started 2"),
        ({"SLURM_NTASKS": "4"}, {}, "has 4 tasks, but the command runs once, without srun"),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"}, {}, "--ntasks-per-node is needed"),
    ],
)
def test_processes_that_would_train_apart_or_hang_are_refused(environment, settings, message):
    with pytest.raises(InputError, match=message):
        plan_processes(FitConfig(epochs=1, **settings), environment)


@pytest.mark.parametrize(
    ("nodelist", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("node[05-08,12],x", "node05"), ("gpu[3]", "gpu3"), ("a-[07,09]-b,c", "a-07-b")],
)
def test_the_first_host_of_a_node_list_is_found(nodelist, first):
    assert _first_host(nodelist) == first


def test_the_meeting_point_is_an_ipv4_address_or_an_error_that_names_it():
    environment = {"MASTER_ADDR": "localhost"}
    plan = plan_processes(FitConfig(epochs=1), TORCHRUN)
    _prefer_ipv4(environment, plan)
    assert environment["MASTER_ADDR"] == "127.0.0.1"
    with pytest.raises(InputError, match=r"MASTER_ADDR: nowhere\.invalid has no IPv4 address"):
        _prefer_ipv4({"MASTER_ADDR": "nowhere.invalid"}, plan)


def test_metrics_that_are_not_finite_are_null_and_every_line_is_json(tmp_path):
    trackers = open_trackers([], tmp_path, {}, resumed_at=0)
    trackers.log(3, {"a": 1.0, "b": float("nan"), "c": float("inf"), "d": None})
    trackers.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 3, "a": 1.0, "b": None, "c": None, "d": None}]


def test_a_broken_line_within_metrics_is_told_not_skipped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl:2: not a line of metrics"):
        read_metrics(tmp_path / "metrics.jsonl")


class Recorder(types.SimpleNamespace):
    """Stands in for the packages aim and wandb, which are not installed here; notes what is called."""

    def __init__(self):
        super().__init__(calls=[], hash="abc", id="abc")

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs)) or self

    def __setitem__(self, key, value):
        self.calls.append((key, (value,), {}))


@pytest.mark.parametrize(("name", "known_as"), [("aim", "run_hash"), ("wandb", "id")])
def test_other_trackers_get_the_same_numbers_and_go_on_with_their_run_when_resumed(
    tmp_path, monkeypatch, name, known_as
):
    package = Recorder()
    monkeypatch.setitem(sys.modules, name, package)
    for resumed_at in (0, 5):
        trackers = open_trackers([name], tmp_path, {"lr": 1}, resumed_at)
        trackers.log(7, {"loss": 0.5, "gone": None})
        trackers.picture(7, "prediction", np.zeros((4, 4, 3), np.uint8))
        trackers.close()
    started = [kwargs[known_as] for called, _, kwargs in package.calls if called in ("Run", "init")]
    assert started == [None, "abc"]
    logged = [args for called, args, _ in package.calls if called in ("track", "log")]
    assert logged[0][0] in (0.5, {"loss": 0.5})
    assert len(list((tmp_path / "figures").iterdir())) == 1


def test_a_job_log_gets_one_plain_line_in_30_seconds_with_the_time_left(caplog, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "posecore.training.progress")
    with progress.ProgressDisplay(total_steps=100, done_steps=0, is_rank_zero=True) as display:
        display.measured(0.25, 160.0)
        for step in range(1, 41):
            now[0] = 2.0 * step
            display.advance(step, epoch=0)
    assert [record.message for record in caplog.records] == [
        "step 15/100  epoch 0  loss 0.25  160 samples/s  0:02:50 left",
        "step 30/100  epoch 0  loss 0.25  160 samples/s  0:02:20 left",
    ]


def save(run_dir, step):
    return save_checkpoint(
        run_dir, system="toy", system_version="0", step=step, epoch=0, weights={"w": torch.ones(2)}, state={}, config={}
    )


def test_auto_passes_over_a_damaged_checkpoint_and_says_so(tmp_path, caplog):
    good, torn = save(tmp_path, 1), save(tmp_path, 2)
    (torn / "state.pt").write_bytes(b"")
    assert starting_point(tmp_path, "auto") == good
    assert "state.pt does not match its checksum" in caplog.text
    (good / "state.pt").unlink()
    with pytest.raises(InputError, match="none of its 2 checkpoints is whole"):
        starting_point(tmp_path, "auto")


def test_a_damaged_checkpoint_that_was_asked_for_is_not_replaced_by_another(tmp_path):
    good, torn = save(tmp_path / "run", 1), save(tmp_path / "run", 2)
    (torn / "state.pt").write_bytes(b"")
    assert starting_point(tmp_path / "new", torn) == torn.resolve()
    assert starting_point(tmp_path / "new", tmp_path / "run") == good


@dataclass(frozen=True)
class Example:
    key: tuple[str, ...]
    values: dict[str, object]


def test_batches_keep_their_structure_on_a_device_and_become_plain_for_a_file(tmp_path):
    batch = Example(("a",), {"x": torch.ones(2), "n": np.float32(2.5), "names": np.array(["u"]), "rest": [None, 1]})
    moved = to_device(batch, torch.device("meta"))
    assert (type(moved), moved.key, moved.values["x"].device.type) == (Example, ("a",), "meta")
    torch.save(to_plain(batch), tmp_path / "batch.pt")
    loaded = torch.load(tmp_path / "batch.pt", weights_only=True)
    assert loaded["key"] == ["a"]
    assert {k: loaded["values"][k] for k in ("n", "names", "rest")} == {"n": 2.5, "names": ["u"], "rest": [None, 1]}


def test_a_gradient_that_is_not_finite_is_named_when_the_loss_still_is(tmp_path):
    check = FiniteCheck(tmp_path, rank=2)
    check.push(4, {"total": torch.tensor(1.0), "grad_norm": torch.tensor(math.inf)}, [{"x": torch.ones(1)}])
    with pytest.raises(RunError, match="step 4: grad_norm is inf"):
        check.verify()
    assert torch.load(tmp_path / "nonfinite_batch.rank2.pt", weights_only=True)["rank"] == 2
    check.verify()


def test_random_states_survive_a_file_and_fixed_randomness_leaves_no_trace(tmp_path):
    device = torch.device("cpu")
    _random.seed_everything(3, 1)
    torch.save(_random.capture(device), tmp_path / "random.pt")
    draws = [(random.random(), float(np.random.rand()), float(torch.rand(()))) for _ in range(2)]  # noqa: NPY002
    _random.restore(torch.load(tmp_path / "random.pt", weights_only=True), device)
    inside = []
    for _ in range(2):
        with _random.fixed(0, device):
            inside.append(float(torch.rand(())))
    again = [(random.random(), float(np.random.rand()), float(torch.rand(()))) for _ in range(2)]  # noqa: NPY002
    assert draws == again
    assert inside[0] == inside[1]


def test_changed_fields_are_listed_by_their_path():
    old = {"training": {"lr": 0.1, "seed": 1}, "data": "a"}
    new = {"training": {"lr": 0.2, "seed": 1}, "data": "a", "more": [1]}
    assert changed_fields(old, new) == ["more: null -> [1]", "training.lr: 0.1 -> 0.2"]


def test_signals_can_be_caught_before_torch_is_imported():
    code = "import sys, posecore.training.preemption, posecore.slurm, posecore.training.config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_settings_round_trip_through_json():
    config = FitConfig(epochs=3, schedule={"kind": "steps", "rates": {"2": 0.1}}, save_every={"steps": 5})
    assert FitConfig.from_dict(json.loads(json.dumps(config.to_json_dict()))) == config
