"""The UNet that reads another picture: against the released pipeline's numbers, and beside other processors."""

import json

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from keypoint_nvs.model.reference_attention import ReferenceSelfAttention, ReferenceUNet, _Pass
from keypoint_nvs.model.sampling import ancestral_step, guided, network_input, sampling_steps
from keypoint_nvs.model.schedule import NoiseSchedule, alphas_cumprod
from keypoint_nvs.model.trainable import merge_lora, set_trainable
from keypoint_nvs.scaling import unscale_latents
from keypoint_nvs.tiles import untile_views

SCHEDULE = NoiseSchedule(alphas_cumprod("linear"))
GRADIENT_CHECKPOINTING = pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
SMALL = {
    "sample_size": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (8, 16, 16),
    "layers_per_block": 1,
    "cross_attention_dim": 12,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
    "use_linear_projection": True,
}


@pytest.fixture(scope="module")
def vectors(reference):
    return {name: torch.from_numpy(np.asarray(values)) for name, values in reference("z123_refunet").items()}


@pytest.fixture
def released(vectors):
    """The reference's UNet, with its weights."""
    unet = UNet2DConditionModel(**json.loads(vectors["config_json"].numpy().tobytes()))
    unet.load_state_dict({name[5:]: v.float() for name, v in vectors.items() if name.startswith("unet.")}, strict=True)
    return unet.eval()


def _small(checkpointing=False):
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**SMALL).eval()
    if checkpointing:
        unet.enable_gradient_checkpointing()
    return unet


def _inputs(rows=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    grid = torch.randn(rows, 4, 12, 8, generator=generator)
    condition = torch.randn(rows, 4, 8, 8, generator=generator)
    context = torch.randn(rows, 5, 12, generator=generator)
    return grid, torch.tensor([700, 30])[:rows], context, condition


def test_one_layer_writes_and_reads_as_the_reference(reference):
    vectors = {name: torch.from_numpy(np.asarray(values)) for name, values in reference("z123_processor").items()}
    attn = Attention(16, heads=int(vectors["heads"]), dim_head=16 // int(vectors["heads"]))
    attn.load_state_dict({name[5:]: value for name, value in vectors.items() if name.startswith("attn.")})
    attn.set_processor(ReferenceSelfAttention("layer"))
    bank = {}
    written = attn(vectors["reference"], reference=_Pass(bank, writes=True))
    torch.testing.assert_close(written, vectors["out_write"], rtol=0, atol=1e-6)
    for name in ("out_read", "out_read_keep"):  # reading twice gives the same: nothing is popped
        read = attn(vectors["hidden"], reference=_Pass(bank, writes=False))
        torch.testing.assert_close(read, vectors[name], rtol=0, atol=1e-6)


@GRADIENT_CHECKPOINTING
def test_training_output_and_gradients_are_the_references(released, vectors, checkpointing):
    if checkpointing:
        released.enable_gradient_checkpointing()
    condition, t = vectors["cond_latents"].clone().requires_grad_(), vectors["t_train"]
    noisy = SCHEDULE.add_noise(condition, vectors["noise_train"], t)
    result = ReferenceUNet(released)(vectors["sample"], t, vectors["encoder_hidden_states"], noisy)
    torch.testing.assert_close(result, vectors["out_train"], rtol=0, atol=1e-5)
    loss = (result - vectors["mse_target"]).square().mean()
    torch.testing.assert_close(loss, vectors["mse_loss"], rtol=1e-5, atol=0)
    loss.backward()
    query = released.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q.weight
    gradients = {"grad_cond": condition.grad, "grad_down0_attn1_to_q": query.grad}
    for name, gradient in gradients.items():
        assert (gradient - vectors[name]).abs().max() < 1e-5 * vectors[name].abs().max()
    norm = torch.stack([p.grad.norm() for p in released.parameters() if p.grad is not None]).norm()
    torch.testing.assert_close(norm, vectors["grad_global_norm"], rtol=1e-5, atol=0)


@torch.no_grad()
def test_sampling_output_is_the_references(released, vectors):
    plan = sampling_steps(SCHEDULE.alphas_cumprod, 28)
    step = plan.t.tolist().index(int(vectors["t_eval"]))
    sigma = plan.sigmas[step].item()
    noisy = network_input(vectors["cond_latents"] + sigma * vectors["noise_eval"], sigma)
    result = ReferenceUNet(released)(vectors["sample"], plan.t[step], vectors["encoder_hidden_states"], noisy)
    torch.testing.assert_close(result, vectors["out_eval"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_four_guided_steps_are_the_references(released, reference):
    vectors = {name: v for name, v in reference("z123_sampling").items() if v.dtype.kind == "f"}
    vectors = {name: torch.from_numpy(np.asarray(values)).float() for name, values in vectors.items()}
    unet, plan = ReferenceUNet(released), sampling_steps(SCHEDULE.alphas_cumprod, 4)
    sigmas = plan.sigmas.tolist()
    x = vectors["unet_inputs"][0, :1] * (sigmas[0] ** 2 + 1) ** 0.5
    for step in range(4):
        noisy = vectors["cond_latents_neg_pos"] + sigmas[step] * vectors["cond_noise"][step]
        sample = network_input(x, sigmas[step]).repeat(2, 1, 1, 1)
        torch.testing.assert_close(sample, vectors["unet_inputs"][step], rtol=0, atol=1e-4)
        context = vectors["encoder_hidden_states_neg_pos"]
        v = unet(sample, plan.t[step], context, network_input(noisy, sigmas[step]))
        torch.testing.assert_close(v, vectors["unet_outputs"][step], rtol=0, atol=1e-4)
        noise = vectors["ancestral_noise"][step]
        x = ancestral_step(x, guided(v, vectors["guidance_scale"].item()), sigmas[step], sigmas[step + 1], noise)
        torch.testing.assert_close(x, vectors["latents_after_step"][step], rtol=0, atol=1e-4)
    torch.testing.assert_close(unscale_latents(x), vectors["final_unscaled"], rtol=0, atol=1e-4)


def test_the_plain_unet_is_what_the_reference_calls_without_reference(released, vectors):
    ReferenceUNet(released)
    result = released(vectors["sample"], vectors["t_train"], vectors["encoder_hidden_states"]).sample
    torch.testing.assert_close(result, vectors["out_without_reference"], rtol=0, atol=1e-5)


@GRADIENT_CHECKPOINTING
def test_plain_calls_stay_bit_equal_also_after_calls_with_a_reference(checkpointing):
    unet = _small(checkpointing)
    grid, t, context, condition = _inputs()
    before = unet(grid, t, context).sample
    read = ReferenceUNet(unet)(grid, t, context, condition)
    assert not torch.equal(read, before)
    assert torch.equal(unet(grid, t, context).sample, before)


def test_checkpointing_changes_neither_output_nor_gradients():
    results = {}
    for checkpointing in (False, True):
        unet = _small(checkpointing)
        grid, t, context, condition = _inputs()
        context.requires_grad_()
        output = ReferenceUNet(unet)(grid, t, context, condition.requires_grad_())
        output.square().mean().backward()
        gradients = {name: p.grad for name, p in unet.named_parameters() if p.grad is not None}
        results[checkpointing] = {"output": output, "context": context.grad, "condition": condition.grad, **gradients}
    assert results[True].keys() == results[False].keys()
    for name, value in results[False].items():
        torch.testing.assert_close(results[True][name], value, rtol=1e-5, atol=1e-7, msg=name)


@GRADIENT_CHECKPOINTING
def test_two_calls_keep_their_own_references_until_backward(checkpointing):
    unet = _small(checkpointing)
    reference_unet = ReferenceUNet(unet)
    first, second = _inputs(seed=1), _inputs(seed=2)
    together = reference_unet(*first).square().mean() + reference_unet(*second).square().mean()
    together.backward()
    gradients = [p.grad.clone() for p in unet.parameters()]
    unet.zero_grad()
    for inputs in (first, second):
        reference_unet(*inputs).square().mean().backward()
    for gradient, parameter in zip(gradients, unet.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


def test_every_parameter_learns_and_the_condition_reaches_the_output():
    unet = _small()
    grid, t, context, condition = _inputs()
    condition.requires_grad_()
    ReferenceUNet(unet)(grid, t, context, condition).square().mean().backward()
    assert condition.grad.abs().min(0).values.max() > 0
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in unet.parameters())


@torch.no_grad()
def test_a_sample_reads_only_its_own_condition():
    reference_unet = ReferenceUNet(_small())
    grid, t, context, condition = _inputs()
    before = reference_unet(grid, t, context, condition)
    after = reference_unet(grid, t, context, torch.cat([condition[:1], condition[:1]]))
    torch.testing.assert_close(after[0], before[0])
    assert (after[1] - before[1]).abs().max() > 1e-4


class _Listening(AttnProcessor2_0):
    """A processor of another part of the program."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None, reference=None):
        self.heard.append(reference)
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


@torch.no_grad()
def test_processors_of_cross_attentions_stay_and_hear_nothing_of_the_reference():
    unet = _small()
    inputs = _inputs()
    expected = ReferenceUNet(_small())(*inputs)
    name = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.processor"
    listening = _Listening()
    unet.set_attn_processor({**unet.attn_processors, name: listening})
    assert torch.equal(ReferenceUNet(unet)(*inputs), expected)
    assert unet.attn_processors[name] is listening
    assert listening.heard == [None, None]


def test_low_rank_updates_take_part_and_can_be_merged():
    unet, inputs = _small(), _inputs()
    reference_unet = ReferenceUNet(unet)
    expected = reference_unet(*inputs)
    set_trainable(unet, "lora", lora_rank=2, lora_alpha=2.0, lora_targets=["to_q", "to_k", "to_v", "to_out.0"])
    torch.testing.assert_close(reference_unet(*inputs), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    updated = reference_unet(*inputs)
    assert (updated - expected).abs().max() > 1e-3
    updated.square().mean().backward()
    assert all(p.grad.abs().max() > 0 for p in unet.parameters() if p.requires_grad)
    merge_lora(unet)
    torch.testing.assert_close(reference_unet(*inputs), updated, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_second_reference_on_the_same_unet_changes_nothing():
    unet, inputs = _small(), _inputs()
    expected = ReferenceUNet(unet)(*inputs)
    assert torch.equal(ReferenceUNet(unet)(*inputs), expected)


@torch.no_grad()
def test_replaced_processors_are_told_instead_of_views_without_condition():
    unet = _small()
    reference_unet = ReferenceUNet(unet)
    unet.set_attn_processor(AttnProcessor2_0())
    with pytest.raises(RuntimeError, match=r"down_blocks\.0.*attn1.*its processor was replaced"):
        reference_unet(*_inputs())


@torch.no_grad()
def test_a_change_in_one_view_is_found_in_that_view_at_every_level_of_the_unet():
    unet = _small()
    seen = {}
    for name, module in unet.named_modules():
        if name.endswith("attn1"):
            module.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, args[0]))
    grid, t, context, _ = _inputs(rows=1)
    grid = torch.randn(1, 4, 48, 32, generator=torch.Generator().manual_seed(3))
    unet(grid, t, context)
    before = dict(seen)
    for view in range(6):
        row, col = divmod(view, 2)
        changed = grid.clone()
        changed[..., row * 16 + 4 : row * 16 + 12, col * 16 + 4 : col * 16 + 12] += 3.0
        unet(changed, t, context)
        sides = set()
        for name, tokens in seen.items():
            change = (tokens - before[name])[0].abs().mean(-1)
            side = round((len(change) / 6) ** 0.5)
            per_view = untile_views(change.reshape(1, 3 * side, 2 * side)).mean((1, 2, 3))
            assert per_view.argmax() == view, name
            sides.add(side)
        assert sides == {16, 8, 4}
