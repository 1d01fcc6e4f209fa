"""Training: it learns, what should move moves and nothing else, and schedules take effect when they say."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from posecore.config import load_config
from posecore.training import Progress, fit, load_checkpoint
from smil_regressor.config import SmilConfig
from smil_regressor.data.sample import collate
from smil_regressor.experiment import open_task
from smil_regressor.task import fit_config

FEW = ("training.trackers=[]", "output.num_visualization_samples=1", "training.validate_every=100")


def task_of(data: Path, *overrides: str):
    return open_task(load_config(SmilConfig, "tiny.json", [f"dataset.data_path={data}", *FEW, *overrides]))


def batch_of(task, *indices: int):
    return collate([task.data.train.load(index, np.random.default_rng(0)) for index in indices])


def loss_of(task, model, batch, epoch: int = 0):
    return task.loss(model, batch, task.denominators(batch), Progress(epoch, 0, 0.0))


def learn(task, model, batch, steps: int, rate: float = 2e-3) -> list[float]:
    """Totals of steps of Adam on one batch."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    totals = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, 2 * (1 - step / steps))
        total = loss_of(task, model, batch)["total"]
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        totals.append(float(total.detach()))
    return totals


@pytest.fixture(scope="module")
def task(insects_file):
    return task_of(insects_file)


def test_sixty_steps_on_two_samples_cut_the_loss_five_times(task):
    torch.manual_seed(0)
    model = task.build_model()
    totals = learn(task, model, batch_of(task, 0, 5), 60)
    assert totals[-1] < totals[0] / 5


@pytest.mark.slow
def test_one_sample_is_learnt_to_less_than_a_pixel(task):
    torch.manual_seed(0)
    model, batch = task.build_model(), batch_of(task, 0)
    learn(task, model, batch, 700)
    with torch.no_grad():
        total, count = task.validate(model, batch)["px_input"]
    assert float(total / count) < 1


def test_every_trained_parameter_gets_a_gradient(task):
    model = task.build_model()
    with torch.no_grad():  # heads start at zero, where nothing flows back through them
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    loss_of(task, model, batch_of(task, 0, 3))["total"].backward()
    silent = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent


@pytest.mark.parametrize("cameras", ["true", "false"])
def test_micro_batches_add_up_to_the_whole_batch(cameras, insects_file):
    task = task_of(insects_file, f"training.use_gt_camera_init={cameras}")
    model, whole = task.build_model().eval(), batch_of(task, *range(4))  # the camera heads drop out when they train
    whole.visibility[0, 0, 4:] = 0
    whole.has_keypoints_world[1] = False
    parts = [_rows(whole, slice(0, 1)), _rows(whole, slice(1, 4))]
    totals = {name: sum(task.denominators(part)[name] for part in parts) for name in task.denominators(whole)}
    assert totals == task.denominators(whole)
    expected = loss_of(task, model, whole)
    expected["total"].backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    shares = [task.loss(model, part, totals, Progress(0, 0, 0.0)) for part in parts]
    for share in shares:
        share["total"].backward()
    again = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    for name, value in expected.items():
        assert sum(share[name].item() for share in shares) == pytest.approx(value.item(), rel=1e-4, abs=1e-7), name
    torch.testing.assert_close(again, gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()))


def _rows(batch, part):
    values = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return type(batch)(**{name: None if value is None else value[part] for name, value in values.items()})


def weights_of(run_dir: Path, step: int) -> dict[str, torch.Tensor]:
    return load_checkpoint(run_dir / "checkpoints" / f"step-{step:08d}", "smil").weights


def test_a_frozen_backbone_stays_and_learns_from_its_epoch_on(insects_file, tmp_path):
    task = task_of(insects_file, "model.freeze_backbone=true", "model.backbone_unfreeze_epoch=1", "training.num_epochs=2",
                   "training.batch_size=12", "output.save_checkpoint_every=1")  # fmt: skip
    fit(task, fit_config(task.config), tmp_path / "run")
    first, second = weights_of(tmp_path / "run", 1), weights_of(tmp_path / "run", 2)
    trunk = [name for name in first if name.startswith("backbone.trunk.")]
    start = fit_start(task)
    assert trunk
    assert all(torch.equal(first[name], start[name]) for name in trunk)
    assert any(not torch.equal(first[name], start[name]) for name in first.keys() - set(trunk))
    assert all(not torch.equal(second[name], first[name]) for name in trunk if name.endswith("weight"))


def fit_start(task) -> dict[str, torch.Tensor]:
    """The weights that a run of this task starts from: the loop seeds torch, then builds the model."""
    from posecore.training._random import seed_everything

    seed_everything(task.config.training.seed)
    return task.build_model().state_dict()


def test_rates_and_loss_weights_follow_their_epochs(insects_file):
    stage = 'loss_curriculum.curriculum_stages={"2": {"keypoint_3d": 0.0, "betas": 1.0}}'
    task = task_of(insects_file, stage, 'optimizer.lr_schedule={"0": 0.001, "2": 0.0001}')
    model, batch = task.build_model(), batch_of(task, 0, 1)
    with torch.no_grad():
        early, late = loss_of(task, model, batch, 1), loss_of(task, model, batch, 2)
    base = task.config.loss_curriculum.base_weights
    assert "keypoint_3d" not in late
    changed = float(early["total"] - base["keypoint_3d"] * early["keypoint_3d"] + (1 - base["betas"]) * early["betas"])
    assert float(late["total"]) == pytest.approx(changed, rel=1e-4)
    schedule = fit_config(task.config).schedule
    assert [schedule.rate(epoch) for epoch in (0, 1, 2, 9)] == [1e-3, 1e-3, 1e-4, 1e-4]
    assert [task.config.learning_rate(epoch) for epoch in (0, 2)] == [1e-3, 1e-4]


def test_a_run_can_start_from_the_weights_of_another(run, insects_file):
    started = task_of(insects_file, f"training.resume_checkpoint={run}").build_model().state_dict()
    best = load_checkpoint(run, "smil").weights
    assert all(torch.equal(started[name], best[name]) for name in best)
    reset = task_of(insects_file, f"training.resume_checkpoint={run}", "training.reset_ief_token_embedding=true")
    changed = [name for name, value in reset.build_model().state_dict().items() if not torch.equal(value, best[name])]
    assert changed
    assert all("token" in name for name in changed)


def test_a_run_remembers_whole_paths(insects_file, monkeypatch):
    monkeypatch.chdir(insects_file.parent)
    assert task_of(Path(insects_file.name)).config.dataset.data_path == insects_file.resolve()


def test_weights_of_another_architecture_are_refused_by_name(run, insects_file):
    from posecore.errors import InputError

    task = task_of(insects_file, f"training.resume_checkpoint={run}", "model.transformer_depth=2")
    with pytest.raises(InputError, match="missing; this configuration needs it"):
        task.build_model()


def test_pictures_of_predictions_show_each_view_three_times(task):
    model, batch = task.build_model(), batch_of(task, 0, 1)
    task.begin_epoch(model, Progress(task.config.training.num_epochs - 1, 0, 1.0))
    with torch.no_grad():
        sheet = task.figures(model.eval(), batch)["multiview_visualizations/00"]
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] > 2 * 192
    assert sheet.shape[1] > 3 * 192
