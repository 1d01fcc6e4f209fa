"""The network. Defaults are those of the preset `base`."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from posecore.config import Config

PATCH_IN_NAME = re.compile(r"patch(\d+)")
STEM_STRIDE = 8
"""Of the strided layers of a convolutional stem."""
SPHERE_FACES = 6


def _check_heads(part: str, dim: int, heads: int) -> None:
    if dim % heads or dim // heads % 4:
        raise ValueError(f"{part}.dim {dim} should be a multiple of 4 times {part}.heads {heads}, for RoPE2D")


def _fitting_split(head_dim: int) -> str:
    """What would be right, as the end of a message."""
    plane = head_dim // 2 - 2 * SPHERE_FACES
    if head_dim % 4 or plane < 2:
        return "; too few for ps 2: choose fewer heads or another position"
    return f"; px {plane // 2}, py {plane // 2}, ps 2 would fit"


class CrocoEncoderConfig(Config):
    """ViT of CroCo v2: RoPE2D, no class token. ViT-B: 768, 12, 12; ViT-L: 1024, 24, 16."""

    kind: Literal["croco"] = "croco"
    dim: PositiveInt = 768
    depth: PositiveInt = 12
    """Blocks."""
    heads: PositiveInt = 12
    stem: Literal["patch", "conv"] = "patch"
    """patch: one linear map a patch, as in the public weights; conv: strided convolutions, sooner trained from nothing."""
    weights: Path | None = None
    """Public checkpoint, such as CroCo_V2_ViTBase_BaseDecoder.pth (CC BY-NC-SA 4.0: not for commercial use); null: random."""

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        _check_heads("encoder", self.dim, self.heads)
        if self.weights is not None and self.stem != "patch":
            raise ValueError(f"encoder.weights {self.weights} needs encoder.stem patch, not {self.stem}")
        return self


class DinoEncoderConfig(Config):
    """DINOv2 through timm (Apache 2.0)."""

    kind: Literal["dino"] = "dino"
    name: str = "vit_base_patch14_dinov2.lvd142m"
    """timm's name of the architecture, with that of its published weights behind a dot."""
    weights: str | None = None
    """hub: the published weights, by timm; else a local .safetensors or .pth file of timm's or DINOv2's own layout;
    null: random."""


EncoderConfig = Annotated[CrocoEncoderConfig | DinoEncoderConfig, Field(discriminator="kind")]


class S2RopeConfig(Config):
    """Place in the template and the direction that it looks from. 2 (px + py + 6 ps) must be the width of a head."""

    kind: Literal["s2rope"] = "s2rope"
    px: PositiveInt = 10
    """Channel pairs for x."""
    py: PositiveInt = 10
    """Channel pairs for y."""
    ps: Annotated[int, Field(ge=2)] = 2
    """Channel pairs for each of six faces; with 1 there would be none for the angle from the face's axis."""
    azimuth: Literal["integer", "reference"] = "integer"
    """integer: continuous at +-pi; reference: as first implemented, with a jump there."""


class Rope2dConfig(Config):
    """Place in the template alone; for ablations."""

    kind: Literal["rope2d"] = "rope2d"


class RotationBlockConfig(Config):
    """Three channels at a time turn with the template's rotation; for ablations."""

    kind: Literal["rotation_block"] = "rotation_block"
    channels: PositiveInt | None = None
    """Of a head, a multiple of 3; null: half of the head, rounded down to one."""


PositionConfig = Annotated[S2RopeConfig | Rope2dConfig | RotationBlockConfig, Field(discriminator="kind")]


class JointDecoderConfig(Config):
    """Query and templates attend one another all at once, then each within windows."""

    kind: Literal["joint"] = "joint"
    dim: PositiveInt = 768
    depth: PositiveInt = 4
    """Blocks."""
    heads: PositiveInt = 12
    window: PositiveInt = 7
    """Patches along a side of the windows; must divide the grid."""
    position: PositionConfig = S2RopeConfig()
    """Of template tokens in the attention over the group; the query's are RoPE2D."""

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def rotated_channels(self) -> int:
        """Of position rotation_block."""
        assert isinstance(self.position, RotationBlockConfig)
        return self.position.channels or self.head_dim // 2 // 3 * 3

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        _check_heads("decoder", self.dim, self.heads)
        part, width = self.position, self.head_dim
        if isinstance(part, S2RopeConfig):
            needed = 2 * (part.px + part.py + SPHERE_FACES * part.ps)
            if needed != width:
                raise ValueError(
                    f"decoder.position px {part.px}, py {part.py}, ps {part.ps} make 2 (px + py + 6 ps) = {needed} "
                    f"channels, but a head has decoder.dim / decoder.heads = {width}{_fitting_split(width)}"
                )
        elif isinstance(part, RotationBlockConfig):
            channels = self.rotated_channels
            if channels % 3 or not 0 < channels <= width:
                raise ValueError(
                    f"decoder.position.channels {channels} should be a multiple of 3 and at most "
                    f"decoder.dim / decoder.heads = {width}"
                )
        return self


class CrocoCrossDecoderConfig(Config):
    """The query attends each template by itself, as CroCo's decoder does; public: 512, 8, 16 (small), 768, 12, 12."""

    kind: Literal["croco_cross"] = "croco_cross"
    dim: PositiveInt = 768
    depth: PositiveInt = 12
    """Blocks."""
    heads: PositiveInt = 12
    weights: Path | None = None
    """Public checkpoint of CroCo v2 (CC BY-NC-SA 4.0: not for commercial use); null: random."""

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        _check_heads("decoder", self.dim, self.heads)
        return self


DecoderConfig = Annotated[JointDecoderConfig | CrocoCrossDecoderConfig, Field(discriminator="kind")]


class HeadsConfig(Config):
    """What reads matches and flows from the decoder's tokens."""

    hidden: PositiveInt = 512
    """Width inside the projections that are compared."""
    proj: PositiveInt = 256
    """Width of what is compared."""
    flow_hidden: PositiveInt = 256
    """Width inside the flow head."""


class ModelConfig(Config):
    """The network. Defaults are those of the preset base."""

    img_size: PositiveInt = 224
    """Side of the crops, px; a multiple of patch_size."""
    patch_size: PositiveInt = 16
    """Side of a patch, px: 16 for CroCo's weights, 14 for DINOv2."""
    encoder: EncoderConfig = CrocoEncoderConfig()
    decoder: DecoderConfig = JointDecoderConfig()
    heads: HeadsConfig = HeadsConfig()

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.img_size // self.patch_size, self.img_size // self.patch_size

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        size, patch = self.img_size, self.patch_size
        if size % patch:
            raise ValueError(f"img_size {size} is no multiple of patch_size {patch}")
        if self.decoder.kind == "joint" and self.grid[0] % self.decoder.window:
            raise ValueError(
                f"decoder.window {self.decoder.window} does not divide the grid of img_size / patch_size = "
                f"{self.grid[0]} patches a side"
            )
        return self

    @model_validator(mode="after")
    def _encoder_fits(self) -> Self:
        encoder, patch = self.encoder, self.patch_size
        if isinstance(encoder, CrocoEncoderConfig):
            if encoder.stem == "conv" and patch % STEM_STRIDE:
                raise ValueError(f"patch_size {patch} should be a multiple of {STEM_STRIDE} with encoder.stem conv")
            return self
        named = PATCH_IN_NAME.search(encoder.name)
        if named is not None and int(named[1]) != patch:
            raise ValueError(f"patch_size {patch} should be {named[1]}, that of encoder.name {encoder.name}")
        return self
