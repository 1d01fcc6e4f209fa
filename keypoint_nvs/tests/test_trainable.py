"""Exactly the promised parameters are trained."""

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel

from keypoint_nvs.model.architectures import architecture, build_unet
from keypoint_nvs.model.trainable import has_lora, merge_lora, set_trainable
from posecore.errors import InputError


@pytest.fixture(scope="module")
def plain() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return build_unet(architecture("tiny")).eval()


@pytest.fixture
def unet(plain: UNet2DConditionModel) -> UNet2DConditionModel:
    return copy.deepcopy(plain)


def answer(unet: UNet2DConditionModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, 8, 8, generator=generator)
    context = torch.randn(2, 5, 64, generator=generator)
    return unet(sample, torch.tensor([3, 700]), context).sample


def moved_by_a_step(unet: UNet2DConditionModel) -> set[str]:
    before = {name: p.detach().clone() for name, p in unet.named_parameters()}
    optimizer = torch.optim.SGD([p for p in unet.parameters() if p.requires_grad], lr=0.1)
    answer(unet).square().mean().backward()
    optimizer.step()
    return {name for name, p in unet.named_parameters() if not torch.equal(p, before[name])}


def test_the_first_phase_moves_self_attention_and_keys_and_values_of_cross_attention_alone(unet):
    names = set(set_trainable(unet, "attention"))
    moved = moved_by_a_step(unet)
    assert moved == names
    # five blocks with attention: attn1 has to_q, to_k, to_v, to_out with bias (5 tensors), attn2 keys and values (2)
    blocks = sum(name.endswith("attn1") for name, _ in unet.named_modules())
    assert len(names) == 7 * blocks
    assert not any("attn2.to_q" in name or "attn2.to_out" in name or "norm" in name for name in names)


def test_all_moves_everything(unet):
    assert set(set_trainable(unet, "all")) == {name for name, _ in unet.named_parameters()}
    still = {name for name, _ in unet.named_parameters()} - moved_by_a_step(unet)
    assert not still


def test_low_rank_layers_begin_as_no_change_and_are_all_that_moves(unet):
    before = answer(unet).detach()
    names = set(set_trainable(unet, "lora", lora_rank=4, lora_alpha=8.0))
    assert names
    assert all("lora_" in name for name in names)
    torch.testing.assert_close(answer(unet).detach(), before, rtol=1e-5, atol=1e-6)
    moved = moved_by_a_step(unet)
    assert moved == {name for name in names if "lora_B" in name}  # B begins at zero, so A has no gradient in step 1
    assert moved_by_a_step(unet) == names


def test_merged_layers_answer_as_the_unmerged_ones_under_the_plain_names(unet, plain):
    set_trainable(unet, "lora", lora_rank=4, lora_alpha=8.0)
    for _ in range(2):
        moved_by_a_step(unet)
    unmerged = answer(unet).detach()
    assert not torch.allclose(unmerged, answer(plain), atol=1e-3)
    merge_lora(unet)
    assert not has_lora(unet)
    assert unet.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(answer(unet).detach(), unmerged, rtol=1e-4, atol=1e-5)


def test_a_merged_network_can_get_new_layers(unet):
    set_trainable(unet, "lora", lora_rank=2)
    merge_lora(unet)
    assert set_trainable(unet, "lora", lora_rank=4)


def test_a_target_that_is_no_module_is_told_by_name(unet):
    with pytest.raises(InputError, match=r"lora.targets: 'to_querry' is the end of no module's name in the UNet"):
        set_trainable(unet, "lora", lora_targets=["to_q", "to_querry"])


def test_a_target_without_weights_of_its_own_is_refused(unet):
    with pytest.raises(InputError, match="'attn1' is a Attention, must be a linear layer or convolution"):
        set_trainable(unet, "lora", lora_targets=["attn1"])
