"""What training watches: losses and errors of each data set, and the best checkpoint by each of three errors."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from handvit.config import HandvitConfig
from handvit.data.shards import write_clip
from handvit.experiment import open_task
from handvit.task import HandTask, fit_config
from posecore.config import load_config
from posecore.data.shards import ShardWriter
from posecore.training import Progress, fit, load_checkpoint
from posecore.training.trackers import read_metrics
from posecore.training.validation import validate

sys.path.append(str(Path(__file__).parent))
from hand_clips import make_record
from random_runs import SMALL

TRAINING = ("general.trackers=[]", "general.vis_step=null", "train.sample_per_device=2", "general.warmup_step=0")
WATCHED = {"mpjpe_mm", "mpjpe_rel_mm", "pa_mpjpe_mm", "rte_mm"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A folder for each data set; one of them lacks MANO."""
    folder = tmp_path_factory.mktemp("shards")
    for name, count, has_mano in (("HO3D_v3", 3, 1.0), ("InterHand2.6M", 2, 0.0)):
        with ShardWriter(folder / name) as writer:
            for i in range(count):
                record = make_record(f"{name[:4]}{i}", 1, seed=i, data_source=name, handedness=("left", "right")[i % 2])
                record.has_mano[:] = has_mano
                write_clip(writer, record)
    return folder


def task_of(shards, *names, overrides=()) -> HandTask:
    sets = {part: json.dumps([{"name": n, "shards": str(shards / n)} for n in chosen])
            for part, chosen in (("train", ["HO3D_v3", "InterHand2.6M"]), ("val", names))}  # fmt: skip
    data = [f"data.{part}.datasets={datasets}" for part, datasets in sets.items()]
    return open_task(load_config(HandvitConfig, "tiny.json", [*SMALL, *TRAINING, *data, *overrides]))


def validated(task, model, batch_size):
    source, device = task.validation_source(), torch.device("cpu")
    with torch.no_grad():
        return validate(task, model, source, batch_size=batch_size, workers=0, rank=0, world_size=1, device=device)


@pytest.mark.parametrize("batch_size", [2, 5])
def test_losses_and_errors_of_a_data_set_are_those_of_a_validation_on_it_alone(shards, batch_size):
    both = task_of(shards, "HO3D_v3", "InterHand2.6M")
    torch.manual_seed(0)
    model = both.build_model().eval()
    found = validated(both, model, batch_size)
    losses = set(both.weights)
    for name in ("HO3D_v3", "InterHand2.6M"):
        alone = validated(task_of(shards, name), model, batch_size)
        own = {key.removeprefix(f"{name}/"): value for key, value in found.items() if key.startswith(name)}
        assert own.keys() == losses | WATCHED
        assert {key for key in own if own[key] is None} == {key for key in own if alone[key] is None}
        for key in (key for key in own if own[key] is not None):
            assert own[key] == pytest.approx(alone[key], rel=1e-5), key
        assert not any("/" in key for key in alone)
    assert found["HO3D_v3/theta"] > 0
    assert found["InterHand2.6M/theta"] is None


def test_validation_losses_are_the_training_losses_of_the_same_hands(shards):
    task = task_of(shards, "HO3D_v3", "InterHand2.6M")
    model = task.build_model().eval()
    found = validated(task, model, 2)
    source = task.validation_source()
    batch = task.collate([source.load(i, np.random.default_rng(i)) for i in range(len(source))])
    batch = task.prepare(batch)
    with torch.no_grad():
        terms = task.loss(model, batch, task.denominators(batch), Progress(0, 0, 0.0))
    for name in task.weights:
        counted_none = found[name] is None
        assert (0.0 if counted_none else found[name]) == pytest.approx(float(terms[name]), rel=1e-5), name


def test_the_best_by_each_of_three_errors_is_kept(shards, tmp_path):
    overrides = ("general.total_step=4", "general.validation_step=1", "general.checkpoint_step=4", "train.lr=0.01")
    task = task_of(shards, "HO3D_v3", overrides=overrides)
    fit(task, fit_config(task.config), tmp_path)
    lines = [line for line in read_metrics(tmp_path / "metrics.jsonl") if "validation/mpjpe_mm" in line]
    for link, name in (("best", "mpjpe_mm"), ("best-mpjpe_rel_mm", "mpjpe_rel_mm"), ("best-rte_mm", "rte_mm")):
        best = min((line for line in lines if line["step"] > 0), key=lambda line: line[f"validation/{name}"])
        found = load_checkpoint(tmp_path / "checkpoints" / link)
        assert (found.step, found.metrics[name]) == (best["step"], best[f"validation/{name}"])
