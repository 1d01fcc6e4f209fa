"""Pictures as the latents that a UNet was trained on: Stable Diffusion and Zero123++ differ."""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from keypoint_nvs.model.zero123plus import Zero123Plus
from keypoint_nvs.scaling import IMAGE_SCALE, Number, scale_latents

PICTURES_AT_ONCE = 8
"""Of the autoencoder: it keeps hundreds of megabytes for each picture of 512 px."""


@dataclass(frozen=True)
class LatentScaling:
    """latents = (mean of the autoencoder's posterior of (2 p - 1) * image_scale, times factor, - shift) * scale."""

    factor: float
    """The autoencoder's scaling_factor, 0.18215."""
    image_scale: float = 1.0
    """1 for Stable Diffusion (pictures in -1..1), 0.625 for Zero123++."""
    shift: Number = 0.0
    scale: Number = 1.0
    """0.22 and 0.75 for Zero123++; numbers, or (4, 1, 1) for each channel."""

    @classmethod
    def zero123plus(cls, factor: float, shift: Number = 0.22, scale: Number = 0.75) -> "LatentScaling":
        """That of the six target views."""
        return cls(factor, IMAGE_SCALE, shift, scale)

    @torch.no_grad()
    def encode(self, vae: AutoencoderKL, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 4 hh hh"]:
        """Latents of pictures 0..1, float32; the autoencoder gets no gradient."""
        parts = [
            vae.encode((part * 2 - 1) * self.image_scale).latent_dist.mean.float()
            for part in torch.split(images, PICTURES_AT_ONCE)
        ]
        return scale_latents(torch.cat(parts) * self.factor, self.shift, self.scale)


def scaling_of_views(model: Zero123Plus) -> LatentScaling:
    """How a model scales its target views, now: a tiny one's numbers are measured, and come with its weights."""
    return LatentScaling.zero123plus(model.vae.config["scaling_factor"], model.latent_shift, model.latent_scale)
