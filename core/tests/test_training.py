"""The training loop in one process: what a step computes, what a run writes, how it stops."""

import json
import math
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch

from posecore.errors import InputError, RunError
from posecore.training import FitConfig, ParameterGroup, fit, load_checkpoint, preemption
from posecore.training._atomic import digest
from posecore.training._meta import write_meta
from posecore.training.checkpoints import all_checkpoints
from posecore.training.trackers import read_metrics

sys.path.append(str(Path(__file__).parent))
import toy_task as toy  # by its name, so that other processes can import it too

QUIET = {"trackers": [], "figures_every": None, "accelerator": "cpu", "log_every": 1}


def train(run_dir, task=None, resume=None, **settings):
    settings = QUIET | {"epochs": 2, "lr": 0.01} | settings
    task = task or toy.Toy(settings)
    return fit(task, FitConfig(**settings), run_dir, resume)


def weights(run_dir):
    return load_checkpoint(all_checkpoints(run_dir / "checkpoints")[-1]).weights


def lines(run_dir, name):
    return [line for line in read_metrics(run_dir / "metrics.jsonl") if name in line]


def test_a_run_learns_and_leaves_the_files_that_the_design_names(tmp_path):
    outcome = train(tmp_path / "run", epochs=12, lr=0.05, figures_every={"epochs": 6}, trackers=["tensorboard"])
    errors = [line["validation/error"] for line in lines(tmp_path / "run", "validation/error")]
    assert len(errors) == 13
    assert errors[-1] < 0.6 * errors[0]
    assert outcome.metrics["error"] == errors[-1]
    assert outcome.best == min(errors)
    assert json.loads((tmp_path / "run/config.json").read_text())["training"]["epochs"] == 12
    assert sorted(p.name for p in (tmp_path / "run/figures").iterdir()) == [
        "step-00000036-prediction.png",
        "step-00000072-prediction.png",
    ]
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))


@pytest.mark.parametrize("accumulation", [2, 8])
def test_accumulated_micro_batches_equal_the_whole_batch_for_a_masked_loss(tmp_path, accumulation):
    train(tmp_path / "whole")
    train(tmp_path / "parts", accumulation=accumulation)
    torch.testing.assert_close(weights(tmp_path / "whole"), weights(tmp_path / "parts"), rtol=1e-5, atol=1e-6)
    for whole, parts in zip(lines(tmp_path / "whole", "lr"), lines(tmp_path / "parts", "lr"), strict=True):
        assert whole["train/total"] == pytest.approx(parts["train/total"], rel=1e-5)
        assert whole["grad_norm"] == pytest.approx(parts["grad_norm"], rel=1e-5)


def test_a_step_equals_the_same_step_written_by_hand(tmp_path):
    task = toy.Toy()
    train(tmp_path, task, max_steps=1, epochs=None, lr=0.01, clip_norm=0.5, weight_decay=0.1)
    by_hand = toy.Toy()
    from posecore.training import _random

    _random.seed_everything(0)
    model = by_hand.build_model()
    groups = [{"params": model.head.parameters()}, {"params": model.backbone.parameters(), "lr": 0.001}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)
    rng = __import__("numpy").random
    indices = [int(key.removeprefix("sample-")) for key in task.seen]
    batch = by_hand.collate([task.source.load(i, rng.default_rng((0, 0, i))) for i in indices])
    loss = ((model(batch.x)["y"] - batch.y)[batch.mask] ** 2).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    torch.testing.assert_close(weights(tmp_path), dict(model.state_dict()), rtol=1e-5, atol=1e-6)


def test_a_resumed_run_equals_the_straight_one_to_the_bit_also_within_an_epoch(tmp_path):
    settings = {"epochs": 3, "ema_decay": 0.9, "save_every": {"steps": 4}, "log_every": 3}
    train(tmp_path / "straight", toy.Toy(dropout=0.3), **settings)
    train(tmp_path / "halves", toy.Toy(dropout=0.3), **settings | {"max_steps": 8})
    last = read_metrics(tmp_path / "halves/metrics.jsonl")[-1]
    assert (last["step"], last["epoch"]) == (8, 1)
    train(tmp_path / "halves", toy.Toy(dropout=0.3), resume="auto", **settings)
    straight, halves = (
        load_checkpoint(tmp_path / name / "checkpoints/step-00000018") for name in ("straight", "halves")
    )
    assert toy.weights_digest(straight) == toy.weights_digest(halves)
    own, other = straight.training_state(), halves.training_state()
    torch.testing.assert_close(own["optimizer"], other["optimizer"], rtol=0, atol=0)
    torch.testing.assert_close(own["training_weights"], other["training_weights"], rtol=0, atol=0)


def test_resuming_repeats_no_line_of_metrics_and_drops_a_torn_one(tmp_path):
    train(tmp_path, toy.Toy(has_validation=False), max_steps=9, epochs=None, save_every={"steps": 4}, keep_last=9)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "epo')
    train(tmp_path, resume=tmp_path / "checkpoints/step-00000004", max_steps=12, epochs=None)
    assert [line["step"] for line in lines(tmp_path, "train/total")] == list(range(1, 13))
    aside = sorted(folder.name for folder in (tmp_path / "checkpoints").glob("set-aside-*"))
    assert aside == ["set-aside-step-00000008", "set-aside-step-00000009"]


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    train(tmp_path, epochs=1)
    with pytest.raises(InputError, match="holds a run already; resume it with --resume auto"):
        train(tmp_path, epochs=1)


def test_auto_begins_anew_in_an_empty_folder_and_ends_at_once_in_a_finished_one(tmp_path):
    assert train(tmp_path, epochs=1, resume="auto").step == 6
    task = toy.Toy()
    assert train(tmp_path, task, epochs=1, resume="auto").step == 6
    assert task.seen == []


def test_more_epochs_can_be_asked_for_on_resuming(tmp_path):
    train(tmp_path, epochs=1)
    assert train(tmp_path, epochs=3, resume="auto").step == 18


def test_another_batch_size_goes_on_at_the_same_sample(tmp_path):
    first, second = toy.Toy(), toy.Toy()
    train(tmp_path, first, max_steps=3, epochs=1)
    train(tmp_path, second, epochs=1, batch_size=4, resume="auto")
    assert len(first.seen) == 24
    assert sorted(first.seen + second.seen) == sorted(f"sample-{i}" for i in range(48))


def test_each_epoch_sees_every_sample_once_and_validation_counts_each_once(tmp_path):
    task = toy.Toy()
    train(tmp_path, task, epochs=1, validate_at_start=False)
    assert sorted(task.seen) == sorted(f"sample-{i}" for i in range(48))
    assert sorted(task.validated) == sorted(f"sample-{i}" for i in range(13))


def test_frozen_parameters_stay_until_their_epoch_and_then_move(tmp_path):
    train(tmp_path, toy.Toy(unfreeze_epoch=2), epochs=3, validate_at_start=False, weight_decay=0.5)
    at = {step: load_checkpoint(tmp_path / f"checkpoints/step-{step:08d}").weights for step in (6, 12, 18)}
    assert torch.equal(at[6]["backbone.weight"], at[12]["backbone.weight"])
    assert not torch.equal(at[6]["head.weight"], at[12]["head.weight"])
    assert not torch.equal(at[12]["backbone.weight"], at[18]["backbone.weight"])


def test_each_group_gets_its_multiple_of_the_scheduled_rate(tmp_path):
    schedule = {"kind": "steps", "by": "epoch", "rates": {"1": 0.002}}
    train(tmp_path, epochs=2, schedule=schedule, warmup_steps=2, warmup_start=0.5)
    logged = [(line["lr/head"], line["lr/backbone"]) for line in lines(tmp_path, "lr")]
    head = [0.0075, 0.01, 0.01, 0.01, 0.01, 0.01] + [0.002] * 6
    assert logged == [(pytest.approx(rate), pytest.approx(rate / 10)) for rate in head]


def test_a_task_may_set_the_rate_itself(tmp_path):
    task = toy.Toy()
    task.learning_rate = lambda progress: 0.5 / (1 + progress.step)
    train(tmp_path, task, epochs=1)
    assert [line["lr"] for line in lines(tmp_path, "lr")] == [0.5 / n for n in range(1, 7)]


def test_curricula_see_epoch_step_and_fraction_also_after_resuming(tmp_path):
    task, resumed = toy.Toy(), toy.Toy()
    train(tmp_path, task, epochs=2, max_steps=7)
    train(tmp_path, resumed, epochs=2, resume="auto")
    assert [(p.epoch, p.step) for p in task.progresses + resumed.progresses] == [(s // 6, s) for s in range(12)]
    assert resumed.progresses[0].fraction == pytest.approx(7 / 12)


def test_the_moving_average_is_what_is_validated_and_what_predicts(tmp_path):
    train(tmp_path, max_steps=3, epochs=None, ema_decay=0.999, save_every={"steps": 1}, keep_last=9, clip_norm=None)
    saved = [load_checkpoint(tmp_path / f"checkpoints/step-{step:08d}") for step in (1, 2, 3)]
    own = [checkpoint.training_state()["training_weights"] for checkpoint in saved]
    for n, (before, after, current) in enumerate(zip(saved, saved[1:], own[1:], strict=False), 1):
        decay = (1 + n) / (10 + n)
        for name, average in after.weights.items():
            torch.testing.assert_close(average, decay * before.weights[name] + (1 - decay) * current[name])
    model = toy.Model(0.0)
    saved[-1].load_into(model)
    source = toy.Toy().validation_source()
    batch = toy.Toy().collate([source.load(i, __import__("numpy").random.default_rng(0)) for i in range(len(source))])
    error = (model.eval()(batch.x)["y"] - batch.y).abs()[batch.mask].mean()
    assert lines(tmp_path, "validation/error")[-1]["validation/error"] == pytest.approx(error.item(), rel=1e-5)


def test_validation_and_figures_do_not_change_the_training(tmp_path):
    train(tmp_path / "often", toy.Toy(dropout=0.3), validate_every={"steps": 1}, figures_every={"steps": 1})
    train(tmp_path / "never", toy.Toy(dropout=0.3, has_validation=False))
    torch.testing.assert_close(weights(tmp_path / "often"), weights(tmp_path / "never"), rtol=0, atol=0)


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path):
    task = toy.Toy()
    values = iter([5.0, 3.0, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0])
    task.validate = lambda model, batch: {"error": (torch.tensor(next(values)), torch.tensor(1.0))}
    outcome = train(tmp_path, task, max_steps=6, epochs=None, validate_every={"steps": 1}, save_every={"steps": 1},
                    keep_last=2, batch_size=16)  # fmt: skip
    kept = [folder.name for folder in all_checkpoints(tmp_path / "checkpoints")]
    assert kept == ["step-00000002", "step-00000005", "step-00000006"]
    assert (outcome.best, outcome.best_checkpoint.name) == (1.0, "step-00000002")
    assert load_checkpoint(tmp_path).step == 2


def test_the_best_value_survives_resuming(tmp_path):
    task = toy.Toy()
    task.validate = lambda model, batch: {"error": (torch.tensor(0.5), torch.tensor(1.0))}
    train(tmp_path, task, epochs=1)
    outcome = train(tmp_path, epochs=2, resume="auto")
    assert (outcome.best, outcome.best_checkpoint.name) == (0.5, "step-00000006")


class Watching(toy.Toy):
    """Validates to given values; None counts nothing."""

    also_best = ("near", "far")

    def __init__(self, rows):
        super().__init__()
        self.rows = iter(rows)

    def validation_source(self):
        return toy.Source(samples=1)

    def validate(self, model, batch):
        values = zip(("error", "near", "far"), next(self.rows), strict=True)
        return {name: (torch.tensor(x or 0.0), torch.tensor(float(x is not None))) for name, x in values}


STEPWISE = {
    "epochs": None,
    "batch_size": 16,
    "validate_every": {"steps": 1},
    "save_every": {"steps": 1},
    "keep_last": 1,
}
ROWS = [(9.0, 9.0, 9.0), (5.0, 1.0, 7.0), (3.0, 2.0, 6.0), (4.0, 3.0, 8.0), (4.0, 0.5, None), (3.5, 4.0, 8.0)]
"""Before training, then after each step."""


def best_steps(run_dir):
    links = [path for path in (run_dir / "checkpoints").iterdir() if path.is_symlink()]
    return {link.name: load_checkpoint(link).step for link in links}


def test_the_best_by_each_metric_is_kept_apart(tmp_path):
    outcome = train(tmp_path, Watching(ROWS), max_steps=5, **STEPWISE)
    assert best_steps(tmp_path) == {"best": 2, "best-near": 4, "best-far": 2}
    assert [folder.name[-1] for folder in all_checkpoints(tmp_path / "checkpoints")] == ["2", "4", "5"]
    assert {name: path.name for name, path in outcome.also_best.items()} == {
        "near": "step-00000004",
        "far": "step-00000002",
    }


@pytest.mark.parametrize("stopped_at", [1, 2, 3, 4])
def test_each_best_survives_resuming(tmp_path, stopped_at):
    train(tmp_path, Watching(ROWS), max_steps=stopped_at, **STEPWISE)
    (tmp_path / "checkpoints/best-near").unlink()  # killed after the checkpoint was there and before it was named
    train(tmp_path, Watching(ROWS[stopped_at + 1 :]), max_steps=5, resume="auto", **STEPWISE)
    assert best_steps(tmp_path) == {"best": 2, "best-near": 4, "best-far": 2}


def test_a_run_that_goes_on_from_an_earlier_step_forgets_what_was_better_later(tmp_path):
    train(tmp_path, Watching(ROWS), max_steps=5, **STEPWISE | {"keep_last": 9})
    at_3 = tmp_path / "checkpoints/step-00000003"
    train(tmp_path, Watching([(9.0, 9.0, 9.0)] * 2), max_steps=5, resume=at_3, **STEPWISE | {"keep_last": 9})
    assert best_steps(tmp_path) == {"best": 2, "best-near": 1, "best-far": 2}


def test_a_checkpoint_from_before_further_metrics_goes_on_and_begins_to_keep_their_bests(tmp_path):
    folder = train(tmp_path, Watching(ROWS), max_steps=2, **STEPWISE).last_checkpoint
    state = load_checkpoint(folder).training_state()
    del state["also_best"], state["monitor"]
    torch.save(state, folder / "state.pt")
    meta = json.loads((folder / "meta.json").read_text())
    meta["files"]["state.pt"]["sha256"] = digest(folder / "state.pt")
    write_meta(folder, meta | {"format": [1, 1]})
    outcome = train(tmp_path, Watching(ROWS[3:]), max_steps=5, resume="auto", **STEPWISE)
    assert outcome.best == 3.0
    assert best_steps(tmp_path) == {"best": 2, "best-near": 4, "best-far": 3}


def test_a_further_metric_that_validation_does_not_give_stops_the_run_at_once(tmp_path):
    task = Watching([(1.0, 1.0, 1.0)])
    task.also_best = ("near", "farther")
    with pytest.raises(RunError, match="the metric to watch is 'farther', validation gives error, near, far"):
        train(tmp_path, task)


def test_watching_a_metric_that_validation_does_not_give_stops_the_run_at_once(tmp_path):
    task = toy.Toy()
    task.monitor = "mpjpe"
    with pytest.raises(RunError, match="the metric to watch is 'mpjpe', validation gives error"):
        train(tmp_path, task)
    assert task.seen == []


def test_a_loss_that_is_not_finite_stops_the_run_before_anything_is_saved_and_keeps_the_batch(tmp_path):
    task = toy.Toy(source=toy.Source(damage=17))
    with pytest.raises(RunError, match=r"step \d: squares is nan"):
        train(tmp_path, task, save_every={"steps": 1}, keep_last=99, log_every=100)
    report = torch.load(tmp_path / "nonfinite_batch.pt", weights_only=True)
    assert "sample-17" in report["batches"][0]["key"]
    assert math.isnan(report["terms"]["squares"])
    saved = all_checkpoints(tmp_path / "checkpoints")
    assert len(saved) == report["step"] - 1
    for folder in saved:
        assert all(tensor.isfinite().all() for tensor in load_checkpoint(folder).weights.values())


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)])
def test_mixed_precision_learns_with_float32_weights_and_outputs(tmp_path, precision, dtype):
    task, inside = toy.Toy(), []
    build = task.build_model
    task.build_model = lambda: build().apply(
        lambda m: m.register_forward_hook(lambda _m, _i, out: inside.append(getattr(out, "dtype", None)))
    )
    outcome = train(tmp_path, task, epochs=8, lr=0.05, precision=precision)
    assert dtype in inside
    assert task.output_dtype == torch.float32
    assert all(tensor.dtype == torch.float32 for tensor in weights(tmp_path).values())
    assert outcome.metrics["error"] < 0.8 * lines(tmp_path, "validation/error")[0]["validation/error"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on the PATH")
def test_a_compiled_model_trains_like_the_plain_one_and_keeps_its_names(tmp_path):
    """Slow: compiling takes 10 s."""
    train(tmp_path / "plain")
    train(tmp_path / "compiled", compile=True)
    torch.testing.assert_close(weights(tmp_path / "plain"), weights(tmp_path / "compiled"), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_gpu_learns_resumes_and_stops_at_what_is_not_finite(tmp_path, precision):
    settings = {"accelerator": "cuda", "devices": 1, "precision": precision, "lr": 0.05, "epochs": 12, "workers": 2}
    train(tmp_path, toy.Toy(), **settings | {"max_steps": 40})
    outcome = train(tmp_path, toy.Toy(), resume="auto", **settings)
    assert outcome.metrics["error"] < 0.8 * lines(tmp_path, "validation/error")[0]["validation/error"]
    with pytest.raises(RunError, match="squares is nan"):
        train(tmp_path / "bad", toy.Toy(source=toy.Source(damage=17)), **settings)


def test_a_signal_saves_and_the_resumed_run_equals_the_undisturbed_one(tmp_path, monkeypatch):
    train(tmp_path / "straight", toy.Toy(dropout=0.2))
    monkeypatch.setenv("TOY_SIGNAL_AT_STEP", "4")
    before = signal.getsignal(signal.SIGUSR1)
    outcome = train(tmp_path / "halves", toy.Toy(dropout=0.2))
    assert outcome.was_preempted
    assert 4 < outcome.step < 8
    assert signal.getsignal(signal.SIGUSR1) == before
    monkeypatch.delenv("TOY_SIGNAL_AT_STEP")
    assert not train(tmp_path / "halves", toy.Toy(dropout=0.2), resume="auto").was_preempted
    torch.testing.assert_close(weights(tmp_path / "straight"), weights(tmp_path / "halves"), rtol=0, atol=0)
    both = [
        [line.get("validation/error") for line in read_metrics(tmp_path / n / "metrics.jsonl")]
        for n in ("straight", "halves")
    ]
    assert both[0] == both[1]


def test_a_validation_that_a_signal_prevented_is_made_up_for(tmp_path):
    task = toy.Toy()
    task.begin_epoch = lambda model, progress: os.kill(os.getpid(), signal.SIGTERM) if progress.step == 6 else None
    outcome = train(tmp_path, task, validate_every={"steps": 7})
    assert (outcome.was_preempted, outcome.step) == (True, 7)
    assert [line["step"] for line in lines(tmp_path, "validation/error")] == [0]
    train(tmp_path, resume="auto", validate_every={"steps": 7})
    assert [line["step"] for line in lines(tmp_path, "validation/error")] == [0, 7, 12]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 64}, "batch_size: 64 is more than an epoch has: 48 training samples"),
        ({"fraction": 0.1}, "48 training samples x fraction 0.1"),
        ({"accelerator": "cuda"}, "accelerator: cuda was asked for, but torch sees no GPU"),
        ({"trackers": ["wandb"]}, "wandb is not installed; `pip install 'posecore[wandb]'`"),
    ],
)
def test_what_does_not_fit_is_told_before_the_first_step(tmp_path, settings, message):
    if "cuda" in settings.values() and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    task = toy.Toy()
    with pytest.raises(InputError) as caught:
        train(tmp_path, task, **settings)
    assert message in str(caught.value)
    assert task.seen == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "one of epochs and max_steps is needed"),
        ({"epochs": 1, "batch_size": 6, "accumulation": 4}, "batch_size 6 is not divisible by accumulation 4"),
        ({"epochs": 1, "save_every": {"epochs": 1, "steps": 2}}, "save_every: exactly one of epochs and steps"),
        ({"epochs": 1, "schedule": {"kind": "cosin"}}, "'constant', 'cosine', 'steps'"),
    ],
)
def test_impossible_settings_are_refused_with_the_fields_they_concern(settings, message):
    with pytest.raises(InputError) as caught:
        FitConfig.from_dict(settings, "run.json")
    assert message in str(caught.value)


def test_a_trained_parameter_in_no_group_or_in_two_is_an_error(tmp_path):
    task = toy.Toy()
    task.parameter_groups = lambda model: [ParameterGroup("head", list(model.head.parameters()))]
    with pytest.raises(ValueError, match=r"in no group: backbone\.weight, backbone\.bias"):
        train(tmp_path, task)
    task.parameter_groups = lambda model: [ParameterGroup(n, list(model.parameters())) for n in "ab"]
    with pytest.raises(ValueError, match="4 parameters stand in more than one group"):
        train(tmp_path, task)


def test_signal_handlers_remember_the_first_signal_and_are_given_back():
    before = signal.getsignal(signal.SIGTERM)
    assert preemption.install()
    assert not preemption.install()
    os.kill(os.getpid(), signal.SIGTERM)
    assert preemption.received() == signal.SIGTERM
    preemption.uninstall()
    assert signal.getsignal(signal.SIGTERM) == before
    assert preemption.received() is None
