from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F

from posecore.rotations import axis_angle_to_matrix
from smil_regressor.losses import TERMS, LossSettings, denominators, loss_terms, total_loss
from smil_regressor.losses.keypoints import squared_distance
from smil_regressor.losses.silhouette import silhouette_error
from smil_regressor.model.body import Body

SETTINGS = LossSettings()
TARGETED = [name for name in TERMS if "regularization" not in name and name != "silhouette"]
NAMES = [*TARGETED, *(name for name in TERMS if "regularization" in name)]


def perturbed(prediction, amount=0.05, seed=1):
    """Off by a little in everything, with gradients."""
    g = torch.Generator().manual_seed(seed)

    def off(value):
        return (value + amount * torch.randn(value.shape, generator=g)).requires_grad_()

    turn = axis_angle_to_matrix(amount * torch.randn(*prediction.rotations.shape[:2], 3, generator=g))
    camera = torch.eye(4).repeat(*prediction.fov_deg.shape, 1, 1)
    camera[..., :3, :3] = axis_angle_to_matrix(amount * torch.randn(*prediction.fov_deg.shape, 3, generator=g))
    return replace(
        prediction,
        rotations=(turn @ prediction.rotations).requires_grad_(),
        cam_from_world=(camera @ prediction.cam_from_world).requires_grad_(),
        **{n: off(getattr(prediction, n)) for n in ("betas", "translation", "log_scales", "joint_offsets", "fov_deg")},
    )


def leaves(prediction):
    values = (getattr(prediction, field.name) for field in fields(prediction))
    return [value for value in values if isinstance(value, torch.Tensor) and value.requires_grad]


@pytest.mark.parametrize("name", TARGETED)
def test_the_truth_has_no_loss_and_a_finite_gradient(truth, insect, name):
    batch, prediction = truth()
    prediction = perturbed(prediction, amount=0.0)
    term = loss_terms(prediction, batch, Body(insect), [name], SETTINGS)[name]
    assert (term.count > 0).any()
    assert term.mean() < 1e-6
    term.mean().backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in leaves(prediction))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_off_has_a_loss_and_a_gradient(truth, insect, name):
    batch, prediction = truth()
    prediction = perturbed(prediction)
    loss = loss_terms(prediction, batch, Body(insect), [name], SETTINGS)[name].mean()
    loss.backward()
    assert loss > 1e-7
    assert any(x.grad is not None and x.grad.abs().max() > 0 for x in leaves(prediction))


def without(batch, sample):
    """Every target of one sample missing, with nan in its place."""
    changed = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if field.name.startswith("has_") or field.name == "visibility":
            changed[field.name] = value.clone()
            changed[field.name][sample] = 0
        elif field.name.startswith("keypoints") or field.name in ("betas", "rotations", "translation", "log_scales"):
            changed[field.name] = value.clone()
            changed[field.name][sample] = float("nan")
    return replace(batch, **changed)


@pytest.mark.parametrize("name", TARGETED)
def test_missing_targets_may_be_nan_and_do_not_count(truth, insect, name):
    batch, prediction = truth()
    whole = perturbed(prediction)
    loss = loss_terms(whole, without(batch, 1), Body(insect), [name], SETTINGS)[name].mean()
    loss.backward()
    assert loss.isfinite()
    assert all(x.grad is None or x.grad.isfinite().all() for x in leaves(whole))
    assert all(x.grad is None or x.grad[1].abs().max() == 0 for x in leaves(whole))
    empty = loss_terms(whole, without(without(batch, 1), 0), Body(insect), [name], SETTINGS)[name]
    assert empty.mean() == 0
    assert (empty.count == 0).all()


def test_denominators_are_the_counts_of_the_terms(truth, insect):
    batch, prediction = truth()
    batch = without(batch, 1)
    names = [*NAMES, "ief_intermediate"]
    counts = denominators(batch, names, SETTINGS)
    seen = {}
    for name, term in loss_terms(prediction, batch, Body(insect), names, SETTINGS).items():
        seen |= term.counts(name.rpartition("/")[2])
    assert set(seen) == set(counts)
    assert all(torch.equal(seen[name].float(), counts[name].float()) for name in seen)


def test_the_shares_of_micro_batches_add_up_to_the_loss_of_the_whole(truth, insect):
    batch, prediction = truth(b=3)
    batch, prediction = without(batch, 1), perturbed(prediction)
    weights = dict.fromkeys(NAMES, 1.0)
    whole = total_loss(loss_terms(prediction, batch, Body(insect), NAMES, SETTINGS), weights)["total"]
    parts = [(select(batch, s), select(prediction, s)) for s in (slice(0, 1), slice(1, 3))]
    counts = [denominators(part, NAMES, SETTINGS) for part, _ in parts]
    totals = {name: counts[0][name] + counts[1][name] for name in counts[0]}
    shares = [total_loss(loss_terms(p, part, Body(insect), NAMES, SETTINGS), weights, totals) for part, p in parts]
    torch.testing.assert_close(sum(share["total"] for share in shares), whole)


def select(record, rows):
    def part(value):
        sliceable = isinstance(value, (torch.Tensor, tuple)) and not (
            isinstance(value, torch.Tensor) and not value.ndim
        )
        return value[rows] if sliceable else value

    changed = {field.name: part(getattr(record, field.name)) for field in fields(record) if field.name != "history"}
    return replace(record, **changed)


def test_a_joint_outside_the_picture_still_pulls_its_prediction(truth, insect):
    batch, prediction = truth(b=1, v=2)
    prediction = replace(prediction, translation=(prediction.translation + 5).requires_grad_())
    loss_terms(prediction, batch, Body(insect), ["keypoint_2d"], SETTINGS)["keypoint_2d"].mean().backward()
    assert prediction.translation.grad.abs().max() > 1e-3


def test_ignored_joints_do_not_count(truth, insect):
    batch, prediction = truth()
    joint_weights = torch.ones(insect.num_joints)
    joint_weights[3:] = 0
    settings = LossSettings(joint_weights=joint_weights)
    keypoints = batch.keypoints_world.clone()
    keypoints[:, 3:] += 9
    term = loss_terms(prediction, replace(batch, keypoints_world=keypoints), Body(insect), ["keypoint_3d"], settings)
    assert term["keypoint_3d"].mean() < 1e-9


def test_intermediate_iterations_are_weighed_by_their_number(truth, insect):
    batch, prediction = truth()
    wrong = perturbed(prediction)
    body = prediction.history[0]
    names = ("rotations", "betas", "translation", "log_scales", "joint_offsets")
    first = replace(body, **{name: getattr(wrong, name) for name in names})
    prediction = replace(prediction, history=(first, first, body))
    values = total_loss(
        loss_terms(prediction, batch, Body(insect), ["ief_intermediate"], SETTINGS), {"ief_intermediate": 2.0}
    )
    named = ["keypoint_3d", "keypoint_2d", "joint_rot", "betas", "trans"]
    alone = replace(wrong, cam_from_world=prediction.cam_from_world, history=(first,))
    plain = loss_terms(alone, batch, Body(insect), named, SETTINGS)
    expected = (1 / 3 + 2 / 3) * sum(plain[name].mean() for name in named)
    torch.testing.assert_close(values["ief_intermediate"], expected)
    torch.testing.assert_close(values["total"], 2 * expected)


def test_the_robust_error_agrees_below_its_delta_and_is_smooth():
    d = torch.tensor([[0.1, 0.0], [0.5, 0.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    robust, plain = squared_distance(d, 1.0), squared_distance(d, None)
    assert torch.equal(robust[:2], plain[:2])
    assert robust[2].item() == pytest.approx((2 * 5 - 1) / 2)
    assert torch.autograd.gradcheck(lambda x: squared_distance(x, 1.0), d)


def test_silhouette_errors_are_what_they_are_called():
    g = torch.Generator().manual_seed(0)
    alpha, mask = torch.rand(2, 5, 5, generator=g), (torch.rand(2, 5, 5, generator=g) > 0.5).float()
    bce = F.binary_cross_entropy(alpha, mask, reduction="none").mean((1, 2))
    torch.testing.assert_close(silhouette_error(alpha, mask, SETTINGS), bce)
    l1 = silhouette_error(alpha, mask, LossSettings(silhouette="l1"))
    torch.testing.assert_close(l1, (alpha - mask).abs().mean((1, 2)))
    iou = LossSettings(silhouette="soft_iou")
    assert (silhouette_error(mask, mask, iou) == 0).all()
    assert (silhouette_error(1 - mask, mask, iou) == 1).all()
    assert (silhouette_error(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), iou) == 0).all()


@pytest.mark.parametrize("kind", ["bce", "l1", "soft_iou"])
@pytest.mark.parametrize("sigma", [None, 1e-3])
def test_silhouettes_of_views_with_a_mask_pull_the_body(truth, insect, kind, sigma):
    batch, prediction = truth(b=1, v=3)
    settings = LossSettings(silhouette=kind, silhouette_sigma=sigma)
    body = Body(insect)
    masks, has_mask = torch.zeros_like(batch.masks), torch.tensor([[True, False, True]])  # the last view is masked out
    masks[:, :, 10:22, 12:20] = True
    batch = replace(batch, masks=masks, has_mask=has_mask)
    prediction = replace(prediction, translation=prediction.translation.clone().requires_grad_())
    term = loss_terms(prediction, batch, body, ["silhouette"], settings)["silhouette"]
    term.mean().backward()
    assert term.count == 1
    assert 0 < term.mean() < 20
    assert prediction.translation.grad.abs().max() > 0
    batch = replace(batch, has_mask=torch.zeros_like(has_mask))
    assert loss_terms(prediction, batch, body, ["silhouette"], settings)["silhouette"].mean() == 0
