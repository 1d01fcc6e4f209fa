"""Training: it learns, what should move moves and nothing else, and steps do not depend on how a batch is split."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from posecore.config import load_config
from posecore.errors import InputError
from posecore.training import Progress, load_checkpoint
from posecore.training.schedules import scheduled_rate
from posecore.training.trackers import read_metrics
from vpog.config.run import VpogConfig
from vpog.experiment import open_task
from vpog.labels.flow_labels import labels_of_batch
from vpog.task import fit_config, network_input

START = Progress(0, 0, 0.0)
POSES = ("loss.pnp.weight=0.02", "loss.pnp.from_step=0", "loss.l2.weight=0.0001")
CROSS = 'model.decoder={"kind":"croco_cross","dim":32,"depth":1,"heads":1}'


@pytest.fixture(scope="module")
def task_of(settings):
    def make(*overrides: str):
        return open_task(load_config(VpogConfig, "tiny.json", settings(*overrides)))

    return make


@pytest.fixture(scope="module")
def task(task_of):
    return task_of()


def batch_of(task, *indices: int):
    return task.prepare(task.collate([task.data.train.load(index, np.random.default_rng(index)) for index in indices]))


def loss_of(task, model, batch):
    return task.loss(model, batch, task.denominators(batch), START)


def stirred(task):
    """A network whose parameters are all off their start, where projections that begin at zero let nothing through."""
    torch.manual_seed(0)
    model = task.build_model()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def learn(task, model, batch, steps: int, rate: float = 3e-3) -> list[float]:
    """Classification losses of steps of Adam on one batch."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, rate / 50)
    losses = []
    for _ in range(steps):
        terms = loss_of(task, model, batch)
        optimizer.zero_grad()
        terms["total"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(terms["total"].detach()))
    return losses


def test_twenty_steps_on_one_batch_halve_the_loss(task):
    torch.manual_seed(0)
    losses = learn(task, task.build_model(), batch_of(task, 0, 1, 2, 3), 20)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("overrides", [(), POSES, (CROSS,)], ids=["matches", "poses", "cross attention"])
def test_every_trained_parameter_gets_a_gradient(overrides, task_of):
    task = task_of(*overrides)
    model = stirred(task)
    loss_of(task, model, batch_of(task, 0, 3, 5))["total"].backward()
    scale_alone = () if overrides is POSES else ("solver_scale",)
    silent = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not [name for name in silent if not any(part in name for part in scale_alone)], silent
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_a_term_that_does_not_count_yet_is_not_computed_but_leaves_no_parameter_without_a_gradient(task_of):
    task = task_of("loss.pnp.weight=0.02", "loss.pnp.from_step=2")
    model, batch = stirred(task), batch_of(task, 0, 1)
    before, after = (task.loss(model, batch, task.denominators(batch), Progress(0, step, 0.0)) for step in (0, 2))
    assert "pnp" not in before
    assert torch.isfinite(after["pnp"])
    before["total"].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_without_a_rate_the_encoder_is_frozen_and_the_rest_learns(task_of):
    task = task_of("train.encoder_lr=null")
    model = stirred(task)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("encoder.")}
    loss_of(task, model, batch_of(task, 0, 1))["total"].backward()
    assert all(model.get_parameter(name).grad is None for name in frozen)
    assert {group.name.partition(",")[0] for group in task.parameter_groups(model)} >= {"rest"}


def test_each_parameter_is_in_one_group_and_biases_norms_and_tokens_do_not_decay(task_of):
    task = task_of("train.lr=0.001", "train.encoder_lr=0.0001")
    model = task.build_model()
    names = {id(p): name for name, p in model.named_parameters()}
    groups = task.parameter_groups(model)
    assert sorted(id(p) for group in groups for p in group.parameters) == sorted(names)
    for group in groups:
        members = {names[id(p)] for p in group.parameters}
        assert {name.startswith("encoder.") for name in members} == {group.name.startswith("encoder")}
        assert group.lr_multiplier == pytest.approx(0.1 if group.name.startswith("encoder") else 1.0)
        decays = group.weight_decay is None
        for name in members:
            assert decays == (model.get_parameter(name).ndim > 1 and "token" not in name), name


@pytest.mark.parametrize("overrides", [(), POSES], ids=["matches", "poses"])
def test_micro_batches_add_up_to_the_whole_batch(overrides, task_of):
    """But for the running scale of the pose loss, which is one value a step."""
    task = task_of("train.batch_size=4", *overrides)
    model, whole = stirred(task), batch_of(task, 0, 1, 2, 3)
    parts = [rows(whole, task, slice(0, 1)), rows(whole, task, slice(1, 4))]
    expected_counts = task.denominators(whole)
    counts = {name: sum(task.denominators(part)[name] for part in parts) for name in expected_counts}
    assert {n: float(v) for n, v in counts.items()} == {n: float(v) for n, v in expected_counts.items()}
    model.eval()
    expected = loss_of(task, model, whole)
    shares = [task.loss(model, part, counts, START) for part in parts]
    for name, value in expected.items():
        if name in ("pnp", "total") and overrides:
            continue
        assert sum(share[name].item() for share in shares) == pytest.approx(value.item(), rel=1e-4, abs=1e-6), name
    if not overrides:
        whole_gradient, added = gradient(model, [expected["total"]]), gradient(model, [s["total"] for s in shares])
        torch.testing.assert_close(added, whole_gradient, rtol=1e-3, atol=1e-5 * float(whole_gradient.abs().max()))


def gradient(model, totals):
    model.zero_grad()
    for total in totals:
        total.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def rows(batch, task, part):
    values = {f.name: getattr(batch, f.name) for f in fields(batch)}
    cut = {name: value[part] for name, value in values.items() if name != "labels"}
    return task.prepare(type(batch)(**cut))


def test_labels_of_a_sample_do_not_depend_on_the_others_in_its_batch(task):
    whole = batch_of(task, 0, 1, 2)
    alone = rows(whole, task, slice(1, 2))
    assert torch.equal(alone.labels.patch_cls[0], whole.labels.patch_cls[1])
    own = whole.labels.pairs[:, 0] == 1
    torch.testing.assert_close(alone.labels.dense_flow, whole.labels.dense_flow[own])


def test_labels_of_the_training_source_reproject_onto_themselves(task):
    """Dense flow says where a template's pixel lies in the query: exactly where its 3D point projects."""
    batch = batch_of(task, *range(4))
    labels, patch = labels_of_batch(batch, task.rules), task.config.model.patch_size
    assert len(labels.pairs) > 8
    for pair, flow, visible in zip(labels.pairs.tolist(), labels.dense_flow, labels.dense_visibility, strict=True):
        sample, template, at_query, at_template = pair
        grid = batch.images.shape[-1] // patch
        corner = torch.tensor([at_template % grid, at_template // grid]) * patch
        row, column = visible.nonzero(as_tuple=True)
        u, v = column + corner[0], row + corner[1]
        depth = batch.depth_mm[sample, template + 1, v, u].double()
        rays = torch.linalg.solve(
            batch.K[sample, template + 1].double(), torch.stack([u, v, torch.ones_like(u)]).double()
        )
        pose = batch.cam_from_obj_mm[sample].double()
        points = pose[template + 1, :3, :3].T @ (rays * depth - pose[template + 1, :3, 3:])
        projected = batch.K[sample, 0].double() @ (pose[0, :3, :3] @ points + pose[0, :3, 3:])
        centre = torch.tensor([at_query % grid, at_query // grid]) * patch + patch // 2
        told = centre + patch * flow[row, column].double()
        if len(row):
            assert float((projected[:2] / projected[2] - told.T).norm(dim=0).max()) < 0.01


def test_the_networks_geometry_is_the_direction_that_each_template_looks_from(task):
    batch = batch_of(task, 0, 1)
    geometry = network_input(batch).geometry
    towards = -batch.cam_from_obj_mm[:, 1:, :3, :3].mT @ batch.cam_from_obj_mm[:, 1:, :3, 3:]
    expected = torch.nn.functional.normalize(towards[..., 0], dim=-1)
    torch.testing.assert_close(geometry.directions, expected, rtol=0, atol=0.02)


def test_validation_sums_are_those_of_its_parts(task):
    model = stirred(task).eval()
    samples = [task.data.validation.load(index, np.random.default_rng(0)) for index in range(4)]
    with torch.no_grad():
        whole = task.validate(model, task.collate(samples))
        parts = [task.validate(model, task.collate(samples[part])) for part in (slice(0, 1), slice(1, 4))]
    assert {"rotation_deg", "flow_px", "accuracy", "solved", "within_tenth_diameter"} <= whole.keys()
    for name, (total, count) in whole.items():
        for place, value in enumerate((total, count)):
            assert sum(float(part[name][place]) for part in parts) == pytest.approx(float(value), rel=1e-3, abs=1e-3), (
                name
            )


def test_pictures_show_groups_labels_matches_and_poses(task):
    model = task.build_model().eval()
    batch = task.collate([task.data.validation.load(index, np.random.default_rng(0)) for index in (0, 2)])
    with torch.no_grad():
        sheets = task.figures(model, batch)
    assert sheets.keys() == {"groups", "labels", "matches", "poses"}
    assert all(sheet.dtype == np.uint8 and sheet.std() > 10 for sheet in sheets.values())


def test_the_rate_rises_linearly_and_falls_to_a_hundredth(task_of):
    for accumulation in (1, 4):
        task = task_of(
            f"train.accumulation={accumulation}", "train.lr=0.001", "train.warmup_steps=10", "train.steps=1010"
        )
        rates = [scheduled_rate(fit_config(task.config), step, 0, 1010) / 1e-3 for step in (9, 10, 510, 1009)]
        assert rates == [pytest.approx(1.0, abs=0.11), 1.0, pytest.approx(0.505), pytest.approx(0.01, abs=1e-3)]


def test_a_run_can_start_from_the_weights_of_another_and_refuses_those_of_another_network(run, task_of):
    started = task_of(f"train.weights={run}").build_model().state_dict()
    best = load_checkpoint(run, "vpog").weights
    assert started.keys() == best.keys()
    assert all(torch.equal(started[name], best[name]) for name in best)
    with pytest.raises(InputError, match=r"shape|missing"):
        task_of(f"train.weights={run}", 'model.heads={"hidden":32,"proj":24,"flow_hidden":32}').build_model()


def test_a_run_remembers_whole_paths(run):
    stored = json.loads((run / "config.json").read_text())["config"]
    for name in ("images", "templates", "models_info"):
        assert stored["data"]["train"][0][name].startswith("/")


def test_weights_set_how_often_each_data_set_is_drawn(task_of, data):
    from vpog.layout import dataset_of_folder

    first, second = (dataset_of_folder(data / "synth" / split).to_json_dict() for split in ("train", "val"))
    both = json.dumps([first | {"name": "a", "weight": 3.0}, second | {"name": "b", "weight": 1.0}])
    task = task_of(f"data.train={both}")
    weights = np.array(task.sample_weights())
    num_second = len(task_of(f"data.train={json.dumps([second])}").data.train)
    assert len(weights) == len(task.data.train)
    assert weights[-num_second:].sum() / weights.sum() == pytest.approx(0.25)


def test_half_precision_stays_close_to_full_precision(run, trained):
    half = trained("train.precision=bf16")
    weights = load_checkpoint(half, "vpog").weights.values()
    assert {value.dtype for value in weights if value.is_floating_point()} == {torch.float32}
    losses = [
        [line["train/total"] for line in read_metrics(folder / "metrics.jsonl") if "train/total" in line]
        for folder in (run, half)
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)


@pytest.mark.slow
def test_eight_samples_are_learnt_by_heart_and_their_poses_follow(task_of):
    """The network of the tiny preset, its matches right for 95 % and poses of its own matches better than two degrees."""
    wide = (
        "model.img_size=112", 'model.encoder={"kind":"croco","dim":96,"depth":4,"heads":2}',
        'model.decoder={"kind":"joint","dim":96,"depth":2,"heads":2,"window":7,"position":{"px":6,"py":6,"ps":2}}',
        'model.heads={"hidden":96,"proj":64,"flow_hidden":128}', "data.augment=false", "inference.point_stride=4",
        "inference.min_probability=0.3",
    )  # fmt: skip
    task = task_of(*wide)
    torch.manual_seed(0)
    model, batch = task.build_model(), batch_of(task, *range(8))
    learn(task, model, batch, 600, 2e-3)
    with torch.no_grad():
        sums = task.validate(model.eval(), replace(batch, labels=None))
    measured = {name: float(total / count) for name, (total, count) in sums.items()}
    assert measured["accuracy"] > 0.95, measured
    assert measured["rotation_deg"] < 2, measured
