"""Heads: rotations, places, depths, and the temporal encoders' laws."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handvit.model import depth_prior
from handvit.model.attention import RotaryTime, SelfAttention
from handvit.model.decoder import HandDecoder
from handvit.model.depth_heads import PatchHeatmap
from handvit.model.prediction import HandInput
from handvit.model.rotation_head import PARAMETERS, pose_to_rotations, rotations_to_pose
from handvit.model.temporal import CausalEncoder, LastFrameEncoder
from handvit.model.translation_heads import (
    NEAREST_Z_MM,
    ROOT_MEAN_MM,
    ROOT_STD_MM,
    LogDepth,
    PatchRhoMultibin,
    RootZMultibin,
    SoftArgmax3d,
)
from posecore.rotations import axis_angle_to_matrix

DIM = 16
HEADS = {
    "softargmax3d": lambda: SoftArgmax3d(DIM, (8, 8, 12), ROOT_MEAN_MM, ROOT_STD_MM, NEAREST_Z_MM),
    "xy_rootz_multibin": lambda: RootZMultibin(DIM, (8, 8), ROOT_MEAN_MM, ROOT_STD_MM, 8),
    "patch_uv_rho_multibin": lambda: PatchRhoMultibin(DIM, 8, 8),
    "log_depth": lambda: LogDepth(DIM, 8),
}
angles = st.floats(-2.0, 2.0)


def frames(b=2, t=3, **changes):
    generator = torch.Generator().manual_seed(0)
    box = torch.tensor([230.0, 180, 290, 260]) + 9 * torch.rand(b, t, 4, generator=generator)
    fields = {
        "patches": torch.zeros(b, t, 3, 0, 0),
        "patch_bbox": box + torch.tensor([-30.0, -20, 30, 20]),
        "hand_bbox": box,
        "focal": torch.tensor([600.0, 580]).expand(b, t, 2),
        "princpt": torch.tensor([256.0, 250]).expand(b, t, 2),
        "timestamp_ms": 33.0 * torch.arange(t).expand(b, t),
    }
    return HandInput(**fields | changes)


def decoder(head=None, **options):
    torch.manual_seed(0)
    return HandDecoder(DIM, DIM, head or HEADS["log_depth"](), 2, 2, 8, 32, **options).eval()


def mean_pose():
    return axis_angle_to_matrix(0.4 * torch.randn(15, 3, generator=torch.Generator().manual_seed(5)))


@given(st.lists(angles, min_size=48, max_size=48), st.sampled_from(list(PARAMETERS)))
def test_rotations_come_back_from_their_parameters(values, joint_type):
    rotations = axis_angle_to_matrix(torch.tensor(values, dtype=torch.float64).reshape(16, 3) * 0.7)
    pose = rotations_to_pose(rotations, joint_type)
    assert pose.shape == (16 * PARAMETERS[joint_type],)
    torch.testing.assert_close(pose_to_rotations(pose, joint_type), rotations, rtol=0, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("joint_type", list(PARAMETERS))
@pytest.mark.parametrize("pose_mean", ["absolute", "relative"])
def test_a_new_decoder_predicts_the_mean_pose_and_shape(joint_type, pose_mean):
    mean = mean_pose()
    network = decoder(joint_type=joint_type, pose_mean=pose_mean, mean_rotations=mean)
    prediction = network.read(network(torch.randn(6, 5, DIM)).reshape(2, 3, DIM), frames())
    expected = torch.cat((torch.eye(3)[None], mean)).expand(2, 3, 16, 3, 3)
    torch.testing.assert_close(prediction.rotations, expected, rtol=0, atol=0.1)
    assert prediction.betas.abs().max() < 0.05


def test_a_relative_pose_needs_a_mean():
    with pytest.raises(ValueError, match="relative needs the hand model's mean pose"):
        decoder(pose_mean="relative")


@pytest.mark.parametrize("joint_type", list(PARAMETERS))
def test_a_relative_pose_has_finite_gradients_at_zero(joint_type):
    network = decoder(joint_type=joint_type, pose_mean="relative", mean_rotations=mean_pose())
    pose = network.init_hand_pose.detach().clone().requires_grad_()
    weights = torch.randn(1, 16, 3, 3)
    (pose_to_rotations(pose, joint_type, network.mean_pose) * weights).sum().backward()
    assert pose.grad.isfinite().all()
    assert pose.grad.abs().max() > 0.1


def test_the_querys_start_is_saved_and_learns():
    network = decoder()
    network(torch.randn(2, 5, DIM)).square().sum().backward()
    for name in ("init_hand_pose", "init_betas", "init_cam"):
        assert name in network.state_dict()
        assert getattr(network, name).grad.abs().max() > 0


@pytest.mark.parametrize("kind", list(HEADS))
def test_every_head_answers_in_front_of_the_camera_and_all_of_it_learns(kind):
    torch.manual_seed(0)
    head = HEADS[kind]()
    answer = head(torch.randn(2, 3, DIM), frames())
    assert answer.root.shape == (2, 3, 3)
    assert (answer.root[..., 2] > 0).all()
    terms = [answer.root.sum()] + [m.log_probabilities[..., 0].sum() for m in answer.heatmaps]
    if answer.bins is not None:
        assert answer.bins.is_distance == (kind == "patch_uv_rho_multibin")
        terms += [(answer.bins.logits[..., 0] * answer.bins.residuals[..., 1]).sum()]
    sum(terms).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_bins_of_z_start_in_front_of_the_camera_unless_parity_is_asked_for():
    assert HEADS["softargmax3d"]().z_centers.min() == pytest.approx(NEAREST_Z_MM)
    parity = SoftArgmax3d(DIM, (8, 8, 12), ROOT_MEAN_MM, ROOT_STD_MM, None)
    assert parity.z_centers.min() == pytest.approx(910.08 - 5 * 219.13, abs=1e-3)
    assert parity.z_centers.max() == HEADS["softargmax3d"]().z_centers.max()


@torch.no_grad()
def test_a_sharp_heat_map_answers_its_cells_centre_rows_being_y():
    place = PatchHeatmap(DIM, 4)
    place.to_cells.weight.zero_()
    place.to_cells.weight[2 * 4 + 3] = 100.0  # row 2, column 3
    log_probabilities, uv = place(torch.ones(1, 1, DIM))
    torch.testing.assert_close(uv, torch.tensor([[[3.5 / 4, 2.5 / 4]]]))
    assert log_probabilities[0, 0].argmax() == 2 * 4 + 3


@torch.no_grad()
@pytest.mark.parametrize("kind", ["patch_uv_rho_multibin", "log_depth"])
def test_the_root_is_seen_at_its_place_in_the_patch(kind):
    torch.manual_seed(0)
    batch = frames()
    answer = HEADS[kind]()(torch.randn(2, 3, DIM), batch)
    uv = depth_prior.point_to_uv(answer.root, batch.patch_bbox, batch.focal, batch.princpt)
    torch.testing.assert_close(uv, answer.patch_uv, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_new_log_depth_head_answers_the_prior():
    batch = frames()
    answer = HEADS["log_depth"]()(torch.randn(2, 3, DIM), batch)
    prior = depth_prior.rho_prior(batch.focal, batch.princpt, batch.hand_bbox)
    torch.testing.assert_close(answer.root.norm(dim=-1), prior, rtol=0.05, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["patch_uv_rho_multibin", "log_depth", "xy_rootz_multibin"])
def test_twice_the_focal_length_sees_the_same_box_about_twice_as_far(kind):
    """Zooming keeps what the token sees; box and camera alone tell the depth."""
    batch = frames(focal=torch.full((2, 3, 2), 600.0), hand_bbox=torch.tensor([226.0, 220, 286, 280]).expand(2, 3, 4))
    near, far = batch.focal, 2 * batch.focal
    first, second = (depth_prior.z_prior(focal, batch.hand_bbox) for focal in (near, far))
    torch.testing.assert_close(second, 2 * first)
    torch.manual_seed(0)
    head = HEADS[kind]()
    zoomed = frames(focal=far, hand_bbox=batch.hand_bbox)
    ratio = head(torch.zeros(2, 3, DIM), zoomed).log_prior - head(torch.zeros(2, 3, DIM), batch).log_prior
    torch.testing.assert_close(ratio, torch.full_like(ratio, math.log(2)), rtol=0, atol=0.02)


@given(st.floats(-0.729, 0.739), st.sampled_from([2, 8, 31]))
def test_a_depth_comes_back_from_its_bin(delta, num_bins):
    prior = torch.tensor(6.5, dtype=torch.float64)
    depth = (prior + delta).exp()
    index, residual = depth_prior.encode_depth(depth, prior, num_bins)
    assert 0 <= index < num_bins
    assert abs(residual) <= 0.5 + 1e-9
    logits = torch.nn.functional.one_hot(index, num_bins).double()
    back = depth_prior.decode_depth(logits, residual.expand(num_bins), prior)
    torch.testing.assert_close(back, depth, rtol=1e-9, atol=0)


@pytest.mark.parametrize("delta", [-2.0, 2.0])
def test_a_depth_beyond_the_bins_gets_the_border(delta):
    prior = torch.tensor(6.5, dtype=torch.float64)
    index, residual = depth_prior.encode_depth((prior + delta).exp(), prior, 8)
    assert index == (0 if delta < 0 else 7)
    assert residual == pytest.approx(math.copysign(0.5, delta))


@torch.no_grad()
def test_rotary_products_depend_on_time_differences_only():
    turn = RotaryTime(8)
    query, key = torch.randn(2, 1, 2, 1, 8, dtype=torch.float64).unbind(0)

    def product(a, b):
        return (turn(query, torch.tensor([[a]])) * turn(key, torch.tensor([[b]]))).sum()

    torch.testing.assert_close(product(3.0, 1.5), product(10.0, 8.5), rtol=0, atol=1e-5)
    assert abs(product(3.0, 1.5) - product(3.0, 0.5)) > 1e-3


def encoder(kind, **options):
    torch.manual_seed(0)
    return {"last": LastFrameEncoder, "causal": CausalEncoder}[kind](DIM, 2, 2, 8, zero_linear=False, **options).eval()


KINDS = ["last", "causal"]


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_late_clock_gives_the_same_tokens_and_inputs_stay_as_they_are(kind):
    """An hour into a video float32 steps by 0.25 ms; the differences must survive."""
    tokens, times = torch.randn(2, 7, DIM), torch.arange(7.0).repeat(2, 1) * 33
    kept = tokens.clone(), times.clone()
    network = encoder(kind)
    first = network(tokens, times)
    assert torch.equal(tokens, kept[0])
    assert torch.equal(times, kept[1])
    torch.testing.assert_close(network(tokens, times + 3_600_000), first, rtol=0, atol=1e-6)
    assert (network(tokens, 2 * times) - first).abs().max() > 1e-4


@torch.no_grad()
def test_frames_other_than_the_last_may_come_in_any_order():
    tokens, times = torch.randn(2, 7, DIM), torch.arange(7.0).repeat(2, 1) * 33
    order = torch.tensor([3, 0, 5, 1, 4, 2, 6])
    network = encoder("last")
    torch.testing.assert_close(network(tokens[:, order], times[:, order]), network(tokens, times), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_causal_frame_does_not_see_later_ones():
    tokens, times = torch.randn(2, 7, DIM), torch.arange(7.0).repeat(2, 1) * 33
    network = encoder("causal")
    changed = tokens.clone()
    changed[:, 4:] += 1
    before, after = network(tokens, times, True), network(changed, times, True)
    torch.testing.assert_close(after[:, :4], before[:, :4], rtol=0, atol=1e-6)
    assert (after[:, 4:] - before[:, 4:]).abs().amin((0, 2)).min() > 1e-3
    torch.testing.assert_close(network(tokens, times), before[:, -1:], rtol=0, atol=0)


def test_the_last_frame_encoder_refuses_to_answer_for_all_frames():
    with pytest.raises(ValueError, match="need kind causal"):
        encoder("last")(torch.randn(2, 7, DIM), torch.zeros(2, 7), True)


def test_half_precision_angles_are_computed_in_full():
    turn = RotaryTime(8)
    x = torch.ones(1, 1, 1, 8)
    times = torch.tensor([[-300.0]])
    torch.testing.assert_close(turn(x.bfloat16(), times.bfloat16()).float(), turn(x, times), rtol=0, atol=0.01)


@torch.no_grad()
def test_attention_is_the_softmax_of_scaled_products():
    torch.manual_seed(0)
    attention = SelfAttention(6, 2, 4, 0.0)
    x = torch.randn(1, 5, 6)
    query, key, value = attention.to_qkv(x)[0].chunk(3, -1)
    heads = [torch.softmax(query[:, h] @ key[:, h].T / 2.0, -1) @ value[:, h] for h in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(attention(x)[0], attention.to_out[0](torch.cat(heads, -1)))
