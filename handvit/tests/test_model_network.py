"""The whole network: what learns, what stays, what a stage answers."""

import dataclasses
import io

import pytest
import torch

from handvit.config.model import ModelConfig
from handvit.model.build import build_network, load_stage1
from handvit.model.prediction import HandInput
from posecore.config import merge
from posecore.errors import InputError

TINY = {
    "img_size": 32,
    "backbone": {
        "backbone_str": "dinov2",
        "kwargs": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 8,
        },
    },
    "persp_info_embed": {"type": "ca", "num_sample": 4, "num_head": 2, "dim_head": 8},
    "handec": {
        "num_layer": 2,
        "num_head": 2,
        "dim_head": 8,
        "mlp_dim": 64,
        "translation": {"kind": "softargmax3d", "num_bins": [32, 32, 48]},
    },
}
STAGE_2 = {"stage": 2, "num_frame": 7, "temporal_encoder": {"num_head": 2, "dim_head": 8}}
SWIN = {
    "backbone": {
        "backbone_str": "swinv2",
        "kwargs": {"embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 2, 4], "window_size": 4, "patch_size": 2},
    }
}
MAE = {
    "backbone": {
        "backbone_str": "vit_mae",
        "kwargs": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "patch_size": 8,
        },
    }
}
DENSE = {"persp_info_embed": {"type": "dense"}}
FUSED = {"backbone": {"infusion_layer": [1, 2]}}
VARIANTS = {
    "plain": {},
    "fused, dense": merge(DENSE, FUSED),
    "without class token": {"backbone": {"drop_cls": True}},
    "mae": MAE,
    "swin": SWIN,
    "recomputed": {"backbone": {"gradient_checkpointing": True}},
    "quaternion, multibin z": {
        "joint_type": "quaternion",
        "norm_by_hand": False,
        "handec": {"translation": {"kind": "xy_rootz_multibin"}},
    },
    "axis-angle, multibin rho": {
        "joint_type": "axis_angle",
        "norm_by_hand": False,
        "handec": {"translation": {"kind": "patch_uv_rho_multibin"}},
    },
    "log depth": {"norm_by_hand": False, "handec": {"translation": {"kind": "log_depth"}}},
}


def config(*changes):
    return ModelConfig.from_dict(merged(*changes), "model")


def merged(*changes):
    values = TINY
    for change in changes:
        is_other_kind = "backbone_str" in change.get("backbone", {})
        values = merge(values | {"backbone": {}} if is_other_kind else values, change)
    return values


def build(*changes, seed=0):
    torch.manual_seed(seed)
    return build_network(config(*changes))


def frames(b=2, t=1, seed=0):
    torch.manual_seed(seed)
    box = torch.tensor([230.0, 180, 290, 260]) + 20 * torch.rand(b, t, 1) + 5 * torch.rand(b, t, 4)
    return HandInput(
        torch.rand(b, t, 3, 32, 32),
        box + torch.tensor([-30.0, -20, 30, 20]),
        box,
        torch.tensor([600.0, 580]).expand(b, t, 2),
        torch.tensor([256.0, 250]).expand(b, t, 2),
        33.0 * torch.arange(t).repeat(b, 1),
    )


def choose(batch, index):
    return HandInput(**{field.name: getattr(batch, field.name)[index] for field in dataclasses.fields(batch)})


def everything(prediction):
    """A scalar that depends on all that the losses see."""
    place = prediction.translation
    parts = [prediction.pose_params, prediction.betas, place.root, *(m.log_probabilities for m in place.heatmaps)]
    if place.bins is not None:
        parts += [place.bins.logits, place.bins.residuals]
    return sum((part * torch.randn_like(part)).mean() for part in parts)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_trained_parameter_of_stage_1_gets_a_gradient(name):
    network = build(VARIANTS[name]).train()
    optimizer = torch.optim.SGD((p for p in network.parameters() if p.requires_grad), 1e-5)
    for _ in range(2):  # what lies before a projection that starts at zero learns from the second step on
        optimizer.zero_grad()
        everything(network(frames(4))).backward()
        optimizer.step()
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    assert [n for n, p in trained.items() if p.grad is None or not p.grad.any()] == []
    fixed = {n.split(".")[-1] for n in dict(network.named_parameters()).keys() - trained.keys()}
    assert fixed <= {"mask_token", "weight", "bias", "position_embeddings"}


@torch.no_grad()
@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_prediction_depends_neither_on_the_other_samples_nor_on_their_order(name):
    network, batch = build(VARIANTS[name]).eval(), frames(3, 2)
    prediction = network(batch)
    order = torch.tensor([2, 0, 1])
    for other, index in ((network(choose(batch, order)), order), (network(choose(batch, slice(1, 2))), slice(1, 2))):
        torch.testing.assert_close(other.rotations, prediction.rotations[index], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(other.translation.root, prediction.translation.root[index], rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_stage_1_answers_for_each_frame_by_itself():
    network, batch = build().eval(), frames(2, 3)
    whole = network(batch)
    assert whole.rotations.shape == (2, 3, 16, 3, 3)
    for t in range(3):
        alone = network(choose(batch, (slice(None), slice(t, t + 1))))
        torch.testing.assert_close(alone.tokens, whole.tokens[:, t : t + 1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.translation.root, whole.translation.root[:, t : t + 1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["last", "causal"])
@pytest.mark.parametrize("name", list(VARIANTS))
def test_stage_2_starts_exactly_as_stage_1_ended(kind, name):
    stage1 = build(VARIANTS[name], seed=1).eval()
    stage2 = build(VARIANTS[name], STAGE_2, {"temporal_encoder": {"kind": kind}}, seed=2).eval()
    load_stage1(stage2, stage1.state_dict())
    batch = frames(2, 7)
    expected, answer = stage1(batch), stage2(batch)
    assert answer.rotations.shape == (2, 1, 16, 3, 3)
    assert torch.equal(answer.tokens, expected.tokens[:, -1:])
    last = stage1(choose(batch, (slice(None), slice(-1, None))))
    torch.testing.assert_close(answer.rotations, expected.rotations[:, -1:], rtol=0, atol=1e-6)
    torch.testing.assert_close(answer.translation.root, last.translation.root, rtol=1e-4, atol=1e-4)
    if kind == "causal":
        assert torch.equal(stage2(batch, all_frames=True).rotations, expected.rotations)


def test_stage_2_refuses_weights_that_are_not_those_of_its_stage_1():
    stage2 = build(STAGE_2)
    state = build().state_dict()
    state.pop("handec.decshape.bias")
    state["other.weight"] = torch.zeros(1)
    state["handec.decpose.bias"] = torch.zeros(3)
    with pytest.raises(InputError) as error:
        load_stage1(stage2, state)
    assert error.value.problems == (
        "the stage-1 weights lack handec.decshape.bias",
        "the stage-1 weights hold unknown other.weight",
        "the stage-1 weights have another shape of handec.decpose.bias",
    )


@pytest.mark.parametrize("kind", ["last", "causal"])
def test_stage_2_trains_the_temporal_encoder_and_leaves_all_else_bit_identical(kind):
    network = build(VARIANTS["fused, dense"], STAGE_2, {"temporal_encoder": {"kind": kind}}).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert all(name.startswith("temporal_encoder.") for name in trained)
    optimizer = torch.optim.AdamW(trained.values(), 1e-2)
    for seed in range(3):
        optimizer.zero_grad()
        everything(network(frames(2, 7, seed))).backward()
        optimizer.step()
    assert [name for name, p in trained.items() if p.grad is None or not p.grad.any()] == []
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(trained)


def test_a_frozen_encoder_stays_while_the_rest_learns():
    network = build(FUSED)
    network.freeze_backbone()
    network.train()
    before = {name: value.clone() for name, value in network.backbone.backbone.state_dict().items()}
    everything(network(frames(4))).backward()
    assert not any(module.training for module in network.backbone.backbone.modules())
    assert network.backbone.fusion_conv[1].training
    assert network.backbone.fusion_conv[0].weight.grad.any()
    after = network.backbone.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_network_of_stage_1_has_nothing_to_freeze_for_stage_2():
    with pytest.raises(ValueError, match="no temporal encoder"):
        build().freeze_spatial()


@torch.no_grad()
@pytest.mark.parametrize("stage", [{}, STAGE_2, {**STAGE_2, "temporal_encoder": {"kind": "causal"}}])
def test_cached_tokens_give_what_pictures_give_also_without_pictures(stage):
    network, batch = build(stage, {"temporal_encoder": {"zero_linear": False}}).eval(), frames(2, 7)
    tokens = torch.cat([network.encode(choose(batch, (slice(None), slice(t, t + 1)))) for t in range(7)], 1)
    blind = dataclasses.replace(batch, patches=torch.zeros(2, 7, 3, 0, 0))
    expected, answer = network(batch), network.answer(tokens, blind)
    torch.testing.assert_close(answer.rotations, expected.rotations, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(answer.translation.root, expected.translation.root, rtol=1e-4, atol=1e-3)


def test_tokens_that_do_not_fit_their_cameras_are_refused():
    network, batch = build(STAGE_2), frames(2, 7)
    with pytest.raises(ValueError, match=r"tokens of \(2, 1\) clips and frames"):
        network.answer(torch.zeros(2, 1, 32), batch)


def test_patches_of_another_size_are_refused():
    batch = dataclasses.replace(frames(2, 1), patches=torch.zeros(2, 1, 3, 40, 40))
    with pytest.raises(ValueError, match=r"should have the shape \(2, 1, 3, 32, 32\)"):
        build()(batch)


@torch.no_grad()
def test_weights_saved_and_loaded_give_the_same_predictions_bit_for_bit():
    network, batch = build(FUSED, seed=1).eval(), frames()
    stored = io.BytesIO()
    torch.save(network.state_dict(), stored)
    stored.seek(0)
    other = build(FUSED, seed=2).eval()
    other.load_state_dict(torch.load(stored, weights_only=True))
    assert torch.equal(other(batch).rotations, network(batch).rotations)


def test_under_bf16_what_is_read_from_the_token_stays_float32():
    network, batch = build(), frames()
    with torch.autocast("cpu", torch.bfloat16):
        prediction = network(batch)
    for tensor in (prediction.rotations, prediction.betas, prediction.translation.root, prediction.tokens):
        assert tensor.dtype == torch.float32
    again = network.handec.read(prediction.tokens, batch)
    assert torch.equal(again.translation.root, prediction.translation.root)


def test_dropout_follows_its_share_and_zero_share_is_none():
    network, batch = build({"handec": {"dropout": 0.5}}).train(), frames()
    network.set_dropout_share(0.0)
    assert torch.equal(network(batch).tokens, network(batch).tokens)
    network.set_dropout_share(1.0)
    assert not torch.equal(network(batch).tokens, network(batch).tokens)
    network.eval()
    assert torch.equal(network(batch).tokens, network(batch).tokens)


def test_recomputed_blocks_give_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        network = build({"backbone": {"gradient_checkpointing": checkpointing}, "handec": {"dropout": 0.0}}).train()
        network(frames()).translation.root.sum().backward()
        gradients.append(network.backbone.backbone.embeddings.patch_embeddings.projection.weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_one_batch_is_learned_by_heart():
    network, batch = build({"handec": {"dropout": 0.0}}).train(), frames(4)
    generator = torch.Generator().manual_seed(3)
    pose = network(batch).pose_params.detach() + 0.3 * torch.randn(4, 1, 96, generator=generator)
    root = torch.tensor([0.0, 0.0, 9.0]) + torch.randn(4, 1, 3, generator=generator)
    optimizer = torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), 3e-3)
    losses = []
    for _ in range(100):
        prediction = network(batch)
        loss = (prediction.pose_params - pose).abs().mean() + 0.1 * (prediction.translation.root - root).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_the_large_preset_has_404_million_parameters():
    with torch.device("meta"):
        network = build_network(ModelConfig(stage=2, num_frame=7), load_weights=False)
    parts = (network.backbone, network.persp_info_embedder, network.handec, network.temporal_encoder)
    assert [round(sum(p.numel() for p in part.parameters()) / 1e6) for part in parts] == [303, 14, 69, 18]
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == 404


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frame": 7}, "model: stage 1 sees single frames: num_frame should be 1, not 7"),
        ({"stage": 2}, "model: stage 2 needs clips: num_frame should be 2 or more"),
        (
            {"handec": {"translation": {"kind": "log_depth"}}},
            "norm_by_hand true goes with handec.translation.kind softarg",
        ),
        ({"img_size": 36}, "img_size 36 is no multiple of 8, the size of a token of backbone.backbone_str dinov2"),
        (
            {"backbone": {"drop_cls": True}, "persp_info_embed": {"type": "dense", "pie_fusion": "cls"}},
            "pie_fusion cls needs the class token that backbone.drop_cls drops",
        ),
        (
            merge(SWIN, {"persp_info_embed": {"type": "dense", "pie_fusion": "cls"}}),
            "cls needs a class token, which swinv2",
        ),
        ({"backbone": {"infusion_layer": [2, 1]}}, "infusion_layer [2, 1] should be a rising list"),
        ({"backbone": {"kwargs": {"image_size": 64}}}, "kwargs.image_size cannot be given: model.img_size decides it"),
        ({"temporal_encoder": {"dim_head": 7}}, "temporal_encoder.dim_head: input should be a multiple of 2"),
        ({"backbone": {"freeze": True}}, "backbone.freeze: no such field"),
    ],
)
def test_an_impossible_configuration_names_its_fields(changes, message):
    with pytest.raises(InputError) as error:
        config(changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": {"infusion_layer": [1, 3]}}, "has hidden states 0 to 2"),
        (merge(SWIN, {"backbone": {"infusion_layer": [1, 3]}}), "must share the last grid; of swinv2 only 2 and 3 do"),
        (
            {"backbone": {"kwargs": {"hidden_size": "wide"}}},
            "backbone.kwargs do not make a dinov2: .*'hidden_size'.*'wide'",
        ),
        (
            {"backbone": {"kwargs": {"num_hiden_layers": 5}}},
            "num_hiden_layers: dinov2 .*did you mean num_hidden_layers",
        ),
    ],
)
def test_layers_and_sizes_that_the_encoder_does_not_have_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        build(changes)


def test_a_class_token_that_swin_does_not_have_cannot_be_dropped():
    with pytest.warns(UserWarning, match="swinv2 has no class token"):
        config(SWIN, {"backbone": {"drop_cls": True}})


NAMES = ("patch_bbox", "hand_bbox", "focal", "princpt", "timestamp_ms")


class Exported(torch.nn.Module):
    """What an ONNX file holds: all of stage 1, or the step from tokens in stage 2."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, first, *cameras):
        batch = dict(zip(NAMES, cameras, strict=True))
        if self.network.stage == 1:
            prediction = self.network(HandInput(first, **batch))
        else:
            empty = first.new_zeros(*first.shape[:2], 3, 0, 0)
            prediction = self.network.answer(first, HandInput(empty, **batch))
        return prediction.rotations, prediction.betas, prediction.translation.root


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, FUSED, VARIANTS["axis-angle, multibin rho"], MAE, SWIN, STAGE_2])
def test_an_onnx_file_answers_as_the_network_does_for_any_batch(changes, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = build(changes, {"temporal_encoder": {"zero_linear": False}}).eval()
    length = 7 if network.stage == 2 else 1

    def arguments(b):
        batch = frames(b, length, seed=b)
        first = batch.patches if network.stage == 1 else torch.randn(b, length, 32)
        return (first, *(getattr(batch, name) for name in NAMES))

    file = tmp_path / "network.onnx"
    dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in range(6))
    names = ["first", *NAMES]
    program = torch.onnx.export(
        Exported(network).eval(),
        arguments(2),
        dynamo=True,
        verbose=False,
        input_names=names,
        dynamic_shapes=(dynamic[0], dynamic[1:]),
    )
    program.save(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    wanted = {entry.name for entry in session.get_inputs()}
    for b in (2, 5):
        inputs = arguments(b)
        answers = session.run(
            None, {name: value.numpy() for name, value in zip(names, inputs, strict=True) if name in wanted}
        )
        for answer, expected in zip(answers, Exported(network)(*inputs), strict=True):
            torch.testing.assert_close(torch.from_numpy(answer), expected, rtol=1e-5, atol=1e-4)
