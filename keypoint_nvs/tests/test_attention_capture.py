"""Maps of tokens: against upstream's own numbers, against a plain computation, and what they leave alone."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from keypoint_nvs.losses.sharpening import sharpening
from keypoint_nvs.model import token_softmax
from keypoint_nvs.model.attention_capture import AttentionCapture
from keypoint_nvs.model.attention_layers import cross_attentions, default_layers
from keypoint_nvs.model.bicubic import bicubic_matrix, row_blocks
from keypoint_nvs.model.reference_attention import ReferenceUNet
from keypoint_nvs.model.token_choice import ChoiceRule, choose_tokens
from keypoint_nvs.model.token_scores import LayerScores, TokenScores
from posecore.errors import InputError

SIZE = 24


SETTINGS = {
    "sample_size": 16,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (16, 16, 32),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}


@pytest.fixture
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**SETTINGS)


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(1, 12, 24, generator=torch.Generator().manual_seed(1)).requires_grad_()


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def prompt() -> Tensor:
    return torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(3))


@dataclass(frozen=True)
class Upstream:
    """What the published code made of a tiny UNet."""

    arrays: dict[str, np.ndarray]
    unet: UNet2DConditionModel
    tokens: Tensor

    def scores(self, layers: list[str]) -> TokenScores:
        return AttentionCapture(self.unet, layers, SIZE)(torch.from_numpy(self.arrays["latents"]), 0, self.tokens)


@pytest.fixture
def upstream(reference) -> Upstream:
    arrays = reference("sk_attention")
    unet = UNet2DConditionModel(**json.loads(bytes(arrays["config_json"])))
    weights = {k.removeprefix("unet."): torch.from_numpy(v).float() for k, v in arrays.items() if k.startswith("unet.")}
    unet.load_state_dict(weights, strict=True)
    return Upstream(arrays, unet, torch.from_numpy(arrays["context"]).requires_grad_())


def test_maps_are_upstreams(upstream):
    maps = upstream.scores(default_layers(upstream.unet)).maps()
    np.testing.assert_allclose(maps[0], upstream.arrays["maps"], atol=3e-5)
    np.testing.assert_allclose(maps.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("layer", range(4))
def test_each_layers_maps_are_upstreams_in_its_order(upstream, layer):
    maps = upstream.scores([default_layers(upstream.unet)[layer]]).maps()
    np.testing.assert_allclose(maps[0], upstream.arrays["layer_maps"][layer], atol=3e-5)


def test_chosen_tokens_maps_are_those_of_all_tokens_and_so_is_upstreams_resized_one(upstream):
    indices = upstream.arrays["indices"]
    maps = upstream.scores(default_layers(upstream.unet)).maps(torch.from_numpy(indices))
    np.testing.assert_allclose(maps[0].detach(), upstream.arrays["maps"][indices], atol=3e-5)
    larger = torch.nn.functional.interpolate(maps, (32, 32), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(larger[0].detach(), upstream.arrays["maps_indices_up32"], atol=3e-5)


def test_the_gradient_of_the_tokens_is_upstreams_and_the_unet_gets_none(upstream):
    scores = upstream.scores(default_layers(upstream.unet))
    loss = 100 * sharpening(scores.maps(torch.from_numpy(upstream.arrays["selected"])), sigma=2.0)
    loss.backward()
    np.testing.assert_allclose(loss.item(), upstream.arrays["sharpening_x100"], rtol=1e-5)
    expected = upstream.arrays["context_grad"]
    np.testing.assert_allclose(upstream.tokens.grad, expected, atol=2e-4 * np.abs(expected).max())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in upstream.unet.parameters())


def test_tokens_chosen_on_the_captured_maps_are_upstreams(upstream):
    chosen = choose_tokens(
        upstream.scores(default_layers(upstream.unet)), 1, ChoiceRule(num_keypoints=4, candidates=10, sigma=2.0)
    )
    np.testing.assert_array_equal(chosen[0], upstream.arrays["selected"])


def test_with_train_unet_gradients_reach_what_runs_before_the_last_captured_layer_alone(unet, tokens, latents):
    scores = AttentionCapture(unet, default_layers(unet), SIZE)(latents, 0, tokens, train_unet=True)
    scores.maps(torch.tensor([0, 1])).square().sum().backward()
    assert unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k.weight.grad.abs().max() > 0
    last = unet.up_blocks[2].attentions[1].transformer_blocks[0]
    assert last.attn2.to_q.weight.grad.abs().max() > 0
    assert last.attn2.to_out[0].weight.grad is None
    assert unet.conv_out.weight.grad is None


def test_gradient_checkpointing_changes_neither_maps_nor_gradients(unet, tokens, latents):
    def gradients() -> tuple[Tensor, Tensor]:
        tokens.grad = None
        capture = AttentionCapture(unet, default_layers(unet)[:3], SIZE)
        maps = capture(latents, 0, tokens).maps(torch.tensor([3, 5]))
        maps.square().sum().backward()
        return maps.detach(), tokens.grad

    plain = gradients()
    unet.train().enable_gradient_checkpointing()
    functions = [m._gradient_checkpointing_func for m in unet.modules() if getattr(m, "gradient_checkpointing", False)]
    checkpointed = gradients()
    torch.testing.assert_close(checkpointed, plain, rtol=1e-5, atol=1e-9)
    assert functions == [m._gradient_checkpointing_func for m in unet.modules() if hasattr(m, "gradient_checkpointing")]


def test_after_a_pass_the_unet_answers_to_the_bit_as_before(unet, tokens, latents, prompt):
    before, processors = unet(latents, 7, prompt).sample, dict(unet.attn_processors)
    AttentionCapture(unet, default_layers(unet), SIZE)(latents, 0, tokens)
    assert torch.equal(unet(latents, 7, prompt).sample, before)
    assert unet.attn_processors == processors


def test_reference_attention_on_the_same_unet_changes_no_map_and_is_not_changed(unet, tokens, latents, prompt):
    capture = AttentionCapture(unet, default_layers(unet), SIZE)
    plain = capture(latents, 0, tokens).maps()
    views = ReferenceUNet(unet)
    answer = views(latents, torch.tensor(7), prompt, latents + 1)
    torch.testing.assert_close(capture(latents, 0, tokens).maps(), plain)
    assert torch.equal(views(latents, torch.tensor(7), prompt, latents + 1), answer)


def test_a_pass_that_fails_leaves_the_unet_as_it_was(unet, tokens):
    processors, trained = dict(unet.attn_processors), [p.requires_grad for p in unet.parameters()]
    with pytest.raises(ValueError, match="no square"):
        AttentionCapture(unet, default_layers(unet), SIZE)(torch.zeros(1, 4, 16, 8), 0, tokens)
    assert unet.attn_processors == processors
    assert [p.requires_grad for p in unet.parameters()] == trained


def test_pictures_of_a_batch_do_not_mix(unet, tokens, latents):
    capture = AttentionCapture(unet, default_layers(unet), SIZE)
    both = capture(torch.cat((latents, latents.flip(-1))), 0, tokens)
    torch.testing.assert_close(both.maps()[:1], capture(latents, 0, tokens).maps(), rtol=1e-4, atol=1e-6)
    parts = torch.cat(list(both.maps_in_parts(1)))
    torch.testing.assert_close(parts, both.maps(), rtol=1e-4, atol=1e-6)


def test_layers_that_are_not_there_or_have_a_query_bias_are_refused(unet):
    with pytest.raises(InputError, match=r"no cross-attention up_blocks\.0\.attentions\.0; it has down_blocks"):
        AttentionCapture(unet, ["up_blocks.0.attentions.0"], SIZE)
    with pytest.raises(InputError, match="name at least one"):
        AttentionCapture(unet, [], SIZE)
    attention = cross_attentions(unet)["up_blocks.1.attentions.0"]
    attention.to_q = torch.nn.Linear(attention.to_q.in_features, attention.to_q.out_features)
    with pytest.raises(InputError, match=r"up_blocks\.1\.attentions\.0 has a query bias"):
        AttentionCapture(unet, default_layers(unet), SIZE)


def test_layers_of_an_sd_unet_are_those_of_16_and_32_pixels():
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    chosen = [
        "up_blocks.1.attentions.0",
        "up_blocks.1.attentions.1",
        "up_blocks.1.attentions.2",
        "up_blocks.2.attentions.0",
    ]
    assert default_layers(unet) == chosen
    with pytest.raises(InputError, match="the up blocks have 3 cross-attentions"):
        default_layers(unet, latent_px=128)


@pytest.mark.parametrize(("size", "side"), [(24, 8), (32, 32), (20, 32), (7, 3)])
def test_the_matrix_of_a_resizing_is_torchs_bicubic(size, side):
    picture = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(picture, (size, size), mode="bicubic", align_corners=False)
    matrix = bicubic_matrix(size, side)
    torch.testing.assert_close(matrix @ picture @ matrix.T, expected, rtol=1e-4, atol=1e-5)
    rows = torch.cat(
        [block.weights @ picture[0, 0, block.native_start : block.native_stop] for block in row_blocks(matrix, 5)]
    )
    torch.testing.assert_close(rows, matrix @ picture[0, 0], rtol=1e-4, atol=1e-5)


def random_scores(generator: torch.Generator, pictures: int = 3) -> TokenScores:
    """Layers with different numbers of heads and sides."""
    shapes = [(2, 4, 5), (4, 8, 3)]
    layers = [
        LayerScores(
            torch.randn(pictures, h, s, s, d, generator=generator).requires_grad_(),
            torch.randn(h, 11, d, generator=generator).requires_grad_(),
        )
        for h, s, d in shapes
    ]
    return TokenScores(tuple(layers), 16)


def plain_maps(scores: TokenScores) -> Tensor:
    """By the book, everything stored."""
    maps = []
    for layer in scores.layers:
        native = layer.scores().flatten(0, 2)[:, None]
        large = torch.nn.functional.interpolate(native, (16, 16), mode="bicubic", align_corners=False)
        maps.append(large.view(*layer.query.shape[:2], 11, 16, 16).softmax(2).mean(1))
    return torch.stack(maps).mean(0)


@pytest.mark.parametrize("budget", [1, 2**12, 2**20])
def test_maps_and_gradients_are_those_of_the_plain_computation_however_it_is_cut(monkeypatch, budget):
    monkeypatch.setattr(token_softmax, "CPU_BLOCK", budget)
    scores = random_scores(torch.Generator().manual_seed(1))
    chosen = torch.tensor([[3, 7], [0, 10], [7, 3]])
    inputs = [part for layer in scores.layers for part in (layer.query, layer.key)]
    weights = torch.randn(3, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    maps, expected = scores.maps(chosen), plain_maps(scores)
    picked = expected[torch.arange(3)[:, None], chosen]
    torch.testing.assert_close(maps, picked, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scores.maps(), expected, rtol=1e-4, atol=1e-6)
    found = torch.autograd.grad((maps * weights).sum(), inputs)
    torch.testing.assert_close(found, torch.autograd.grad((picked * weights).sum(), inputs), rtol=1e-4, atol=1e-5)


def test_scores_of_hundreds_give_finite_maps_and_gradients():
    layer = LayerScores(torch.full((1, 1, 2, 2, 1), 400.0).requires_grad_(), torch.linspace(-1, 1, 11).view(1, 11, 1))
    maps = TokenScores((layer,), 4).maps(torch.tensor([0, 10]))
    (gradient,) = torch.autograd.grad(maps.sum(), layer.query)
    assert maps.isfinite().all()
    assert gradient.isfinite().all()
    torch.testing.assert_close(maps[0, 1], torch.ones(4, 4))


def test_under_autocast_scores_and_maps_stay_float32(unet, tokens, latents):
    plain = AttentionCapture(unet, default_layers(unet), SIZE)(latents, 0, tokens).maps()
    with torch.autocast("cpu", torch.bfloat16):
        scores = AttentionCapture(unet, default_layers(unet), SIZE)(latents, 0, tokens)
        maps = scores.maps(torch.arange(tokens.shape[1]))
    assert maps.dtype == scores.layers[0].query.dtype == scores.layers[0].key.dtype == torch.float32
    assert (maps.detach() - plain).abs().mean() < 0.02 * plain.mean()
    maps.square().sum().backward()
    assert tokens.grad.isfinite().all()
