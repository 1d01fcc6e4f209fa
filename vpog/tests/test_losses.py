"""Loss terms: reference values, minima at the truth, gradients, and sums that add up over parts of a batch."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from posecore.errors import InputError
from posecore.losses import total_loss
from posecore.rotations import axis_angle_to_matrix
from vpog.config.loss import TERM_NAMES, LossConfig, TermWeight
from vpog.labels.records import FlowLabels
from vpog.losses.centre import centre_targets, centre_term
from vpog.losses.classification import accuracy_sums, background_as_unmatched, classification_term
from vpog.losses.dense import dense_term, flow_error_sums, invisible_term
from vpog.losses.pose import PoseTargets
from vpog.losses.robust import robust
from vpog.losses.running_scale import RunningScale, running_scale_of
from vpog.losses.settings import LossSettings
from vpog.losses.table import Targets, denominators, loss_terms, match_sums, untaught
from vpog.losses.weight_regulariser import l2_term, regularised
from vpog.model.prediction import DenseMatches, Matching, Prediction
from vpog.pnp.settings import MonteCarloSettings, PnpSettings, WiringSettings
from vpog.pnp.wiring import TemplateGeometry

MATCH_TERMS = ("classification", "dense", "invisible", "centre")


@pytest.fixture(scope="module")
def vectors(reference):
    return {name: torch.from_numpy(np.asarray(array)) for name, array in reference("heads_losses").items()}


def dense_of(flow, scale, centre=None):
    return DenseMatches(flow, scale, torch.zeros(len(flow), 2) if centre is None else centre)


@pytest.mark.parametrize(
    ("name", "options"),
    [("plain", {}), ("unseen2_ls", {"tau": 0.7, "unmatched_weight": 2.0, "label_smoothing": 0.1})],
)
def test_classification_equals_the_reference(vectors, name, options):
    grid = vectors["patch_cls"].reshape(2, 3, 3, 3)
    loss = classification_term(vectors["logits"], grid, **options).mean()
    torch.testing.assert_close(loss, vectors[f"cls_loss_{name}/loss_cls"], rtol=0, atol=1e-5)
    sums = accuracy_sums(vectors["logits"], grid)
    for ours, theirs in {"": "overall", "_matched": "seen", "_unmatched": "unseen"}.items():
        total, count = sums[f"accuracy{ours}"]
        assert (total / count).item() == pytest.approx(vectors[f"cls_loss_{name}/acc_{theirs}"].item(), abs=1e-6)


def test_flow_terms_equal_the_reference(vectors):
    visible = vectors["gt_vis"] > 0
    dense = dense_of(vectors["pred_flow"], vectors["pred_b"])
    ours = dense_term(dense, vectors["gt_flow"], visible).mean()
    torch.testing.assert_close(ours, vectors["dense_loss/dense_flow_loss"], rtol=0, atol=1e-5)
    ours = invisible_term(dense, visible).mean()
    torch.testing.assert_close(ours, vectors["dense_loss/dense_invis_reg"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "name"), [("l1", "l1"), ("huber", "huber0.5")])
def test_the_centre_term_equals_the_reference(vectors, kind, name):
    ours = centre_term(vectors["center_pred"], vectors["center_gt"], vectors["center_w"], kind, 0.5).mean()
    torch.testing.assert_close(ours, vectors[f"center_loss_{name}"], rtol=0, atol=1e-5)


@given(x=st.floats(-5, 5), delta=st.floats(0.1, 3))
def test_robust_errors_are_those_of_torch(x, delta):
    value, zero = torch.tensor([x], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    torch.testing.assert_close(robust(value, "huber", delta)[0], nn.functional.smooth_l1_loss(value, zero, beta=delta))
    torch.testing.assert_close(
        robust(value, "huber", delta)[0], nn.functional.huber_loss(value, zero, delta=delta) / delta
    )
    torch.testing.assert_close(robust(value, "smooth_l1", delta)[0], nn.functional.smooth_l1_loss(value, zero))
    torch.testing.assert_close(robust(value, "l1", delta)[0], nn.functional.l1_loss(value, zero))


@pytest.mark.parametrize("kind", ["laplace", "l1", "huber"])
def test_the_flow_term_is_least_at_the_true_flow(kind):
    generator = torch.Generator().manual_seed(0)
    flow = torch.randn(5, 4, 4, 2, generator=generator)
    visible = torch.rand(5, 4, 4, generator=generator) > 0.3
    hidden = torch.where(visible[..., None], flow, torch.nan)  # what is not visible may hold anything
    prediction = (flow + 0.1 * torch.randn(flow.shape, generator=generator)).requires_grad_()
    scale = torch.full((5, 4, 4), 0.2, requires_grad=True)
    loss = dense_term(dense_of(prediction, scale), hidden, visible, kind).mean()
    assert loss > dense_term(dense_of(flow, scale), hidden, visible, kind).mean()
    loss.backward()
    assert prediction.grad[visible].abs().min() > 0
    assert prediction.grad[~visible].abs().max() == 0
    assert (scale.grad is None) == (kind != "laplace")


def test_the_best_scale_is_half_the_error():
    """d/db of e/b + 2 log b is 0 at b = e / 2: the mean error of one coordinate."""
    scale = torch.tensor([[[0.3 - 1e-4]]], dtype=torch.float64, requires_grad=True)
    flow = torch.tensor([[[[0.4, 0.2]]]], dtype=torch.float64)
    dense_term(
        dense_of(flow, scale, flow[:, 0, 0]), torch.zeros_like(flow), torch.ones(1, 1, 1, dtype=torch.bool)
    ).mean().backward()
    assert scale.grad.abs().max() < 1e-12


def test_confidence_where_nothing_is_seen_is_taught_away():
    scale = torch.full((1, 2, 2), 0.1, requires_grad=True)
    visible = torch.tensor([[[True, False], [False, False]]])
    invisible_term(dense_of(torch.zeros(1, 2, 2, 2), scale), visible).mean().backward()
    assert scale.grad[visible].abs().max() == 0
    assert (scale.grad[~visible] < 0).all()


@pytest.mark.parametrize("kind", ["l1", "huber", "smooth_l1"])
def test_the_centre_term_is_least_at_the_truth_and_its_gradient_leads_there(kind):
    generator = torch.Generator().manual_seed(2)
    target = torch.randn(6, 2, generator=generator)
    weight = torch.tensor([1.0, 1, 0, 1, 0.5, 1])
    prediction = (target + torch.randn(6, 2, generator=generator)).requires_grad_()
    known = torch.where(weight[:, None] > 0, target, torch.nan)
    loss = centre_term(prediction, known, weight, kind, 0.5).mean()
    loss.backward()
    assert centre_term(target, known, weight, kind, 0.5).mean() == 0
    assert loss > 0
    assert ((prediction.grad * (prediction - target))[weight > 0] > 0).all()
    assert prediction.grad[2].abs().max() == 0


def test_right_answers_cost_least_and_background_nothing():
    labels = torch.tensor([[[[0, 3], [4, -1]]]])
    right = 20 * nn.functional.one_hot(torch.tensor([[[0, 3, 4, 2]]]), 5).float()
    assert classification_term(right, labels).mean() < 1e-6
    assert classification_term(-right, labels).mean() > 10
    logits = torch.zeros(1, 1, 4, 5, requires_grad=True)
    classification_term(logits, labels).mean().backward()
    assert logits.grad[0, 0, 3].abs().max() == 0
    assert (logits.grad[0, 0, torch.arange(3), torch.tensor([0, 3, 4])] < 0).all()


def test_a_batch_without_labels_costs_nothing_and_has_a_finite_gradient():
    logits = torch.randn(1, 1, 4, 5, requires_grad=True)
    loss = classification_term(logits, torch.full((1, 1, 2, 2), -1)).mean()
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().max() == 0


def test_background_becomes_unmatched_as_often_as_asked_and_by_the_sample_alone():
    labels = torch.full((400, 2, 3, 3), -1)
    labels[:, :, 0, 0] = 5
    seeds = torch.arange(400)
    some = background_as_unmatched(labels, seeds, 0.3)
    assert (some[:, :, 0, 0] == 5).all()
    assert (some[:, 0] == some[:, 1]).all()  # the same patches for all templates
    share = (some[:, 0] == 9).sum() / (400 * 8)
    assert share.item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(background_as_unmatched(labels[7:8], seeds[7:8], 0.3), some[7:8])
    assert torch.equal(background_as_unmatched(labels, seeds, 0.0), labels)
    assert (background_as_unmatched(labels, seeds, 1.0) != -1).all()


def test_the_regulariser_leaves_out_biases_norms_and_tokens():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.norm = nn.Linear(3, 2), nn.LayerNorm(2)
            self.unmatched_token = nn.Parameter(torch.ones(1, 2))
            self.frozen = nn.Linear(2, 2).requires_grad_(False)

    net = Net()
    assert [p.shape for p in regularised(net)] == [(2, 3)]
    term = l2_term(net, 4)
    torch.testing.assert_close(term.mean(), net.linear.weight.square().sum())
    term.mean().backward()
    torch.testing.assert_close(net.linear.weight.grad, 2 * net.linear.weight)
    torch.testing.assert_close(term.mean(torch.tensor(8.0)) * 2, term.mean())  # half of a batch gives half of it


# The whole table, on a batch whose labels are drawn at random


def pose_of(axis_angle, trans):
    matrix = torch.eye(4)
    matrix[:3, :3] = axis_angle_to_matrix(torch.tensor(axis_angle))
    matrix[:3, 3] = torch.tensor(trans)
    return matrix


def batch(b=3, s=2, grid=3, ps=8, seed=0):
    """Targets, and a prediction whose leaves want gradients. Query and template poses are equal: the true flow is small."""
    g = torch.Generator().manual_seed(seed)
    p = grid * grid
    patch_cls = torch.randint(-1, p + 1, (b, s, grid, grid), generator=g)
    where = torch.nonzero(((patch_cls >= 0) & (patch_cls < p)).flatten(2))
    pairs = torch.cat([where, patch_cls.flatten(2)[tuple(where.T)][:, None]], 1)
    m = len(pairs)
    visible = torch.rand(m, ps, ps, generator=g) > 0.3
    labels = FlowLabels(
        patch_cls,
        torch.rand(b, s, grid, grid, 2, generator=g) - 0.5,
        (patch_cls >= 0) & (patch_cls < p),
        torch.rand(b, s, grid, grid, generator=g) > 0.4,
        torch.zeros(b, s, grid, grid, 2),
        pairs,
        torch.where(visible[..., None], torch.rand(m, ps, ps, 2, generator=g) - 0.5, 0),
        visible,
    )
    side = grid * ps
    K = torch.tensor([[2.0 * side, 0, side / 2], [0, 2.0 * side, side / 2], [0, 0, 1]])
    depth = 480 + 40 * torch.rand(b, s, side, side, generator=g)
    template = torch.stack(
        [torch.stack([pose_of([0.3 * j, 0.2, 0.1 * i], [0.0, 2.0, 500.0]) for j in range(s)]) for i in range(b)]
    )
    poses = PoseTargets(
        template[:, 0],
        K.expand(b, 3, 3),
        torch.linspace(80, 120, b),
        TemplateGeometry(depth, K.expand(b, s, 3, 3), template),
        torch.arange(b) + 100,
    )
    leaves = {
        "logits": torch.randn(b, s, p, p + 1, generator=g),
        "flow": torch.randn(m, ps, ps, 2, generator=g) * 0.2,
        "scale": 0.1 + torch.rand(m, ps, ps, generator=g),
        "centre_flow": torch.randn(m, 2, generator=g) * 0.2,
        "pnp_scale": torch.full((b, 2), 1.5),
    }
    return Targets(labels, poses), {name: leaf.requires_grad_() for name, leaf in leaves.items()}


def prediction_of(leaves):
    features = torch.zeros(*leaves["logits"].shape[:3], 2)
    matching = Matching(leaves["logits"], features, features, leaves["pnp_scale"])
    return Prediction(matching, DenseMatches(leaves["flow"], leaves["scale"], leaves["centre_flow"]))


SETTINGS = LossSettings(
    solver=PnpSettings(monte_carlo=MonteCarloSettings(num_samples=64), wiring=WiringSettings(128, 4))
)
NORM = torch.tensor(1.3)


def part_of(targets, leaves, samples):
    """The batch of some samples alone."""
    rows = torch.tensor(samples)
    keep = torch.isin(targets.labels.pairs[:, 0], rows)
    pairs = targets.labels.pairs[keep].clone()
    pairs[:, 0] -= samples[0]
    l, p, t = targets.labels, targets.poses, targets.poses.templates
    labels = FlowLabels(
        *(v[rows] for v in (l.patch_cls, l.flows, l.visibility, l.patch_visibility, l.coarse_flows)),
        pairs,
        l.dense_flow[keep],
        l.dense_visibility[keep],
    )
    templates = TemplateGeometry(t.depth_mm[rows], t.K[rows], t.cam_from_obj_mm[rows])
    poses = PoseTargets(p.cam_from_obj_mm[rows], p.K[rows], p.diameter_mm[rows], templates, p.seeds[rows])
    by_pair = {"flow", "scale", "centre_flow"}
    return Targets(labels, poses), {n: v[keep] if n in by_pair else v[rows] for n, v in leaves.items()}


def total_of(targets, leaves, counts, names):
    weights = {name: 0.5 + 0.1 * i for i, name in enumerate(names)}
    losses = loss_terms(prediction_of(leaves), targets, names, SETTINGS, norm=NORM)
    return total_loss(losses.terms, weights, counts)["total"]


def test_parts_of_a_batch_add_up_to_the_whole_in_value_and_gradient():
    names = (*MATCH_TERMS, "pnp")
    targets, leaves = batch()
    parts = [part_of(targets, leaves, samples) for samples in ([0], [1, 2])]
    each = [denominators(part, names) for part, _ in parts]
    counts = {name: sum(c[name] for c in each) for name in names}
    for name, whole in denominators(targets, names).items():
        torch.testing.assert_close(counts[name], whole)
    whole = total_of(targets, leaves, counts, names)
    wanted = torch.autograd.grad(whole, list(leaves.values()))
    pieces = sum(total_of(part, own, counts, names) for part, own in parts)
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(torch.autograd.grad(pieces, list(leaves.values())), wanted, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-3 * theirs.abs().max().item())


def test_denominators_are_the_counts_of_the_terms():
    targets, leaves = batch()
    net = nn.Linear(2, 2)
    losses = loss_terms(prediction_of(leaves), targets, TERM_NAMES, SETTINGS, norm=NORM, model=net)
    for name, count in denominators(targets, TERM_NAMES).items():
        torch.testing.assert_close(losses.terms[name].count, count)
    assert losses.pose.num_failures == 0
    assert losses.pose.num_fallbacks == 0


def test_the_centre_flow_is_compared_with_the_flow_of_its_own_query_patch():
    targets, _ = batch()
    flows, weight = centre_targets(targets.labels)
    for row, (b, s, q, _) in enumerate(targets.labels.pairs.tolist()):
        assert torch.equal(flows[row], targets.labels.flows[b, s, q // 3, q % 3])
        assert weight[row] == targets.labels.patch_visibility[b, s, q // 3, q % 3]


def test_the_truth_has_no_flow_error_and_all_answers_right():
    targets, leaves = batch()
    labels = targets.labels
    p = leaves["logits"].shape[2]
    logits = nn.functional.one_hot(labels.patch_cls.flatten(2).clamp_min(0), p + 1).float()
    truth = leaves | {"logits": logits, "flow": labels.dense_flow, "centre_flow": centre_targets(labels)[0]}
    measures = {
        name: (total / count).item() for name, (total, count) in match_sums(prediction_of(truth), labels).items()
    }
    assert measures["flow_px"] == measures["centre_px"] == 0
    assert measures["accuracy"] == measures["accuracy_matched"] == measures["accuracy_unmatched"] == 1
    assert measures["pairs"] == len(labels.pairs) / 3
    off = dense_of(labels.dense_flow + torch.tensor([3 / 8, 4 / 8]), leaves["scale"])
    total, count = flow_error_sums(off, labels.dense_flow, labels.dense_visibility)
    assert (total / count).item() == pytest.approx(5.0, rel=1e-5)  # a patch has 8 px


def exact_pose_batch():
    """The query is the first template: pairs of a patch with itself, and the flow of each pixel is its place."""
    targets, leaves = batch(s=1)
    p, ps = 9, 8
    patch_cls = torch.arange(p).reshape(1, 1, 3, 3).expand(3, 1, 3, 3)
    pairs = torch.cartesian_prod(torch.arange(3), torch.zeros(1, dtype=torch.int64), torch.arange(p))
    pairs = torch.cat([pairs, pairs[:, 2:]], 1)
    offset = (torch.arange(ps) - ps // 2) / ps
    flow = torch.stack(torch.meshgrid(offset, offset, indexing="xy"), -1).expand(len(pairs), ps, ps, 2).clone()
    labels = replace(
        targets.labels,
        patch_cls=patch_cls,
        pairs=pairs,
        dense_flow=flow,
        dense_visibility=torch.ones(len(pairs), ps, ps, dtype=torch.bool),
    )
    small = {"flow": flow, "scale": torch.full((len(pairs), ps, ps), 0.2), "centre_flow": torch.zeros(len(pairs), 2)}
    return replace(targets, labels=labels), leaves | small | {"pnp_scale": torch.full((3, 2), 30.0)}


def test_the_pose_loss_is_less_at_the_true_flow_and_its_gradient_leads_there():
    targets, leaves = exact_pose_batch()
    shift = torch.tensor([0.6, -0.4])
    g = torch.Generator().manual_seed(4)

    def loss(flow):
        return (
            loss_terms(prediction_of(leaves | {"flow": flow}), targets, ["pnp"], SETTINGS, norm=NORM)
            .terms["pnp"]
            .mean()
        )

    true = leaves["flow"]
    noise = torch.randn(true.shape, generator=g) * 0.3
    for wrong in (true + shift, true + noise):
        start = wrong.clone().requires_grad_()
        value = loss(start)
        assert value > loss(true)
        (gradient,) = torch.autograd.grad(value, start)
        assert (gradient * (wrong - true)).sum() > 0


def test_the_pose_parts_are_zero_at_the_truth_but_for_the_density():
    targets, leaves = exact_pose_batch()
    found = loss_terms(prediction_of(leaves), targets, ["pnp"], SETTINGS, norm=NORM).pose
    assert found.parts["translation"].mean() < 1e-8
    assert found.parts["rotation"].mean() < 1e-6
    assert found.num_failures == 0


def test_a_query_that_has_no_pose_is_counted_and_leaves_gradients_finite():
    targets, leaves = exact_pose_batch()
    depth = targets.poses.templates.depth_mm.clone()
    depth[1] = 0
    templates = replace(targets.poses.templates, depth_mm=depth)
    blind = replace(targets, poses=replace(targets.poses, templates=templates))
    leaves = {name: leaf.detach().clone().requires_grad_() for name, leaf in leaves.items()}
    losses = loss_terms(prediction_of(leaves), blind, ["pnp"], SETTINGS, norm=NORM)
    assert losses.pose.num_failures == 1
    assert losses.terms["pnp"].count == 3
    losses.terms["pnp"].mean().backward()
    for name in ("flow", "scale", "pnp_scale"):
        assert leaves[name].grad.isfinite().all()
    assert leaves["pnp_scale"].grad[1].abs().max() == 0
    assert leaves["pnp_scale"].grad[0].abs().min() > 0


def test_a_batch_without_matches_has_a_pose_loss_of_zero():
    targets, leaves = batch()
    none = torch.zeros(len(targets.labels.pairs), dtype=torch.bool)
    l = targets.labels
    labels = replace(l, pairs=l.pairs[none], dense_flow=l.dense_flow[none], dense_visibility=l.dense_visibility[none])
    empty = leaves | {name: leaves[name][none] for name in ("flow", "scale", "centre_flow")}
    names = (*MATCH_TERMS, "pnp")
    total = total_of(
        replace(targets, labels=labels), empty, denominators(replace(targets, labels=labels), names), names
    )
    total.backward()
    assert total.isfinite()
    assert leaves["pnp_scale"].grad.abs().max() == 0


def test_a_dense_prediction_of_other_pairs_is_refused():
    targets, leaves = batch()
    fewer = leaves | {name: leaves[name][1:] for name in ("flow", "scale", "centre_flow")}
    with pytest.raises(ValueError, match="dense flow of"):
        loss_terms(prediction_of(fewer), targets, ["dense"], SETTINGS)
    with pytest.raises(ValueError, match="needs the norm of a RunningScale"):
        loss_terms(prediction_of(leaves), targets, ["pnp"], SETTINGS)


def test_terms_that_do_not_count_yet_leave_no_output_without_a_gradient():
    _, leaves = batch()
    zero = untaught(prediction_of(leaves))
    zero.backward()
    assert zero == 0
    assert all(leaf.grad is not None and leaf.grad.abs().max() == 0 for leaf in leaves.values())


def test_the_running_scale_moves_once_a_step_by_the_mean_of_all_micro_batches():
    whole, split = RunningScale(0.1), RunningScale(0.1)
    scales = torch.tensor([[2.0, 4.0], [6.0, 8.0], [1.0, 3.0]])
    for step in range(3):
        seen = [split.add(scales[:1] + step, step), split.add(scales[1:] + step, step)]
        assert seen[0] == seen[1] == whole.add(scales + step, step)
    wanted = 1.0
    for step in range(2):  # the last step's scales wait for the next
        wanted += 0.1 * (4.0 + step - wanted)
    assert whole.value.item() == pytest.approx(wanted)
    resumed = RunningScale(0.1)
    resumed.load_state_dict(whole.state_dict())
    assert resumed.add(scales, 3) == whole.add(scales, 3)


ONE_OF_TWO = """
import sys, torch
from vpog.losses.running_scale import RunningScale
rank, store = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
running, scales = RunningScale(0.1), torch.tensor([[2.0, 4.0], [6.0, 8.0]])
print([running.add(scales[rank : rank + 1] + step, step).item() for step in range(3)])
torch.distributed.destroy_process_group()
"""


@pytest.mark.ddp
@pytest.mark.slow  # two processes import torch for it; test_training_runs trains with two and has the pose loss in them
def test_two_processes_share_one_running_scale(tmp_path):
    commands = [[sys.executable, "-c", ONE_OF_TWO, str(rank), str(tmp_path / "store")] for rank in (0, 1)]
    alone_on_a_core = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True, env=alone_on_a_core) for each in commands]
    answers = [process.communicate(timeout=300)[0].splitlines()[-1] for process in processes]
    alone, scales = RunningScale(0.1), torch.tensor([[2.0, 4.0], [6.0, 8.0]])
    wanted = [alone.add(scales + step, step).item() for step in range(3)]
    assert answers == [str(wanted), str(wanted)]


def test_a_model_has_one_running_scale():
    assert isinstance(running_scale_of(nn.Sequential(nn.Linear(1, 1), RunningScale())), RunningScale)
    with pytest.raises(ValueError, match="found 0"):
        running_scale_of(nn.Linear(1, 1))


def test_weights_follow_their_ramp():
    weight = TermWeight(weight=2.0, from_step=10, ramp_steps=4)
    assert [weight.at(step) for step in (0, 9, 10, 11, 13, 99)] == [0, 0, 0.5, 1.0, 2.0, 2.0]
    config = LossConfig()
    assert config.weights_at(0) == {"classification": 1, "dense": 1, "invisible": 1, "centre": 1}
    assert config.weights_at(2000)["pnp"] == 0.02
    assert config.terms() == ("classification", "dense", "invisible", "centre", "pnp")


def test_settings_come_from_the_configuration_of_a_run():
    config = LossConfig.from_dict({"tau": 0.5, "solver": {"lm": {"num_iterations": 3}, "wiring": {"stride": 2}}})
    settings = LossSettings.of(config)
    assert (settings.tau, settings.solver.lm.num_iterations, settings.solver.wiring.stride) == (0.5, 3, 2)
    assert LossSettings.of(LossConfig()) == LossSettings()


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"solver": {"monte_carlo": {"num_samples": 510}}}, "num_samples 510 is no multiple of num_rounds 4"),
        ({"solver": {"monte_carlo": {"num_samples": 16}}}, "fewer than 8 a round"),
        ({name: {"weight": 0} for name in TERM_NAMES}, "or nothing is learned"),
        ({"dens": {}}, "did you mean dense"),
    ],
)
def test_wrong_settings_are_told_in_a_line(wrong, line):
    with pytest.raises(InputError, match=line):
        LossConfig.from_dict(wrong)
