"""The diffusion model: real weights from a folder, or a tiny one from nothing."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from posecore.config import Config

RIGS = ("zero123plus-v1.1", "zero123plus-v1.2")


class RigConfig(Config):
    """Cameras of one's own around the object: views i = row * cols + col of one picture of rows x cols tiles."""

    azimuth_deg: list[float]
    """Relative to the input view, growing to the camera's right."""
    elevation_deg: list[float]
    """Absolute."""
    fov_deg: Annotated[float, Field(gt=0.0, lt=180.0)]
    radius: PositiveFloat
    """Distance of the cameras from the origin; the object lies within a sphere of radius 0.5."""
    rows: PositiveInt = 3
    cols: PositiveInt = 2

    @model_validator(mode="after")
    def _one_angle_a_tile(self) -> "RigConfig":
        tiles = self.rows * self.cols
        for name in ("azimuth_deg", "elevation_deg"):
            if len(getattr(self, name)) != tiles:
                raise ValueError(f"{name} has {len(getattr(self, name))} angles, rows x cols makes {tiles} views")
        return self


class LoraConfig(Config):
    """Low-rank updates of the attention projections instead of the weights themselves."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = 16.0
    """The update is scaled by alpha / rank."""
    targets: list[str] = ["to_q", "to_k", "to_v", "to_out.0"]
    """Ends of module names."""


class ModelConfig(Config):
    """Of novel views (and of keypoints where they share it)."""

    weights: Path | None = None
    """A folder in the layout of diffusers (Zero123++, Stable Diffusion) or its name on the hub (org/name), or a run of ours
    (what it has of this model's parts is taken); null: the architecture with random weights."""
    architecture: Literal["tiny", "sd15", "sd21", "zero123plus"] = "tiny"
    """Used where weights is null, or a run of ours."""
    rig: Literal["zero123plus-v1.1", "zero123plus-v1.2"] | RigConfig = "zero123plus-v1.2"
    """Cameras of the six views."""
    view_px: PositiveInt = 32
    """Side of each generated view: 320 for Zero123++, 32 for the tiny architecture."""
    vision_weights: Path | None = None
    """A folder with the image encoder (CLIPVisionModelWithProjection) or its name on the hub, where weights has none: to begin
    from Stable Diffusion 2."""
    unet_weights: Path | None = None
    """A state dict (.safetensors, or .bin/.ckpt of tensors) that replaces the UNet's, as InstantMesh's white-background one."""
    gradient_checkpointing: bool = False
    """Compute the UNet's inside again for the gradient instead of keeping it: half the speed, a third of the memory."""

    @model_validator(mode="after")
    def _views_fit_the_latents(self) -> "ModelConfig":
        if self.view_px % 8:
            raise ValueError(f"view_px {self.view_px} is not a multiple of 8, the side of a latent's pixel")
        return self
