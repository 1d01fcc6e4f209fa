"""The autoencoder while it is trained: pictures through it, and the running size of its latents."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from keypoint_nvs.model.records import AutoencoderOutput
from keypoint_nvs.model.streams import AUTOENCODER_POSTERIOR
from keypoint_nvs.scaling import scale_image
from posecore.data.counter_random import normals


class AutoencoderTraining(nn.Module):
    """Learns on (p - 0.5) / 0.8, the range in which Zero123++ uses it."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae
        self.latents = RunningLatents()

    def forward(
        self, pictures: Float[Tensor, "b v 3 h w"], seeds: Int64[Tensor, " b"], step: int | None = None
    ) -> AutoencoderOutput:
        """Encode, draw from the posterior by the samples' seeds, decode.

        Args:
            step: Of the optimiser; then the size of the latents is noted. None: it stays (validation).
        """
        target = scale_image(2 * pictures.flatten(0, 1) - 1)
        posterior = self.vae.encode(target).latent_dist
        mean, logvar = posterior.mean, posterior.logvar
        noise = normals(seeds, AUTOENCODER_POSTERIOR, mean.numel() // len(seeds)).view_as(mean)
        latents = mean + torch.exp(0.5 * logvar) * noise
        if step is not None:
            self.latents.add(latents, step)
        return AutoencoderOutput(self.vae.decode(latents).sample, target, mean, logvar)


class RunningLatents(nn.Module):
    """Mean and mean square of each channel of the latents, by which the diffusion normalises them.

    Moves once an optimiser step, by all micro-batches and processes; nothing waits for the device.
    """

    moments: Float[Tensor, "2 c"]
    measured: Float[Tensor, ""]
    pending: Float[Tensor, "2 c"]
    pending_count: Float[Tensor, ""]
    last_step: Int64[Tensor, ""]

    def __init__(self, channels: int = 4, decay: float = 0.98) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("moments", torch.zeros(2, channels))
        self.register_buffer("measured", torch.tensor(0.0))
        self.register_buffer("pending", torch.zeros(2, channels))
        self.register_buffer("pending_count", torch.tensor(0.0))
        self.register_buffer("last_step", torch.tensor(-1))

    @torch.no_grad()
    def add(self, latents: Float[Tensor, "n c h w"], step: int) -> None:
        """Note a micro-batch of a step. All processes must call it equally often."""
        is_new = self.last_step != step
        moments, measured = self._moved()
        self.moments.copy_(torch.where(is_new, moments, self.moments))
        self.measured.copy_(torch.where(is_new, measured, self.measured))
        values = latents.float()
        sums = torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
        here = torch.cat([sums.flatten(), sums.new_tensor([float(values[:, 0].numel())])])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(here)
        self.pending.copy_(torch.where(is_new, 0, self.pending) + here[:-1].view_as(sums))
        self.pending_count.copy_(torch.where(is_new, 0, self.pending_count) + here[-1])
        self.last_step.fill_(step)

    def mean_and_deviation(self) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        """Of each channel.

        Raises:
            ValueError: No step was noted.
        """
        moments, measured = self._moved()
        if measured <= 0:
            raise ValueError("the latents were never measured: the autoencoder took no training step")
        mean, square = (moments / measured).unbind()
        return mean, (square - mean.square()).clamp_min(1e-12).sqrt()

    def _moved(self) -> tuple[Tensor, Tensor]:
        """With the newest step in it."""
        has_pending = self.pending_count > 0
        here = self.pending / self.pending_count.clamp_min(1)
        moments = torch.where(has_pending, torch.lerp(here, self.moments, self.decay), self.moments)
        measured = torch.lerp(torch.ones_like(self.measured), self.measured, self.decay)
        return moments, torch.where(has_pending, measured, self.measured)


@torch.no_grad()
def rescale_latents(vae: Any, mean: Float[Tensor, " c"], deviation: Float[Tensor, " c"]) -> None:
    """Change an autoencoder's latents to mean 0 and deviation 1 / scaling_factor in each channel; pictures stay the same.

    Those are the proportions of Stable Diffusion, which Zero123++ leans on: its condition is not multiplied by the
    scaling_factor, so that it outshines the noise at all but the highest levels. A tiny model whose condition was as
    faint as the grid's latents ignored it. The change is put into the 1 x 1 convolutions on both sides of the latents.
    """
    scale = 1 / (vae.config.scaling_factor * deviation)
    channels = len(mean)
    inward, outward = vae.quant_conv, vae.post_quant_conv
    inward.weight[:channels] *= scale[:, None, None, None]
    inward.bias[:channels] = (inward.bias[:channels] - mean) * scale
    inward.bias[channels:] += 2 * scale.log()
    outward.bias += outward.weight[:, :, 0, 0] @ mean
    outward.weight /= scale[None, :, None, None]
