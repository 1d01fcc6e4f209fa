"""Stage 2 begins as stage 1 ended, and changes nothing of it but what it adds in time."""

import json

import numpy as np
import pytest
import torch

from handvit.config import HandvitConfig
from handvit.experiment import open_task
from handvit.loading import load_network
from handvit.posing import last_prediction
from handvit.submission import read_predictions
from posecore.config import load_config
from posecore.training import Progress, load_checkpoint
from posecore.training.trackers import read_metrics

CLIPS = ("model.stage=2", "model.num_frame=3")
CAUSAL = ("model.temporal_encoder.kind=causal", "loss.frames=all", "loss.velocity=0.01", "loss.acceleration=0.01")


@pytest.fixture(scope="module")
def clips_of(settings, videos, stage1):
    data = f"data.train.datasets={json.dumps([{'name': 'videos', 'shards': str(videos)}])}"

    def make(*overrides: str):
        words = settings(data, *CLIPS, f"general.stage1_path={stage1}", *overrides)
        return open_task(load_config(HandvitConfig, "tiny.json", words))

    return make


def batch_of(task, *indices: int):
    return task.prepare(task.collate([task.data.train.load(index, np.random.default_rng(index)) for index in indices]))


@pytest.mark.parametrize("kind", ["last", "causal"])
def test_before_its_first_step_it_answers_exactly_as_stage_1(kind, clips_of, stage1):
    task = clips_of(f"model.temporal_encoder.kind={kind}")
    network = task.build_model().eval()
    alone = load_network(stage1, None, torch.device("cpu")).network
    frames = batch_of(task, 0, 1, 2, 3).network_input()
    with torch.no_grad():
        ours, theirs = network(frames), last_prediction(alone(frames))
    assert ours.betas.shape == (4, 1, 10)
    assert torch.equal(ours.rotations, theirs.rotations)
    assert torch.equal(ours.betas, theirs.betas)
    assert torch.equal(ours.translation.root, theirs.translation.root)


def test_its_first_validation_has_the_numbers_of_stage_1_on_the_same_frames(stage1, stage2, command, tmp_path):
    begins = read_metrics(stage2 / "metrics.jsonl")[0]
    assert begins["step"] == 0
    words = ("--frames", 3, "--split", "val", "--batch-size", 8, "--output", tmp_path)
    done = command("evaluate", "--checkpoint", stage1, *words)
    assert done.exit_code == 0, done.output
    rows, _ = read_predictions(tmp_path / "predictions.h5")
    assert len(rows) == 4 * (9 - 3 + 1)
    told = json.loads(done.stdout)["metrics"]
    for name in ("mpjpe_mm", "mpjpe_rel_mm", "pa_mpjpe_mm", "rte_mm"):
        assert begins[f"validation/{name}"] == pytest.approx(told[name], rel=1e-5), name


def test_both_stages_are_measured_on_the_same_frames(stage1, stage2, command, tmp_path):
    for name, run in (("one", stage1), ("two", stage2)):
        words = ("--frames", 3, "--shard", "0/1", "--output", tmp_path / name)
        done = command("evaluate", "--checkpoint", run, *words)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["stage"] == (1 if name == "one" else 2)
    one, two = (read_predictions(sorted((tmp_path / name).glob("*.h5")))[0] for name in ("one", "two"))
    assert one.key == two.key
    np.testing.assert_array_equal(one.true_joint_cam_mm, two.true_joint_cam_mm)
    assert np.abs(one.joint_cam_mm - two.joint_cam_mm).max() > 0


@pytest.mark.parametrize("overrides", [(), CAUSAL], ids=["last", "causal"])
def test_training_changes_the_temporal_encoder_and_not_one_bit_of_anything_else(overrides, trained, videos, stage1):
    data = json.dumps([{"name": "videos", "shards": str(videos)}])
    base = (*CLIPS, f"general.stage1_path={stage1}", f"data.train.datasets={data}")
    before = load_checkpoint(stage1, "handvit").weights
    after = load_checkpoint(trained(*base, *overrides) / "checkpoints" / "step-00000002", "handvit").weights
    assert any("running_mean" in name for name in before), "there are batch statistics to keep"
    assert all(torch.equal(after[name], value) for name, value in before.items())
    added = after.keys() - before.keys()
    assert added
    assert all(name.startswith("temporal_encoder.") for name in added)
    zero = [name for name in added if "zero_linear.weight" in name]
    assert len(zero) == 1
    assert after[zero[0]].any()


@pytest.mark.parametrize("overrides", [(), CAUSAL], ids=["last", "causal"])
def test_only_temporal_parameters_are_trained_and_all_of_them_are(overrides, clips_of):
    task = clips_of(*overrides)
    torch.manual_seed(0)
    model = task.build_model().train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("temporal_encoder."):
                parameter.add_(0.02 * torch.randn_like(parameter))
    batch = batch_of(task, 0, 1, 3)
    terms = task.loss(model, batch, task.denominators(batch), Progress(0, 0, 0.0))
    terms["total"].backward()
    assert ("velocity" in terms) == bool(overrides)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith("temporal_encoder.")}
    assert not [name for name in trained if not model.get_parameter(name).grad.any()]
    assert not [n for n, p in model.named_parameters() if n not in trained and p.grad is not None]
    assert [module.training for name, module in model.named_children() if name != "temporal_encoder"] == [False] * 3


def test_sixty_steps_lower_its_loss(clips_of):
    task = clips_of()
    torch.manual_seed(0)
    model, batch = task.build_model().train(), batch_of(task, 0, 1, 2, 3)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    totals = []
    for _ in range(60):
        total = task.loss(model, batch, task.denominators(batch), Progress(0, 0, 0.0))["total"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.95 * totals[0], "the frozen heads of a hardly trained stage 1 leave it little"


def test_it_can_go_on_from_the_weights_of_its_own_stage_on_other_data(stage2, clips_of):
    started = clips_of("general.stage1_path=null", f"general.weights_path={stage2}").build_model().state_dict()
    best = load_checkpoint(stage2, "handvit").weights
    assert started.keys() == best.keys()
    assert all(torch.equal(started[name], best[name]) for name in best)


def test_stage_1_of_another_width_is_refused_by_the_names_of_what_does_not_fit(clips_of):
    from posecore.errors import InputError

    with pytest.raises(InputError, match="stage-1 weights have another shape of"):
        clips_of("model.handec.mlp_dim=48").build_model()
