"""Learnable tokens and the diffusion model whose attention shows where in a picture they are."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float, Int64
from torch import Tensor, nn

from keypoint_nvs.affine import random_theta, warp
from keypoint_nvs.model.attention_capture import AttentionCapture
from keypoint_nvs.model.attention_layers import default_layers
from keypoint_nvs.model.latent_scaling import LatentScaling
from keypoint_nvs.model.left_out import leave_out
from keypoint_nvs.model.records import KeypointOutput
from keypoint_nvs.model.streams import KEYPOINT_NOISE, WARP
from keypoint_nvs.model.token_choice import ChoiceRule, choose_tokens
from keypoint_nvs.model.token_scores import TokenScores
from posecore.data.counter_random import normals
from posecore.errors import InputError


@dataclass(frozen=True)
class WarpRange:
    """Random warps, as `affine.random_theta` draws them."""

    angle_deg: float = 15.0
    scale: tuple[float, float] = (0.8, 1.0)
    translate: float = 0.25
    """Half widths."""

    def draw(self, seeds: Int64[Tensor, " b"], copies: int) -> Float[Tensor, "b {copies} 2 3"]:
        """`copies` warps for each seed."""
        return random_theta(seeds, WARP, self.angle_deg, self.scale, self.translate, copies)


class KeypointModel(nn.Module):
    """Tokens (1, N, D), alone in the context of a UNet; their maps are softmaxes over the tokens at each pixel.

    Shared networks belong to another module, which moves, saves and trains them; others are parts of this one and
    never trained.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        scaling: LatentScaling | Callable[[], LatentScaling],
        alphas: Float[Tensor, " steps"],
        *,
        shared: bool,
        num_tokens: int = 500,
        layers: list[str] | None = None,
        map_px: int = 128,
        image_px: int = 512,
        noise_t: int = 0,
        choice: ChoiceRule | None = None,
        warps: WarpRange | None = None,
        train_unet: bool = False,
        save_networks: bool = True,
    ) -> None:
        """
        Args:
            scaling: How latents were normalised when the UNet was trained; a function where that can change (weights
                that are loaded later bring theirs).
            alphas: Cumulative products of the UNet's own schedule.
            shared: Whether the networks belong to another module.
            layers: Captured cross-attentions; None: the first four of the up blocks with at most 32 x 32 queries.
            map_px: Side of the maps.
            image_px: Side to which pictures are resized.
            noise_t: Timestep of the noise that the UNet is shown.
            choice, warps: Of `keypoint_pass`; None: the published ones.
            train_unet: Gradients go to the UNet as well as to the tokens.
            save_networks: False: `state_dict` has a digest of networks that are not shared instead of their weights.

        Raises:
            InputError: A layer does not exist or cannot be captured; the pictures do not fit the autoencoder.
        """
        super().__init__()
        factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
        if image_px % factor:
            raise InputError(f"keypoints.image_px: {image_px} is not a multiple of {factor}, a pixel of the latents")
        self._shared: tuple[UNet2DConditionModel, AutoencoderKL] | None = (unet, vae) if shared else None
        if not shared:
            if train_unet:
                raise InputError("keypoints.train_unet: networks that are not shared are never trained")
            self.own_unet, self.own_vae = unet.requires_grad_(False).eval(), vae.requires_grad_(False).eval()
            if not save_networks:
                leave_out(self, ("own_unet", "own_vae"), "keypoints.weights")
        self.tokens = nn.Parameter(torch.randn(1, num_tokens, unet.config["cross_attention_dim"]))
        self.capture = AttentionCapture(unet, layers or default_layers(unet, image_px // factor), map_px)
        self.choice, self.warps = choice or ChoiceRule(), warps or WarpRange()
        self.image_px, self.noise_t, self.train_unet = image_px, noise_t, train_unet
        self.latent_px = image_px // factor
        self._scaling = scaling
        self._signal, self._spread = float(alphas[noise_t].sqrt()), float((1 - alphas[noise_t]).sqrt())

    @property
    def unet(self) -> UNet2DConditionModel:
        """Whose attention is captured."""
        return self._shared[0] if self._shared is not None else self.own_unet

    @property
    def vae(self) -> AutoencoderKL:
        """Of the pictures."""
        return self._shared[1] if self._shared is not None else self.own_vae

    @property
    def scaling(self) -> LatentScaling:
        """Of the latents, now."""
        return self._scaling if isinstance(self._scaling, LatentScaling) else self._scaling()

    def train(self, mode: bool = True) -> "KeypointModel":
        """Networks of its own stay as they are for evaluation."""
        super().train(mode)
        if self._shared is None:
            self.own_unet.eval()
            self.own_vae.eval()
        return self

    def scores(
        self, images: Float[Tensor, "n 3 s s"], seeds: Int64[Tensor, " n"], stream: int = KEYPOINT_NOISE
    ) -> TokenScores:
        """Scores of all tokens in pictures 0..1; the noise of each follows from its seed."""
        return self._scores(self.resized(images), self._noise(seeds, stream, 1))

    def scores_of_copies(
        self, images: Float[Tensor, "n 3 s s"], seeds: Int64[Tensor, " b"], copies: int
    ) -> TokenScores:
        """As `scores`, of `copies` pictures for each seed that follow each other; the noise differs between them."""
        return self._scores(self.resized(images), self._noise(seeds, KEYPOINT_NOISE, copies))

    def keypoint_pass(
        self,
        views: Float[Tensor, "b v 3 s s"],
        seeds: Int64[Tensor, " b"],
        tokens: Int64[Tensor, " k"] | None = None,
    ) -> KeypointOutput:
        """Maps of chosen tokens in the v pictures (0..1) of each object, and in a warped copy of each, in one batch.

        Tokens are chosen for each object over all its pictures, without gradient; `tokens`: those, for all objects.
        """
        batch, num_views = views.shape[:2]
        theta = self.warps.draw(seeds, num_views)
        originals = self.resized(views.flatten(0, 1))
        images = torch.cat((originals, warp(originals, theta.flatten(0, 1))))
        noise = torch.unflatten(self._noise(seeds, KEYPOINT_NOISE, 2 * num_views), 0, (batch, 2, num_views))
        scores = self._scores(images, noise.transpose(0, 1).flatten(0, 2))
        of_originals, of_warped = scores.part(slice(len(originals))), scores.part(slice(len(originals), None))
        chosen = None if tokens is None else tokens.expand(batch, -1)
        if chosen is None:
            chosen = choose_tokens(of_originals, num_views, self.choice, of_warped)
        of_each = chosen.repeat_interleave(num_views, 0)
        maps, warped_maps = (
            torch.unflatten(part.maps(of_each), 0, (batch, num_views)) for part in (of_originals, of_warped)
        )
        return KeypointOutput(chosen, maps, warped_maps, theta)

    @torch.no_grad()
    def choose(self, views: Float[Tensor, "b v 3 s s"], seeds: Int64[Tensor, " b"]) -> Int64[Tensor, "b k"]:
        """Tokens of each object, by the maps of its pictures as they are; for voting."""
        num_views = views.shape[1]
        return choose_tokens(self.scores_of_copies(views.flatten(0, 1), seeds, num_views), num_views, self.choice)

    def resized(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 {self.image_px} {self.image_px}"]:
        """Pictures at the side that the UNet sees."""
        if images.shape[-2:] == (self.image_px, self.image_px):
            return images
        size = (self.image_px, self.image_px)
        return F.interpolate(images, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)

    def _noise(self, seeds: Tensor, stream: int, copies: int) -> Float[Tensor, "n 4 hh hh"]:
        shape = (copies, self.unet.config["in_channels"], self.latent_px, self.latent_px)
        drawn = normals(seeds, stream, copies * shape[1] * self.latent_px**2)
        return torch.unflatten(drawn, 1, shape).flatten(0, 1)

    def _scores(self, images: Tensor, noise: Tensor) -> TokenScores:
        latents = self.scaling.encode(self.vae, images)
        noisy = self._signal * latents + self._spread * noise
        return self.capture(noisy, self.noise_t, self.tokens, self.train_unet)
