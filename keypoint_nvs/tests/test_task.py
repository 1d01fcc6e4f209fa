"""What the training loop asks of a run: rates of its parameters, schedules, terms that grow, and learning itself."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.experiment import open_task
from keypoint_nvs.task import KeypointNvsTask, fit_config
from posecore.config import load_config
from posecore.training import Progress
from posecore.training.trackers import read_metrics


def task_of(settings, stage: str, *overrides: str) -> KeypointNvsTask:
    return open_task(load_config(KeypointNvsConfig, f"tiny_{stage}.json", settings(stage, *overrides)))


def progress_at(step: int) -> Progress:
    return Progress(epoch=0, step=step, fraction=step / 100)


def test_tokens_ramp_and_network_have_their_own_rates_and_only_its_matrices_decay(settings, trained):
    rates = ("train.lr=0.001", "train.token_lr=0.02", "train.ramp_lr=0.003", "train.weight_decay=0.1")
    task = task_of(settings, "joint", f"model.weights={trained('nvs')}", *rates)
    model = task.build_model()
    groups = {group.name: group for group in task.parameter_groups(model)}
    assert {name: pytest.approx(group.lr_multiplier) for name, group in groups.items()} == {
        "tokens": 20.0, "ramp": 3.0, "network": 1.0, "network, no decay": 1.0,
    }  # fmt: skip
    assert {name for name, group in groups.items() if group.weight_decay is None} == {"network"}
    assert all(parameter.ndim > 1 for parameter in groups["network"].parameters)
    assert all(parameter.ndim <= 1 for parameter in groups["network, no decay"].parameters)
    grouped = [id(parameter) for group in groups.values() for parameter in group.parameters]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad), "each once"


def test_restarts_are_cosines_one_after_the_other(settings):
    words = (
        "train.schedule=restarts",
        "train.lr=1e-5",
        "train.cycle_steps=100",
        "train.floor=0.25",
        "train.warmup_steps=0",
    )
    task = task_of(settings, "nvs", *words)
    rates = [task.learning_rate(progress_at(step)) for step in (0, 50, 99, 100, 150)]
    assert rates[0] == rates[3] == pytest.approx(1e-5)
    assert rates[1] == rates[4] == pytest.approx(1e-5 * (0.25 + 0.75 / 2))
    assert rates[2] == pytest.approx(0.25e-5, rel=1e-2)
    assert task_of(settings, "nvs").learning_rate(progress_at(0)) is None, "the loop's own schedule"


def test_the_global_batch_counts_what_is_accumulated(settings):
    config = load_config(
        KeypointNvsConfig, "tiny_nvs.json", settings("nvs", "train.batch_size=3", "train.accumulation=4")
    )
    assert fit_config(config).batch_size == 12


def terms_of(run: Path) -> list[dict[str, float]]:
    return [line for line in read_metrics(run / "metrics.jsonl") if "train/total" in line]


EVERY_POINT_COUNTS = {"min_views": 2, "min_angle": 0, "robust_width": 5, "min_confidence": 0}
"""Tokens that have learnt nothing mark no point in space otherwise."""


def test_multi_view_terms_begin_at_their_step_and_grow(trained):
    multiview = json.dumps({"start_step": 1, "ramp_steps": 2} | EVERY_POINT_COUNTS)
    changes = ("train.steps=4", "loss.point=300", "loss.spread=1", "loss.foreground=1")
    lines = terms_of(trained("joint", *changes, f"keypoints.multiview={multiview}"))
    shares = [line.get("train/weighted/point", 0.0) / max(line.get("train/point", 0.0), 1e-12) for line in lines]
    assert shares == pytest.approx([0, 0, 150, 300], rel=1e-4), "begins at step 1, ramp of 2"
    for line in lines:
        names = [name for name in line if name.startswith("train/weighted/")]
        assert line["train/total"] == pytest.approx(sum(line[name] for name in names), rel=1e-4)
        assert {"train/weighted/nvs", "train/weighted/localisation", "train/weighted/equivariance"} <= set(names)
        assert line["train/weighted/localisation"] == pytest.approx(100 * line["train/localisation"], rel=1e-4)


def test_balance_ema_brings_keypoint_terms_to_the_size_of_the_nvs_term(trained):
    changes = (
        "loss.balance=ema",
        "loss.localisation=1",
        "loss.equivariance=1",
        "train.steps=4",
        "keypoints.multiview=null",
    )
    lines = terms_of(trained("joint", *changes))
    for line in lines[2:]:
        for name in ("localisation", "equivariance"):
            assert 0.2 < line[f"train/weighted/{name}"] / line["train/nvs"] < 5, "raw they are a thousandth of it"
            assert line[f"train/{name}"] < 0.1 * line["train/nvs"]


def test_frames_of_one_object_are_compared_by_the_temporal_term(trained, stores):
    data = json.dumps([{"kind": "multiview", "path": str(stores / "frames.h5")}])
    lines = terms_of(trained("keypoints", f"data.train={data}", "data.frames=2", "loss.temporal=1"))
    assert all(line["train/temporal"] > 0 for line in lines)


def test_keypoints_are_learnt_from_single_pictures(trained, stores, tmp_path):
    import cv2

    from keypoint_nvs.data.store import MultiviewStore

    store = MultiviewStore(stores / "train.h5")
    for index in range(4):
        rgba = store.read(index).cond_imgs.transpose(1, 2, 0)
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.ascontiguousarray(rgba[..., [2, 1, 0, 3]]))
    pictures = json.dumps([{"kind": "images", "path": str(tmp_path)}])
    changes = (f"data.train={pictures}", f"data.val={pictures}", "keypoints.multiview=null", "loss.point=0")
    lines = terms_of(trained("keypoints", *changes))
    assert all(line["train/localisation"] > 0 and line["train/equivariance"] > 0 for line in lines)
    assert not any("train/point" in line or "train/reprojection_px" in line for line in lines)


def overfitted(trained, stage: str, term: str, *changes: str) -> tuple[float, float]:
    """First and last values of a term on two samples that are seen again and again."""
    lines = terms_of(trained(stage, "data.fraction=0.17", "train.schedule=constant", *changes))
    values = [line[f"train/{term}"] for line in lines]
    return float(np.mean(values[:2])), float(np.mean(values[-3:]))


def test_one_batch_is_learnt_by_the_autoencoder(trained):
    first, last = overfitted(trained, "autoencoder", "reconstruction", "train.steps=15", "train.lr=0.003")
    assert last < 0.6 * first


def test_one_batch_is_learnt_by_the_tokens(trained):
    first, last = overfitted(trained, "keypoints", "localisation", "train.steps=15", "train.token_lr=0.05")
    assert last < 0.95 * first


def test_half_precision_keeps_scores_in_float32_and_stays_near(trained):
    full, half = (terms_of(trained("joint", f"train.precision={name}", "train.steps=1"))[0] for name in ("no", "bf16"))
    for name in ("nvs", "localisation", "equivariance"):
        assert half[f"train/{name}"] == pytest.approx(full[f"train/{name}"], rel=0.15), name
    assert torch.isfinite(torch.tensor(half["train/total"]))
