"""Noise levels of diffusion, and the velocity that is predicted (Salimans, Ho 2022)."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

BetaSchedule = Literal["linear", "scaled_linear"]


def alphas_cumprod(
    kind: BetaSchedule, steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
) -> Float[Tensor, " steps"]:
    """Share of the signal's variance that is left at each timestep, float32.

    Zero123++: linear; Stable Diffusion: scaled_linear, the square of a linear ramp of square roots.
    """
    if kind == "linear":
        betas = torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)
    else:
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).to(torch.float32)


class NoiseSchedule(nn.Module):
    """Signal and noise at each timestep t; t is (b,), latents are (b c h w)."""

    alphas_cumprod: Tensor

    def __init__(self, alphas: Float[Tensor, " steps"]) -> None:
        super().__init__()
        self.register_buffer("alphas_cumprod", alphas.to(torch.float32), persistent=False)

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def add_noise(
        self, x0: Float[Tensor, "b c *hw"], noise: Float[Tensor, "b c *hw"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c *hw"]:
        signal, spread = self._parts(t, x0.ndim)
        return signal * x0 + spread * noise

    def velocity(
        self, x0: Float[Tensor, "b c *hw"], noise: Float[Tensor, "b c *hw"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c *hw"]:
        """What a v-prediction network learns."""
        signal, spread = self._parts(t, x0.ndim)
        return signal * noise - spread * x0

    def snr(self, t: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Variance of the signal relative to that of the noise."""
        alphas = self.alphas_cumprod[t]
        return alphas / (1 - alphas)

    def min_snr_weights(self, t: Int[Tensor, " b"], gamma: float) -> Float[Tensor, " b"]:
        """Weight of each squared error of v: min(SNR, gamma) / (SNR + 1) (Hang et al. 2023)."""
        snr = self.snr(t)
        return snr.clamp_max(gamma) / (snr + 1)

    def _parts(self, t: Tensor, ndim: int) -> tuple[Tensor, Tensor]:
        alphas = self.alphas_cumprod[t].reshape(-1, *[1] * (ndim - 1))
        return alphas.sqrt(), (1 - alphas).sqrt()
