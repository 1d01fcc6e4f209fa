"""What is trained: the autoencoder, novel views, keypoints; the last two together are the joint training."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from keypoint_nvs.config.model import LoraConfig
from posecore.config import Config

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class AutoencoderConfig(Config):
    """Training of the autoencoder, for models that begin from nothing."""

    kl_weight: NonNegativeFloat = 1e-6
    """Of the divergence of the latents' distribution from the standard normal one."""
    views: PositiveInt = 6
    """Target views of each sample that are encoded, drawn anew each time."""


class NvsConfig(Config):
    """Training of novel views."""

    train: Literal["all", "attention", "lora"] = "all"
    """all: the whole UNet (published phase 2); attention: self-attention and keys and values of cross-attention
    (phase 1); lora: low-rank updates. The ramp of the image prompt is trained in each."""
    lora: LoraConfig = LoraConfig()
    """Used by train lora."""
    drop_condition: Share = 0.1
    """Probability, per sample, that both conditions are replaced by the negative ones of guidance."""
    min_snr: PositiveFloat | None = None
    """Weigh each noise level by min(SNR, this) / (SNR + 1); null: all alike."""
    train_ramp: bool = True


class WarpConfig(Config):
    """Random similarity warps of equivariance and of ensembling."""

    angle_deg: Annotated[float, Field(ge=0.0, le=180.0)] = 15.0
    """Largest turn to either side."""
    scale: tuple[PositiveFloat, PositiveFloat] = (0.8, 1.0)
    """Of the sampling grid: below 1 the picture grows."""
    translate: NonNegativeFloat = 0.25
    """Largest shift in half widths of the picture."""


class MultiviewConfig(Config):
    """Keypoints of one token must be one point in space (spec: the points of all views are triangulated)."""

    start_step: NonNegativeInt = 0
    """The terms are not computed before; localisation must have sharpened the maps first."""
    ramp_steps: NonNegativeInt = 0
    """Steps over which they then grow to their weight."""
    heat_share: Share = 0.7
    """Part of the localisation that pulls towards the projected point, at the end of the ramp."""
    radius: PositiveFloat = 3.0
    """Window of the soft argmax around the peak, in pixels of a map of 32; scaled with the map."""
    min_confidence: Share = 0.1
    """Views whose peak is below this part of the token's best view do not count."""
    robust_width: PositiveFloat = 0.03
    """q of the robust weights and of Huber's function, in widths of a view."""
    rounds: NonNegativeInt = 4
    """Of robust reweighing."""
    min_views: Annotated[int, Field(ge=2)] = 3
    """Views that must keep half their weight, for a point to count."""
    min_angle: NonNegativeFloat = 0.02
    """Least eigenvalue of the rays' normal matrix per weight, for a point to count."""
    least_distance: NonNegativeFloat = 0.1
    """Points of two tokens closer than this (in the rig's unit) are pushed apart."""


class KeypointsConfig(Config):
    """Tokens whose attention marks keypoints."""

    backbone: Literal["shared", "frozen"] = "shared"
    """shared: the UNet of novel views; frozen: one of its own that is never trained (Stable Diffusion; what works with
    real weights)."""
    weights: Path | None = None
    """Backbone frozen: its folder in the layout of diffusers, or its name on the hub."""
    save_backbone: bool = True
    """Backbone frozen: its weights are in every checkpoint (4 GB for Stable Diffusion 1.5), so that a run needs nothing else.
    false: only their SHA-256; whoever loads the run needs the folder in its place, with the same weights."""
    train_unet: bool = False
    """Backbone shared: the keypoint terms also move the UNet."""
    num_tokens: PositiveInt = 500
    num_keypoints: PositiveInt = 10
    """Tokens that are chosen in each step, and kept in the end."""
    candidates: PositiveInt = 25
    """Tokens of which farthest points are chosen."""
    selection: Literal["kl", "entropy", "first"] = "kl"
    """How candidates are ranked."""
    fps_on: Literal["transformed", "original"] = "original"
    """Maps on which distances between candidates are measured; upstream: transformed."""
    subjects: PositiveInt = 1
    """Objects in one picture: peaks of each map."""
    layers: list[str] | None = None
    """Cross-attentions whose maps are averaged, as up_blocks.1.attentions.0; null: the first four of the up blocks whose map
    has at most 32 x 32 pixels."""
    map_px: PositiveInt = 128
    """Side of the maps, R."""
    sigma: PositiveFloat = 2.0
    """Of the Gaussians, in pixels of the map."""
    image_px: PositiveInt = 512
    """Side of the pictures that the UNet sees."""
    noise_t: Annotated[int, Field(ge=0, le=999)] = 0
    """Timestep of the noise that is added."""
    use_condition_view: bool = False
    """The input view is a picture for the tokens too."""
    warp: WarpConfig = WarpConfig()
    mask_outside: bool = True
    """Equivariance leaves out pixels that left the frame; upstream counts them as zeros."""
    multiview: MultiviewConfig | None = MultiviewConfig()
    """Needs multiview data; null: views are unrelated pictures."""
    vote_samples: PositiveInt = 100
    """Samples on which the kept tokens are voted."""

    @model_validator(mode="after")
    def _numbers_fit(self) -> "KeypointsConfig":
        if not self.num_keypoints <= self.candidates <= self.num_tokens:
            raise ValueError(
                f"num_keypoints {self.num_keypoints} <= candidates {self.candidates} <= num_tokens {self.num_tokens} must hold"
            )
        if (self.backbone == "frozen") != (self.weights is not None):
            raise ValueError("backbone frozen needs weights, backbone shared has none of its own")
        if self.subjects > 1 and self.multiview is not None:
            raise ValueError(
                f"subjects is {self.subjects}: multiview triangulates one point a token; set multiview to null"
            )
        if not self.save_backbone and self.backbone == "shared":
            raise ValueError(
                "save_backbone false: backbone shared belongs to novel views and is trained; choose frozen"
            )
        if self.train_unet and self.backbone == "frozen":
            raise ValueError("train_unet: backbone frozen is never trained; choose backbone shared")
        return self
