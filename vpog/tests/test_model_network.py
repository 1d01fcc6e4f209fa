"""What the whole network promises, for each of its variants."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from posecore.data.structure import map_tensors
from posecore.training.precision import Autocast
from vpog.config.model import ModelConfig
from vpog.model.build import build_network
from vpog.model.heads import ClassificationHead, pixel_offsets
from vpog.model.network import VpogNetwork
from vpog.model.prediction import GroupGeometry, MatchInput, Prediction

JOINT: dict[str, Any] = {"kind": "joint", "dim": 48, "depth": 2, "heads": 1, "window": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "s2rope": JOINT | {"position": {"px": 6, "py": 6, "ps": 2}},
    "s2rope-wider": JOINT | {"dim": 96, "heads": 2, "position": {"px": 6, "py": 6, "ps": 2, "azimuth": "reference"}},
    "rope2d": JOINT | {"position": {"kind": "rope2d"}},
    "rotation_block": JOINT | {"position": {"kind": "rotation_block"}},
    "croco_cross": {"kind": "croco_cross", "dim": 32, "depth": 2, "heads": 2},
}


def network(variant: str = "s2rope", stem: str = "patch") -> VpogNetwork:
    torch.manual_seed(0)
    settings = {
        "img_size": 64,
        "encoder": {"dim": 48, "depth": 2, "heads": 2, "stem": stem},
        "decoder": VARIANTS[variant],
        "heads": {"hidden": 32, "proj": 16, "flow_hidden": 32},
    }
    return build_network(ModelConfig.from_dict(settings))


def inputs(b: int = 2, s: int = 3) -> MatchInput:
    generator = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(b, s, 3, generator=generator), dim=-1)
    rotations = torch.linalg.qr(torch.randn(b, s, 3, 3, generator=generator)).Q
    images = torch.rand(b, s + 1, 3, 64, 64, generator=generator)
    return MatchInput(images, GroupGeometry(directions, directions[:, 0], cam_from_obj_rot=rotations))


def some_pairs(b: int = 2, s: int = 3, m: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.stack([torch.randint(0, bound, (m,), generator=generator) for bound in (b, s, 16, 16)], 1)


def chosen(group: MatchInput, rows: list[int]) -> MatchInput:
    """Some templates of each group, in that order."""
    assert group.geometry.cam_from_obj_rot is not None
    geometry = GroupGeometry(
        group.geometry.directions[:, rows],
        group.geometry.d_ref,
        cam_from_obj_rot=group.geometry.cam_from_obj_rot[:, rows],
    )
    return MatchInput(group.images[:, [0, *(row + 1 for row in rows)]], geometry)


def summed(prediction: Prediction) -> Tensor:
    """A number that every output counts in."""
    dense, matching = prediction.dense, prediction.matching
    flows = dense.flow.square().mean() + dense.scale.mean() + dense.centre_flow.square().mean()
    return flows + matching.logits.logsumexp(-1).mean() + matching.logits[..., 0].mean() + matching.pnp_scale.sum()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_every_parameter_gets_a_gradient(variant: str, stem: str) -> None:
    net = network(variant, stem)
    summed(net(inputs(), some_pairs())).backward()
    without = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    # A key's bias adds the same to all scores of a query, which softmax takes away again.
    assert [name for name in without if not name.endswith("projk.bias")] == []


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_shapes_are_those_of_the_contract_for_any_number_of_templates(variant: str) -> None:
    net = network(variant)
    for s in (1, 5):
        out = net(inputs(2, s), some_pairs(2, s, 7))
        assert out.matching.logits.shape == (2, s, 16, 17)
        assert out.matching.query_features.shape == (2, s, 16, net.decoder.width)
        assert out.matching.template_features.shape == (2, s, 16, net.decoder.width)
        assert out.matching.pnp_scale.shape == (2, 2)
        assert out.dense.flow.shape == (7, 16, 16, 2)
        assert out.dense.scale.shape == (7, 16, 16)
        assert out.dense.centre_flow.shape == (7, 2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_any_matched_pair_training_goes_on(variant: str) -> None:
    net = network(variant)
    out = net(inputs(), torch.zeros(0, 4, dtype=torch.int64))
    (out.matching.logits.mean() + out.dense.flow.sum() + out.dense.scale.sum() + out.dense.centre_flow.sum()).backward()
    assert out.dense.flow.shape == (0, 16, 16, 2)
    gradients = [value.grad for value in net.flow.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


@pytest.mark.parametrize("variant", ["s2rope", "rope2d", "rotation_block", "croco_cross"])
@torch.no_grad()
def test_nothing_is_made_on_another_device_than_the_inputs(variant: str) -> None:
    """Fake tensors of a device compute nothing, need no such device, and refuse tensors of others."""
    with FakeTensorMode():
        with torch.device("cuda"):
            net = network(variant)
        group = map_tensors(lambda tensor: tensor.to("cuda"), inputs())
        out = net(group, some_pairs().to("cuda"))
    assert {tensor.device.type for tensor in (out.matching.logits, out.matching.pnp_scale, out.dense.flow)} == {"cuda"}


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_the_order_of_templates_changes_nothing_but_the_order_of_answers(variant: str) -> None:
    net, group, order = network(variant), inputs(), [2, 0, 1]
    plain, turned = (net(each, some_pairs()).matching for each in (group, chosen(group, order)))
    torch.testing.assert_close(turned.logits, plain.logits[:, order], rtol=0, atol=2e-5)
    torch.testing.assert_close(turned.pnp_scale, plain.pnp_scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_padding_changes_nothing_for_the_templates_that_are_there(variant: str) -> None:
    net, group = network(variant), inputs()
    alone = net(chosen(group, [0, 1]), some_pairs(2, 2)).matching
    is_valid = torch.tensor([[True, True, False]] * 2)
    geometry = GroupGeometry(group.geometry.directions, group.geometry.d_ref, is_valid, group.geometry.cam_from_obj_rot)
    padded = net(MatchInput(group.images, geometry), some_pairs(2, 2)).matching
    torch.testing.assert_close(padded.logits[:, :2], alone.logits, rtol=0, atol=2e-5)
    torch.testing.assert_close(padded.pnp_scale, alone.pnp_scale, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_cross_decoder_may_see_templates_in_chunks_and_the_joint_one_sees_the_group() -> None:
    group = inputs()
    for variant, is_same in (("croco_cross", True), ("s2rope", False)):
        net = network(variant)
        whole, one = (net(each, some_pairs(2, 1)).matching.logits for each in (group, chosen(group, [1])))
        assert torch.allclose(whole[:, 1:2], one, atol=2e-5) is is_same


@torch.no_grad()
def test_templates_encoded_beforehand_match_as_templates_encoded_with_the_query() -> None:
    net, group = network(), inputs()
    together = net(group, some_pairs())
    stored = torch.stack([net.encode(templates) for templates in group.images[:, 1:]])
    matching = net.match(net.encode(group.images[:, 0]), stored, group.geometry)
    torch.testing.assert_close(matching.logits, together.matching.logits, rtol=0, atol=2e-5)
    torch.testing.assert_close(net.dense(matching, some_pairs()).flow, together.dense.flow, rtol=0, atol=2e-5)


@torch.no_grad()
def test_the_direction_of_a_template_counts_under_s2rope_alone() -> None:
    group = inputs()
    moved = GroupGeometry(
        group.geometry.directions.roll(1, 1), group.geometry.d_ref, None, group.geometry.cam_from_obj_rot
    )
    for variant in VARIANTS:
        net = network(variant)
        one, other = (net(MatchInput(group.images, part), some_pairs()) for part in (group.geometry, moved))
        changed = float((one.matching.logits - other.matching.logits).abs().max())
        assert (changed > 1e-3) is variant.startswith("s2rope"), (variant, changed)


@torch.no_grad()
def test_a_flow_starts_where_the_pixel_lies_in_its_own_patch() -> None:
    flow = network()(inputs(), some_pairs()).dense.flow
    assert float((flow.mean(0) - pixel_offsets(16)).abs().mean()) < 0.15
    assert pixel_offsets(16)[8, 8].tolist() == [0.0, 0.0]
    assert pixel_offsets(16)[8, 12].tolist() == [0.25, 0.0]  # x first


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_keeps_logits_scales_and_gradients_in_float32(precision: Any) -> None:
    net = network()
    exact = net(inputs(), some_pairs())
    mixed = Autocast(net, precision, "cpu")(inputs(), some_pairs())
    for part in (mixed.matching.logits, mixed.dense.scale, mixed.dense.flow, mixed.matching.pnp_scale):
        assert part.dtype == torch.float32
        assert part.isfinite().all()
    # 14 of cosine similarity, each rounded to 8 bits in eight layers.
    torch.testing.assert_close(mixed.matching.logits, exact.matching.logits, rtol=0, atol=0.6)
    summed(mixed).backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in net.parameters())


@torch.no_grad()
def test_no_temperature_makes_logits_larger_than_a_hundred() -> None:
    head = ClassificationHead(8, 8, 8)
    tokens = torch.randn(1, 1, 4, 8)
    head.logit_scale.fill_(50.0)
    assert float(head(tokens, tokens).abs().max()) <= 100.001
    head.logit_scale.fill_(-50.0)
    assert 0 < float(head(tokens, tokens).abs().max()) <= 1.001e-3


def test_pictures_of_another_size_and_missing_rotations_are_refused() -> None:
    net = network()
    with pytest.raises(ValueError, match=r"pictures are \(3, 64, 48\), not \(3, 64, 64\)"):
        net.encode(torch.zeros(1, 3, 64, 48))
    tokens = torch.zeros(1, 16, 48)
    geometry = GroupGeometry(torch.zeros(1, 2, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"\(1, 1\) templates and \(1, 2\) directions"):
        net.match(tokens, tokens[None], geometry)
    with pytest.raises(ValueError, match=r"rotation_block needs GroupGeometry.cam_from_obj_rot"):
        network("rotation_block").match(tokens, tokens[None].expand(-1, 2, -1, -1), geometry)


@pytest.mark.parametrize("variant", ["s2rope", "croco_cross"])
def test_one_batch_is_learnt_by_heart(variant: str) -> None:
    net, group = network(variant), inputs(2, 1)
    labels = torch.randint(0, 17, (2, 1, 16), generator=torch.Generator().manual_seed(3))
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    accuracy = 0.0
    for _ in range(200):
        logits = net(group, some_pairs(2, 1)).matching.logits
        accuracy = float((logits.argmax(-1) == labels).float().mean())
        if accuracy > 0.95:
            break
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 2), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert accuracy > 0.95


@torch.no_grad()
def test_pictures_reach_the_croco_encoder_with_imagenets_statistics() -> None:
    net, images = network(), inputs().images[:, 0]
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    torch.testing.assert_close(net.encode(images), net.encoder((images - mean) / std))
