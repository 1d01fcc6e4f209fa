"""Zero123++: from one picture of an object to the views of a rig, which one latent picture holds as tiles."""

from collections.abc import Callable
from math import prod
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModelWithProjection

from keypoint_nvs.model import sampling, streams
from keypoint_nvs.model.conditioning import PreparedCondition, prepare_condition, ramp_prompt
from keypoint_nvs.model.folders import LoadedFolder, read_folder
from keypoint_nvs.model.records import NvsOutput
from keypoint_nvs.model.reference_attention import ReferenceUNet
from keypoint_nvs.model.schedule import NoiseSchedule, alphas_cumprod
from keypoint_nvs.rig import Rig, zero123plus_rig
from keypoint_nvs.scaling import scale_latents, unscale_image, unscale_latents
from keypoint_nvs.tiles import tile_views, untile_views
from posecore.data.counter_random import normals, uniforms
from posecore.errors import InputError

Images = Float[Tensor, "b 3 h w"] | PreparedCondition
"""Pictures 0..1, or what was made of them."""
PIXELS_AT_ONCE = 4 * 960 * 640
"""Of the autoencoder: it keeps about a gigabyte for a grid of Zero123++."""
Progress = Callable[[int, int], None]
"""Gets the number of steps done, and of all."""


class Zero123Plus(nn.Module):
    """Networks and constants of one model. All its draws depend on each sample's seed alone.

    Gradients reach the UNet and the ramp; autoencoder and vision encoder are only used.
    """

    prompt_embeds: Tensor
    latent_shift: Tensor
    latent_scale: Tensor

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        vision: CLIPVisionModelWithProjection | None,
        prompt_embeds: Float[Tensor, "1 tokens d"],
        ramp: Float[Tensor, " ramp_length"],
        rig: Rig,
        *,
        view_px: int = 320,
        autoencoder_px: int = 512,
        vision_px: int = 224,
        latent_shift: float = 0.22,
        latent_scale: float = 0.75,
        alphas: Float[Tensor, " steps"] | None = None,
    ) -> None:
        """`prompt_embeds`: of the empty prompt. Sizes in pixels: of a view, and of the input view for autoencoder and
        vision encoder. `alphas`: other noise levels than the linear schedule's."""
        super().__init__()
        _check_widths(unet, vision, prompt_embeds, ramp)
        self.unet, self.vae, self.vision = unet, vae, vision
        self.ramp = nn.Parameter(ramp.clone().float())
        self.register_buffer("prompt_embeds", prompt_embeds.clone().float())
        channels = vae.config.latent_channels
        self.register_buffer("latent_shift", torch.full((channels, 1, 1), latent_shift))
        self.register_buffer("latent_scale", torch.full((channels, 1, 1), latent_scale))
        self.schedule = NoiseSchedule(alphas_cumprod("linear") if alphas is None else alphas)
        self.rig, self.view_px = rig, view_px
        self.autoencoder_px, self.vision_px = autoencoder_px, vision_px
        self._reference_unet = ReferenceUNet(unet)

    @classmethod
    def from_pretrained(cls, path: str | Path, rig: Rig | None = None, view_px: int | None = None) -> "Zero123Plus":
        """Load a folder in the layout of diffusers. Its files do not say the cameras: None is v1.2's.

        Args:
            view_px: None: 320, or what the folder says.

        Raises:
            InputError: The folder is damaged, incomplete, or of another kind of model.
        """
        return cls.of_folder(read_folder(path), rig or zero123plus_rig("v1.2"), view_px)

    @classmethod
    def of_folder(cls, folder: LoadedFolder, rig: Rig, view_px: int | None = None) -> "Zero123Plus":
        """From what was loaded, with its conditioning."""
        if folder.vision is None or folder.ramp is None or folder.prompt_embeds is None or folder.vision_px is None:
            raise InputError(f"{folder.folder}: holds a model of kind {folder.kind}; novel views need zero123plus")
        return cls(
            folder.unet,
            folder.vae,
            folder.vision,
            folder.prompt_embeds,
            folder.ramp,
            rig,
            view_px=view_px or folder.view_px,
            autoencoder_px=folder.cond_px,
            vision_px=folder.vision_px,
            latent_shift=folder.latent_shift,
            latent_scale=folder.latent_scale,
            alphas=folder.schedule.alphas_cumprod(),
        )

    # -- pictures and latents

    def encode_views(self, views: Float[Tensor, "b v 3 s s"], seeds: Int64[Tensor, " b"]) -> Float[Tensor, "b 4 hh ww"]:
        """Views 0..1 of any size -> scaled latents of their grid, drawn from the autoencoder's distribution."""
        resized = _resized_views(views, self.view_px)
        pixels = (tile_views(resized, self.rig.rows, self.rig.cols) - 0.5) / 0.8
        latents = self._draw(pixels, seeds, streams.TARGET_POSTERIOR) * self.vae.config.scaling_factor
        return scale_latents(latents, self.latent_shift, self.latent_scale)

    def decode_grid(self, latents: Float[Tensor, "b 4 hh ww"]) -> Float[Tensor, "b v 3 s s"]:
        """Scaled latents of a grid -> views 0..1, without gradient."""
        unscaled = unscale_latents(latents, self.latent_shift, self.latent_scale) / self.vae.config.scaling_factor
        at_once = self._pictures_at_once(self.view_px**2 * self.rig.num_views)
        with torch.no_grad():
            decoded = [self.vae.decode(part).sample.float() for part in torch.split(unscaled, at_once)]
        grid = unscale_image(torch.cat(decoded))
        return untile_views((grid * 0.5 + 0.5).clamp(0, 1), self.rig.rows, self.rig.cols)

    def set_latent_scaling(self, shift: Float[Tensor, "c 1 1"] | float, scale: Float[Tensor, "c 1 1"] | float) -> None:
        """Of a model whose latents were measured: scaled = (latent - shift) * scale."""
        for buffer, value in ((self.latent_shift, shift), (self.latent_scale, scale)):
            buffer.copy_(torch.as_tensor(value).expand_as(buffer))

    # -- conditions

    def prepare(self, cond_imgs: Images) -> PreparedCondition:
        """Pictures 0..1 as both encoders take them; what is prepared stays."""
        if isinstance(cond_imgs, PreparedCondition):
            return cond_imgs
        return prepare_condition(cond_imgs, self.autoencoder_px, self.vision_px)

    def encode_condition(
        self, cond_imgs: Images, seeds: Int64[Tensor, " b"], stream: int = streams.COND_POSTERIOR
    ) -> Float[Tensor, "b 4 hc wc"]:
        """Latents that the reference attention sees; other than the grid's, they are neither multiplied nor shifted."""
        return self._draw(self.prepare(cond_imgs).autoencoder, seeds, stream)

    def image_embeds(self, cond_imgs: Images) -> Float[Tensor, "b d"]:
        """What the vision encoder makes of the input views."""
        if self.vision is None:
            raise ValueError("this model has no vision encoder, so it cannot be told what an object looks like")
        with torch.no_grad():
            embeds: Tensor = self.vision(pixel_values=self.prepare(cond_imgs).vision).image_embeds
        return embeds.float()

    def context(self, image_embeds: Float[Tensor, "b d"]) -> Float[Tensor, "b tokens d"]:
        """The prompt of both passes."""
        return ramp_prompt(self.prompt_embeds, image_embeds, self.ramp)

    def negative(self, batch: int) -> Float[Tensor, "b tokens d"]:
        """The prompt of guidance's negative half: the empty one, without the ramp."""
        return self.prompt_embeds.expand(batch, -1, -1)

    # -- passes

    def training_pass(
        self,
        cond_imgs: Images,
        target_imgs: Float[Tensor, "b v 3 s s"],
        seeds: Int64[Tensor, " b"],
        drop_condition: float = 0.0,
    ) -> NvsOutput:
        """Noise the views' latents at a random timestep each, and predict the velocity.

        With probability `drop_condition` a sample gets the two negative conditions instead of its own.
        """
        prepared = self.prepare(cond_imgs)
        seeds = seeds.to(prepared.autoencoder.device)
        t = self._timesteps(seeds)
        condition, context = self._training_condition(prepared, seeds, drop_condition)
        noisy_condition = self.schedule.add_noise(condition, _noise_like(condition, seeds, streams.COND_NOISE), t)
        latents = self.encode_views(target_imgs, seeds)
        noise = _noise_like(latents, seeds, streams.GRID_NOISE)
        v_pred = self._reference_unet(self.schedule.add_noise(latents, noise, t), t, context, noisy_condition)
        return NvsOutput(v_pred.float(), self.schedule.velocity(latents, noise, t), t)

    @torch.no_grad()
    def sample(
        self,
        cond_imgs: Images,
        steps: int,
        guidance: float,
        seeds: Int64[Tensor, " b"],
        progress: Progress | None = None,
    ) -> Float[Tensor, "b v 3 s s"]:
        """Views 0..1 of the objects. `guidance` 1: none, at half the cost. A seed gives the same views in any batch."""
        if guidance < 1:
            raise ValueError(f"guidance {guidance}: must be 1 (none) or more")
        prepared = self.prepare(cond_imgs)
        seeds = seeds.to(prepared.autoencoder.device)
        condition, context = self._sampling_condition(prepared, seeds, guidance)
        plan = sampling.sampling_steps(self.schedule.alphas_cumprod, steps)
        sigmas = plan.sigmas.tolist()
        x = _noise(seeds, streams.sampled_grid_noise(-1), self._latent_shape()) * sigmas[0]
        for step, t in enumerate(plan.t.to(x.device)):
            v = self._sampling_velocity(x, sigmas[step], t, condition, context, seeds, step)
            if guidance != 1:
                v = sampling.guided(v, guidance)
            noise = _noise_like(x, seeds, streams.sampled_grid_noise(step))
            x = sampling.ancestral_step(x, v, sigmas[step], sigmas[step + 1], noise)
            if progress is not None:
                progress(step + 1, steps)
        return self.decode_grid(x)

    # -- parts

    def _timesteps(self, seeds: Tensor) -> Tensor:
        return (uniforms(seeds, streams.TIMESTEP, 1)[:, 0] * len(self.schedule)).long()

    def _training_condition(
        self, prepared: PreparedCondition, seeds: Tensor, drop_condition: float
    ) -> tuple[Tensor, Tensor]:
        dropped = uniforms(seeds, streams.DROP, 1)[:, 0] < drop_condition
        kept = PreparedCondition(_zero_where(dropped, prepared.autoencoder), prepared.vision)
        context = self.context(self.image_embeds(prepared))
        context = torch.where(dropped[:, None, None], self.negative(len(seeds)), context)
        return self.encode_condition(kept, seeds), context

    def _sampling_condition(self, prepared: PreparedCondition, seeds: Tensor, guidance: float) -> tuple[Tensor, Tensor]:
        """Latents and prompts; the negative half first, where there is one."""
        condition = self.encode_condition(prepared, seeds, streams.sampled_condition_noise(-1))
        context = self.context(self.image_embeds(prepared))
        if guidance == 1:
            return condition, context
        grey = torch.zeros_like(prepared.autoencoder[:1])
        negative = self._draw(grey, seeds, streams.sampled_negative_noise(-1))
        return torch.cat([negative, condition]), torch.cat([self.negative(len(seeds)), context])

    def _sampling_velocity(
        self, x: Tensor, sigma: float, t: Tensor, condition: Tensor, context: Tensor, seeds: Tensor, step: int
    ) -> Tensor:
        """Of both halves, where there are two; the condition gets new noise in each step."""
        halves = len(condition) // len(x)
        kinds = (streams.sampled_negative_noise, streams.sampled_condition_noise)[-halves:]
        noise = torch.cat([_noise(seeds, stream(step), condition.shape[1:]) for stream in kinds])
        noisy_condition = sampling.network_input(condition + sigma * noise, sigma)
        noisy = sampling.network_input(x, sigma).repeat(halves, 1, 1, 1)
        v: Tensor = self._reference_unet(noisy, t, context, noisy_condition).float()
        return v

    def _draw(self, pixels: Tensor, seeds: Tensor, stream: int) -> Tensor:
        """Latents from the autoencoder's distribution; one picture may be drawn for all seeds."""
        at_once = self._pictures_at_once(pixels.shape[-2] * pixels.shape[-1])
        with torch.no_grad():
            posteriors = [self.vae.encode(part).latent_dist for part in torch.split(pixels, at_once)]
        mean = torch.cat([posterior.mean.float() for posterior in posteriors])
        std = torch.cat([posterior.std.float() for posterior in posteriors])
        return mean + std * _noise(seeds.to(mean.device), stream, mean.shape[1:])

    @staticmethod
    def _pictures_at_once(pixels: int) -> int:
        return max(1, PIXELS_AT_ONCE // pixels)

    def _latent_shape(self) -> tuple[int, int, int]:
        side = self.view_px // 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self.vae.config.latent_channels, side * self.rig.rows, side * self.rig.cols


def _check_widths(
    unet: UNet2DConditionModel, vision: CLIPVisionModelWithProjection | None, prompt_embeds: Tensor, ramp: Tensor
) -> None:
    width = unet.config.cross_attention_dim
    if prompt_embeds.shape[-1] != width:
        raise ValueError(f"prompt_embeds have width {prompt_embeds.shape[-1]}, the UNet's prompt has {width}")
    if vision is not None and vision.config.projection_dim != width:
        raise ValueError(
            f"the vision encoder's embeddings have width {vision.config.projection_dim}, the UNet's prompt {width}"
        )
    if len(ramp) != prompt_embeds.shape[1]:
        raise ValueError(f"the ramp has {len(ramp)} numbers, the prompt {prompt_embeds.shape[1]} tokens")


def _resized_views(views: Tensor, size: int) -> Tensor:
    if views.shape[-2:] == (size, size):
        return views
    flat = F.interpolate(views.flatten(0, 1), (size, size), mode="bicubic", align_corners=False, antialias=True)
    return flat.clamp(0, 1).reshape(*views.shape[:3], size, size)


def _noise(seeds: Tensor, stream: int, shape: tuple[int, ...]) -> Tensor:
    return normals(seeds, stream, prod(shape)).reshape(len(seeds), *shape)


def _noise_like(x: Tensor, seeds: Tensor, stream: int) -> Tensor:
    return _noise(seeds, stream, x.shape[1:])


def _zero_where(chosen: Bool[Tensor, " b"], images: Tensor) -> Tensor:
    return torch.where(chosen[:, None, None, None], 0, images)
