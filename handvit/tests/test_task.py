"""Training: it learns, what should move moves and nothing else, and steps do not depend on how a batch is split."""

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from handvit.config import HandvitConfig
from handvit.experiment import open_task
from handvit.model.attention import ScaledDropout
from handvit.task import fit_config
from posecore.config import load_config
from posecore.training import Progress, load_checkpoint
from posecore.training.schedules import scheduled_rate
from posecore.training.trackers import read_metrics

START = Progress(0, 0, 0.0)
ATTENDED = ("model.persp_info_embed.type=ca", "model.persp_info_embed.num_head=2", "model.persp_info_embed.dim_head=8")
FUSED = "model.backbone.infusion_layer=[1,2]"
MULTIBIN = ("model.norm_by_hand=false", 'model.handec.translation={"kind":"patch_uv_rho_multibin"}')


@pytest.fixture(scope="module")
def task_of(settings):
    def make(*overrides: str):
        return open_task(load_config(HandvitConfig, "tiny.json", settings(*overrides)))

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
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


def learn(task, model, batch, steps: int, rate: float = 3e-3) -> list[float]:
    """Totals of steps of Adam on one batch."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    totals = []
    for _ in range(steps):
        total = loss_of(task, model, batch)["total"]
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        totals.append(float(total.detach()))
    return totals


def test_thirty_steps_on_one_batch_halve_the_loss(task):
    torch.manual_seed(0)
    totals = learn(task, task.build_model(), batch_of(task, 0, 1, 2, 3), 30)
    assert totals[-1] < totals[0] / 2


@pytest.mark.slow
def test_four_hands_are_learnt_by_heart(task):
    torch.manual_seed(0)
    model, batch = task.build_model(), batch_of(task, 0, 1, 2, 3)
    learn(task, model, batch, 800)
    with torch.no_grad():
        sums = task.validate(model, batch)
    assert float(sums["pa_mpjpe_mm"][0] / sums["pa_mpjpe_mm"][1]) < 3
    assert float(sums["mpjpe_rel_mm"][0] / sums["mpjpe_rel_mm"][1]) < 10


@pytest.mark.parametrize(
    "overrides",
    [(), ATTENDED, (FUSED,), (FUSED, *MULTIBIN), ("model.joint_type=axis_angle",), ("loss.vertices=0.01", "loss.cam=0.01")],
    ids=["dense", "attended", "fused", "multibin", "axis angle", "more terms"],
)  # fmt: skip
def test_every_trained_parameter_gets_a_gradient_and_no_frozen_one_does(overrides, task_of):
    task = task_of(*overrides)
    model = stirred(task)
    loss_of(task, model, batch_of(task, 0, 3, 5))["total"].backward()
    silent = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent
    assert not [n for n, p in model.named_parameters() if not p.requires_grad and p.grad is not None]


def test_without_a_rate_the_backbone_is_frozen_but_what_fuses_its_layers_learns(task_of):
    task = task_of("train.backbone_lr=null", FUSED)
    model = stirred(task).train()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen
    assert all(name.startswith("backbone.backbone.") for name in frozen)
    assert not model.backbone.backbone.training
    loss_of(task, model, batch_of(task, 0, 1))["total"].backward()
    assert all(model.get_parameter(name).grad is None for name in frozen)
    assert any(p.grad is not None for n, p in model.named_parameters() if n.startswith("backbone.fusion"))


def test_biases_norms_and_positions_do_not_decay_and_the_backbone_has_its_own_rate(task_of):
    task = task_of("train.lr=0.001", "train.backbone_lr=0.0001", *ATTENDED)
    model = task.build_model()
    names = {id(p): name for name, p in model.named_parameters()}
    groups = task.parameter_groups(model)
    grouped = [id(p) for group in groups for p in group.parameters]
    assert sorted(grouped) == sorted(names)
    for group in groups:
        members = [names[id(p)] for p in group.parameters]
        assert {name.startswith("backbone.") for name in members} == {group.name.startswith("backbone")}
        assert group.lr_multiplier == pytest.approx(0.1 if group.name.startswith("backbone") else 1.0)
        decays = group.weight_decay is None
        for name, parameter in ((name, model.get_parameter(name)) for name in members):
            keeps = parameter.ndim < 2 or "position" in name or "pos_embedding" in name or "cls_token" in name
            assert decays != (keeps or "init_" in name), name


def test_the_rate_rises_linearly_and_falls_to_a_tenth_whatever_the_accumulation(task_of):
    for accumulation in (1, 4):
        task = task_of(
            f"train.grad_accum_step={accumulation}",
            "train.lr=0.001",
            "general.warmup_step=10",
            "general.total_step=1010",
        )
        rates = [scheduled_rate(fit_config(task.config), step, 0, 1010) / 1e-3 for step in (4, 9, 10, 510, 1009)]
        halfway = 0.5 * (1 + math.cos(0.8 * math.pi * 0.5))
        assert rates == [0.5, 1.0, 1.0, pytest.approx(halfway), pytest.approx(0.095, abs=2e-3)]


def test_dropout_grows_to_its_full_rate(task_of):
    task = task_of("model.handec.dropout=0.2", "general.dropout_warmup_step=10")
    model, batch = task.build_model(), batch_of(task, 0, 1)
    rates = []
    for step in (0, 4, 9, 50):
        task.loss(model, batch, task.denominators(batch), Progress(0, step, 0.0))
        rates.append({module.p for module in model.modules() if isinstance(module, ScaledDropout)} - {0.0})
    assert [sorted(found) for found in rates] == [pytest.approx([0.02]), pytest.approx([0.1]), [0.2], [0.2]]


@pytest.mark.parametrize("overrides", [(), MULTIBIN], ids=["heat maps", "multibin"])
def test_micro_batches_add_up_to_the_whole_batch(overrides, task_of):
    task = task_of(*ATTENDED, *overrides)
    model, whole = stirred(task).train(), batch_of(task, *range(4))
    whole.joint_3d_valid[0, 0, 3:9] = 0
    whole.has_mano[1] = 0
    parts = [_rows(whole, slice(0, 1)), _rows(whole, slice(1, 4))]
    totals = {name: sum(task.denominators(part)[name] for part in parts) for name in task.denominators(whole)}
    assert totals == task.denominators(whole)
    expected = loss_of(task, model, whole)
    expected["total"].backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    shares = [task.loss(model, part, totals, START) for part in parts]
    for share in shares:
        share["total"].backward()
    again = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    for name, value in expected.items():
        assert sum(share[name].item() for share in shares) == pytest.approx(value.item(), rel=1e-4, abs=1e-7), name
    torch.testing.assert_close(again, gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()))


def _rows(batch, part):
    values = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return type(batch)(**{name: None if value is None else value[part] for name, value in values.items()})


def test_what_has_no_label_teaches_nothing(task):
    model, batch = stirred(task), batch_of(task, 0, 1, 2)
    blind = {name: torch.zeros_like(getattr(batch, name)) for name in ("joint_2d_valid", "joint_3d_valid", "has_mano")}
    terms = loss_of(task, model, replace(batch, **blind))
    terms["total"].backward()
    assert all(float(value.detach()) == 0 for value in terms.values())
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_half_precision_stays_close_to_full_precision(trained):
    full, half = (load_checkpoint(run, "handvit") for run in (trained(*ATTENDED), trained(*ATTENDED, BF16)))
    assert half.config["config"]["train"]["mixed_precision"] == "bf16"
    assert all(value.dtype == torch.float32 for value in half.weights.values())
    losses = [_losses(run) for run in (trained(*ATTENDED), trained(*ATTENDED, BF16))]
    assert len(losses[0]) == 2
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    changes = [(half.weights[name] - full.weights[name]).abs().max() for name in full.weights]
    assert 0 < max(changes) < 5e-3


BF16 = "train.mixed_precision=bf16"


def _losses(run) -> list[float]:
    return [line["train/total"] for line in read_metrics(run / "metrics.jsonl") if "train/total" in line]


def test_a_run_can_start_from_the_weights_of_another_and_refuses_those_of_another_network(stage1, task_of):
    from posecore.errors import InputError

    started = task_of(f"general.weights_path={stage1}").build_model().state_dict()
    best = load_checkpoint(stage1, "handvit").weights
    assert started.keys() == best.keys()
    assert all(torch.equal(started[name], best[name]) for name in best)
    with pytest.raises(InputError, match="missing; this configuration needs it"):
        task_of(f"general.weights_path={stage1}", "model.handec.num_layer=2").build_model()


def test_a_run_remembers_whole_paths_and_its_facts(stage1):
    stored = json.loads((stage1 / "config.json").read_text())
    assert stored["facts"] == {"hand_sha256": None, "is_standin": True, "encoder": None}
    assert stored["config"]["data"]["train"]["datasets"][0]["shards"].startswith("/")


def test_a_checkpoint_outlives_the_folder_that_its_encoder_came_from(trained, command, tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
    folder = tmp_path / "encoder"
    Dinov2Model(Dinov2Config(**sizes)).save_pretrained(folder)
    run = trained(f"model.backbone.backbone_str={folder}", "model.backbone.kwargs={}")
    folder.rename(tmp_path / "gone")
    done = command("evaluate", "--checkpoint", run, "--output", tmp_path / "report", "--shard", "0/1")
    assert done.exit_code == 0, done.output


def test_pictures_show_patch_truth_and_prediction(task):
    model = task.build_model().eval()
    batch = task.collate([task.data.validation.load(index, np.random.default_rng(0)) for index in (0, 9)])
    with torch.no_grad():
        sheet = task.figures(model, batch)["validation"]
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    assert sheet.std() > 20
