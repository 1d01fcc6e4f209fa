"""Euler's method with ancestral noise (Karras et al. 2022; k-diffusion), for a network that predicts v.

Latents are kept as x0 + sigma noise; the network sees them divided by sqrt(sigma^2 + 1).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class SamplingSteps:
    """Which timesteps are visited, from noise to data."""

    t: Int64[Tensor, " steps"]
    sigmas: Float[Tensor, " steps1"]
    """Noise levels of the timesteps, then 0."""

    def __len__(self) -> int:
        return len(self.t)


def sampling_steps(alphas_cumprod: Float[Tensor, " all"], steps: int) -> SamplingSteps:
    """Equally spaced from the last timestep down ("trailing"): the first step begins at pure noise."""
    total = len(alphas_cumprod)
    if not 1 <= steps <= total:
        raise ValueError(f"{steps} sampling steps: 1 to {total} are possible")
    spaced = total - torch.arange(steps, dtype=torch.float64) * (total / steps)
    t = spaced.round().long() - 1
    alphas = alphas_cumprod.double().cpu()[t]
    sigmas = torch.cat([((1 - alphas) / alphas).sqrt(), torch.zeros(1, dtype=torch.float64)])
    return SamplingSteps(t, sigmas)


def network_input(x: Float[Tensor, "*shape"], sigma: float) -> Float[Tensor, "*shape"]:
    """Latents x0 + sigma noise at the variance that the network was trained with."""
    return x / math.hypot(sigma, 1)


def guided(v: Float[Tensor, "b2 c *hw"], guidance: float) -> Float[Tensor, "b c *hw"]:
    """Away from the negative answer, which is the first half of the rows."""
    negative, positive = v.chunk(2)
    return negative + guidance * (positive - negative)


def ancestral_step(
    x: Float[Tensor, "b c *hw"],
    v: Float[Tensor, "b c *hw"],
    sigma: float,
    next_sigma: float,
    noise: Float[Tensor, "b c *hw"],
) -> Float[Tensor, "b c *hw"]:
    """From noise level `sigma` to `next_sigma`: down further by Euler, then up again by fresh noise."""
    x0 = x / (sigma**2 + 1) - v * (sigma / math.hypot(sigma, 1))
    up = next_sigma * math.sqrt(1 - (next_sigma / sigma) ** 2)
    down = next_sigma**2 / sigma
    return x + (x - x0) * ((down - sigma) / sigma) + noise * up
