"""The network's section of the configuration, with the seed's names."""

import warnings
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from handvit.config.backbones import KINDS, known_architecture
from posecore.config import Config

Probability = Annotated[float, Field(ge=0, lt=1)]
NumBins = Annotated[int, Field(ge=2)]
Triple: TypeAlias = tuple[float, float, float]
PositiveTriple: TypeAlias = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
JointType: TypeAlias = Literal["6d", "axis_angle", "quaternion"]
PoseMean: TypeAlias = Literal["absolute", "relative"]


class BackboneConfig(Config):
    """The image encoder."""

    backbone_str: str = "facebook/dinov2-large"
    """A folder (config.json and model.safetensors), a hub name (owner/name), or a kind (dinov2, vit_mae, swinv2), whose
    sizes `kwargs` gives and which starts from random weights. The hub is asked only for a hub name."""
    infusion_layer: tuple[NonNegativeInt, ...] | None = None
    """Hidden states that are fused into the tokens (0: embeddings, 1: after the first block, ...), for example
    [4, 11, 17, 23]; null: the last, normalised one alone. Blocks above the largest are not built."""
    drop_cls: bool = False
    """The decoder sees patch tokens only. SwinV2 has no class token in any case."""
    gradient_checkpointing: bool = False
    """Blocks are computed again for their gradients: less memory, a third more time."""
    kwargs: dict[str, Any] = {}
    """Fields of transformers' configuration of this encoder that differ, for example {"drop_path_rate": 0.1}."""

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        layers = self.infusion_layer
        if layers is not None and (not layers or list(layers) != sorted(set(layers))):
            raise ValueError(f"infusion_layer {list(layers)} should be a rising list of layers, or null for no fusion")
        for name, instead in (("image_size", "model.img_size"), ("model_type", "backbone_str")):
            if name in self.kwargs:
                raise ValueError(f"kwargs.{name} cannot be given: {instead} decides it")
        if self.backbone_str in KINDS and not self.kwargs:
            raise ValueError(
                f"backbone_str {self.backbone_str} is a kind without sizes: give them in kwargs, "
                "or name a folder or a hub model"
            )
        return self


class PerspInfoEmbedConfig(Config):
    """How the viewing rays of the patch enter the tokens."""

    type: Literal["ca", "dense"] = "ca"
    """ca: tokens attend the rays; dense: one vector of all rays is added to tokens."""
    num_sample: PositiveInt = 8
    """Rays per side of the patch."""
    pie_fusion: Literal["cls", "patch", "all"] = "all"
    """dense only: the tokens that the vector is added to."""
    num_head: PositiveInt = 8
    """ca only."""
    dim_head: PositiveInt = 64
    """ca only: width of a head."""


class SoftArgmax3dConfig(Config):
    """x, y and z as expectations of three heat maps."""

    kind: Literal["softargmax3d"] = "softargmax3d"
    num_bins: tuple[NumBins, NumBins, NumBins] = (512, 512, 1024)
    """Of x, y, z."""
    mean: Triple | None = None
    """Middle of the bins, mm, or hand sizes with norm_by_hand; null: the published training data's."""
    std: PositiveTriple | None = None
    """The bins reach five of these to both sides; null: the published training data's."""
    parity: bool = False
    """Bins of z start below zero, as the published checkpoints have them, instead of in front of the camera."""


class RootZMultibinConfig(Config):
    """x, y as expectations of heat maps; z = prior of the box size, times a bin and its residual."""

    kind: Literal["xy_rootz_multibin"] = "xy_rootz_multibin"
    num_bins: tuple[NumBins, NumBins] = (512, 512)
    """Of x, y."""
    num_depth_bins: NumBins = 8
    mean: Triple | None = None
    """Middle of the bins (x, y, z unused), mm; null: the published training data's."""
    std: PositiveTriple | None = None
    """The bins reach five of these to both sides; null: the published training data's."""


class PatchRhoMultibinConfig(Config):
    """Place in the patch as a 2D heat map; distance = prior of the box size, times a bin and its residual."""

    kind: Literal["patch_uv_rho_multibin"] = "patch_uv_rho_multibin"
    num_cells: NumBins | None = None
    """Cells per side of the patch; null: max(8, img_size / 4)."""
    num_depth_bins: NumBins = 8


class LogDepthConfig(Config):
    """Place in the patch as a 2D heat map; log(distance / prior) regressed plainly."""

    kind: Literal["log_depth"] = "log_depth"
    num_cells: NumBins | None = None
    """Cells per side of the patch; null: max(8, img_size / 4)."""


TranslationHeadConfig = Annotated[
    SoftArgmax3dConfig | RootZMultibinConfig | PatchRhoMultibinConfig | LogDepthConfig, Field(discriminator="kind")
]


class HandDecoderConfig(Config):
    """The learned query that attends the tokens."""

    num_layer: PositiveInt = 4
    num_head: PositiveInt = 16
    dim_head: PositiveInt = 64
    """Width of a head."""
    mlp_dim: PositiveInt = 4096
    """Width inside the feed-forward blocks."""
    dropout: Probability = 0.1
    """Of attention, projections and feed-forward blocks."""
    translation: TranslationHeadConfig = SoftArgmax3dConfig()
    """How the root's position is read from the query."""


class TemporalEncoderConfig(Config):
    """What stage 2 trains."""

    kind: Literal["last", "causal"] = "last"
    """last: the last frame's token attends all; causal: every frame attends itself and those before it."""
    num_layer: PositiveInt = 2
    num_head: PositiveInt = 8
    dim_head: Annotated[int, Field(ge=2, multiple_of=2)] = 64
    """Width of a head."""
    trope_scalar: PositiveFloat = 20.0
    """Milliseconds for one unit of the rotary time encoding."""
    zero_linear: bool = True
    """The last projection starts at zero, so that stage 2 starts exactly as stage 1 ended; false: random."""
    dropout: Probability = 0.0


class ModelConfig(Config):
    """The network. Defaults are those of the preset dinov2-large."""

    stage: Literal[1, 2] = 1
    """1: single frames, trains all; 2: clips, trains the temporal encoder alone."""
    num_frame: PositiveInt = 1
    """Frames of a clip: 1 in stage 1, 7 as a rule in stage 2."""
    img_size: PositiveInt = 224
    """Side of the patch, px; a multiple of the encoder's patch size (SwinV2: of 32)."""
    joint_type: JointType = "6d"
    """How rotations are predicted; 6d: the first two columns of the matrix, one after the other."""
    pose_mean: PoseMean = "absolute"
    """relative: predictions are offsets from the hand model's mean pose, as in upstream's checkpoints."""
    norm_by_hand: bool = True
    """The root's position is predicted in hand sizes (length of the middle finger's chain) instead of mm."""
    backbone: BackboneConfig = BackboneConfig()
    persp_info_embed: PerspInfoEmbedConfig = PerspInfoEmbedConfig()
    handec: HandDecoderConfig = HandDecoderConfig()
    temporal_encoder: TemporalEncoderConfig = TemporalEncoderConfig()
    """Built in stage 2 only."""

    @model_validator(mode="after")
    def _stage_and_frames(self) -> Self:
        if self.stage == 1 and self.num_frame != 1:
            raise ValueError(f"stage 1 sees single frames: num_frame should be 1, not {self.num_frame}, or stage be 2")
        if self.stage == 2 and self.num_frame < 2:
            raise ValueError("stage 2 needs clips: num_frame should be 2 or more (7 as a rule), not 1")
        if self.norm_by_hand and self.handec.translation.kind != "softargmax3d":
            raise ValueError(
                f"norm_by_hand true goes with handec.translation.kind softargmax3d only, not with "
                f"{self.handec.translation.kind}, which predicts mm"
            )
        return self

    @model_validator(mode="after")
    def _tokens_fit(self) -> Self:
        dense_cls = self.persp_info_embed.type == "dense" and self.persp_info_embed.pie_fusion == "cls"
        if dense_cls and self.backbone.drop_cls:
            raise ValueError("persp_info_embed.pie_fusion cls needs the class token that backbone.drop_cls drops")
        architecture = known_architecture(self.backbone.backbone_str, self.backbone.kwargs)
        if architecture is None:
            return self  # a folder or another hub model: model.build checks it when its config.json is read
        if architecture["model_type"] == "swinv2":
            if dense_cls:
                raise ValueError("persp_info_embed.pie_fusion cls needs a class token, which swinv2 does not have")
            if self.backbone.drop_cls:
                warnings.warn("backbone.drop_cls has no effect: swinv2 has no class token", stacklevel=2)
        step = token_stride(architecture)
        if step is not None and self.img_size % step:
            raise ValueError(
                f"img_size {self.img_size} is no multiple of {step}, the size of a token of backbone.backbone_str "
                f"{self.backbone.backbone_str}"
            )
        return self


def token_stride(architecture: dict[str, Any]) -> int | None:
    """Pixels per side of a token; None where the sizes do not say it."""
    patch = architecture.get("patch_size")
    if not isinstance(patch, int):
        return None
    if architecture["model_type"] != "swinv2":
        return patch
    depths = architecture.get("depths")
    return patch * 2 ** (len(depths) - 1) if isinstance(depths, list | tuple) else None
