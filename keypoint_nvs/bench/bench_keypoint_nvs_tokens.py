"""One step of token optimisation: ours beside the way of the published code, on the same UNet.

    PYTHONPATH=core/bench python keypoint_nvs/bench/bench_keypoint_nvs_tokens.py --json build/bench/bench_keypoint_nvs_tokens.json

A UNet of Stable Diffusion 1.5's shape at a quarter of its width, 500 tokens, maps of 128 px, 2 pictures of 256 px with a warped
copy each: maps, selection, localisation and equivariance, gradient of the tokens. The rival is written as upstream's code
works (StableKeypoints): one picture after the other, hidden states resized before the queries, attention of all tokens
kept for the gradient in four layers, explicit softmax attention in the up blocks, the UNet to its end, Python loops over
tokens. Both give the same tokens, loss and gradient (checked before timing).

Memory is the peak resident set of a fresh process that does one step, less what it held before the step.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from _measure import Result, Target, compare, json_argument, report
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from keypoint_nvs.affine import affine_theta, inverse_theta, warp
from keypoint_nvs.losses.equivariance import equivariance
from keypoint_nvs.losses.sharpening import sharpening
from keypoint_nvs.model.attention_capture import AttentionCapture
from keypoint_nvs.model.attention_layers import default_layers
from keypoint_nvs.model.token_choice import ChoiceRule, choose_tokens

PICTURES, TOKENS, MAP, LATENT = 2, 500, 128, 32
CANDIDATES, KEPT, SIGMA = 25, 10, 2.0
SHARPENING, EQUIVARIANCE = 100.0, 1000.0

Answer = tuple[float, Tensor, Tensor]
"""Loss, gradient of the tokens, chosen tokens of each picture."""


class Scene:
    """UNet, tokens and latents that both ways begin with."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.unet = UNet2DConditionModel(
            sample_size=LATENT,
            block_out_channels=(80, 160, 320, 320),
            layers_per_block=2,
            cross_attention_dim=768,
            attention_head_dim=8,
            norm_num_groups=16,
        ).requires_grad_(False)
        self.tokens = torch.randn(1, TOKENS, 768) * 4  # as sharp as trained ones, so that rounding decides no choice
        pictures = F.interpolate(torch.randn(PICTURES, 4, 8, 8), (LATENT, LATENT), mode="bicubic")
        self.theta = affine_theta(
            torch.linspace(-15, 15, PICTURES), torch.linspace(0.8, 1, PICTURES), torch.rand(PICTURES, 2) * 0.5 - 0.25
        )
        self.latents = pictures, warp(pictures, self.theta)


def ours(scene: Scene) -> Answer:
    capture = AttentionCapture(scene.unet, default_layers(scene.unet), MAP)
    tokens = scene.tokens.clone().requires_grad_()
    scores = capture(torch.cat(scene.latents), 0, tokens)
    originals, warped = scores.part(slice(PICTURES)), scores.part(slice(PICTURES, None))
    chosen = choose_tokens(originals, 1, ChoiceRule(KEPT, CANDIDATES, SIGMA, fps_on="transformed"), warped)
    maps, warped_maps = originals.maps(chosen), warped.maps(chosen)
    loss = SHARPENING * sharpening(maps, SIGMA)
    loss = loss + EQUIVARIANCE * equivariance(maps, warped_maps, scene.theta, mask_outside=False)
    loss.backward()
    return float(loss.detach()), tokens.grad, chosen


class ExplicitAttention:
    """Attention of the up blocks, upstream's way."""

    def __init__(self, kept: list[Tensor]) -> None:
        self.kept = kept

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
        temb: None = None,
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        queries, keys, values = (
            part.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for part in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        attention = torch.softmax(queries @ keys.transpose(-1, -2) * attn.scale, -1)
        if encoder_hidden_states is not None and len(self.kept) < 4:
            side = round(hidden_states.shape[1] ** 0.5)
            picture = hidden_states.transpose(1, 2).unflatten(2, (side, side))
            picture = F.interpolate(picture, (MAP, MAP), mode="bicubic", align_corners=False)
            queries = attn.to_q(picture.flatten(2).transpose(1, 2)).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            maps = torch.softmax(queries @ keys.transpose(-1, -2) * attn.scale, -1)
            self.kept.append(maps.mean(1)[0].T.unflatten(1, (MAP, MAP)))
        attended = (attention @ values).transpose(1, 2).flatten(2)
        return attn.to_out[0](attended)


def upstream(scene: Scene) -> Answer:
    tokens = scene.tokens.clone().requires_grad_()
    plain = scene.unet.attn_processors
    total, choices = 0.0, []
    for i in range(PICTURES):
        maps, warped_maps = (upstream_maps(scene.unet, latents[i : i + 1], tokens) for latents in scene.latents)
        chosen = upstream_choice(maps.detach(), warped_maps.detach())
        choices.append(chosen)
        loss = SHARPENING * sharpening(maps[chosen], SIGMA)
        back = warp(warped_maps[chosen][None], inverse_theta(scene.theta[i : i + 1]))
        loss = loss + EQUIVARIANCE * F.mse_loss(back, maps[chosen][None])
        (loss / PICTURES).backward()
        total += float(loss.detach()) / PICTURES
    scene.unet.set_attn_processor(dict(plain))
    return total, tokens.grad, torch.stack(choices)


def upstream_maps(unet: UNet2DConditionModel, latents: Tensor, tokens: Tensor) -> Tensor:
    kept: list[Tensor] = []
    processors = {
        name: ExplicitAttention(kept) if name.startswith("up_blocks") else processor
        for name, processor in unet.attn_processors.items()
    }
    unet.set_attn_processor(processors)
    unet(latents, 0, tokens)
    return torch.stack(kept).mean(0)


def upstream_choice(maps: Tensor, warped_maps: Tensor) -> Tensor:
    divergences = []
    steps = torch.arange(MAP)
    for one in maps:
        peak = int(one.argmax())
        gaussian = torch.exp(-((steps[:, None] - peak // MAP) ** 2 + (steps - peak % MAP) ** 2) / (2 * SIGMA**2)) + 1e-5
        gaussian = (gaussian / gaussian.sum()).flatten()
        divergences.append(F.kl_div(torch.log_softmax(one.flatten(), 0), gaussian, reduction="sum"))
    candidates = torch.stack(divergences).argsort()[:CANDIDATES]
    peaks = [divmod(int(warped_maps[token].argmax()), MAP) for token in candidates]
    points = torch.tensor(peaks, dtype=torch.float64)
    apart = torch.cdist(points, points)
    taken = list(divmod(int(apart.argmax()), CANDIDATES))
    while len(taken) < KEPT:
        nearest = [min(float(apart[i, j]) for j in taken) if i not in taken else -1.0 for i in range(CANDIDATES)]
        taken.append(nearest.index(max(nearest)))
    return candidates[taken]


WAYS: dict[str, Callable[[Scene], Answer]] = {"ours": ours, "upstream": upstream}


def check_same(scene: Scene) -> None:
    """Tokens are the same, loss and gradient within rounding."""
    (loss, gradient, chosen), (loss_2, gradient_2, chosen_2) = ours(scene), upstream(scene)
    assert torch.equal(chosen.sort().values, chosen_2.sort().values), (chosen, chosen_2)
    assert abs(loss - loss_2) < 1e-4 * loss_2, (loss, loss_2)
    difference = (gradient - gradient_2).norm() / gradient_2.norm()
    assert difference < 1e-3, difference
    print(f"same tokens; loss {loss:.6f} and {loss_2:.6f}; gradients differ by {difference:.1e} of their norm")


def measure_memory(way: str) -> None:
    """In a process of its own: prints the MiB that one step adds."""
    scene = Scene()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    WAYS[way](scene)
    print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def added_memory(way: str) -> float:
    command = [sys.executable, "-P", __file__]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "MEMORY_OF": way})
    mebibytes: float = json.loads(done.stdout.splitlines()[-1])
    return mebibytes


def main() -> None:
    path: Path | None = json_argument(__doc__)
    memory = {
        way: added_memory(way) for way in WAYS
    }  # first: a new process begins with the peak of the one that starts it
    scene = Scene()
    check_same(scene)
    ratio = memory["upstream"] / memory["ours"]
    print(
        f"peak memory of a step: ours {memory['ours']:.0f} MiB, upstream {memory['upstream']:.0f} MiB, {ratio:.1f}x less  "
        f"{'met' if ratio >= 2 else 'MISSED'}: >= 2x"
    )
    name = (
        f"token step, {PICTURES} pictures + copies, {LATENT} px latents, N {TOKENS}, R {MAP}, memory {ratio:.1f}x less"
    )
    results: list[Result] = [
        compare(name, lambda: ours(scene), {"upstream": lambda: upstream(scene)}, runs=5, target=Target(ratio=2))
    ]
    report(results, path)


if __name__ == "__main__":
    if "MEMORY_OF" in os.environ:
        measure_memory(os.environ["MEMORY_OF"])
    else:
        main()
