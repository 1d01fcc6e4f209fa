"""The network of a configuration."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from handvit.config.model import (
    LogDepthConfig,
    ModelConfig,
    PatchRhoMultibinConfig,
    RootZMultibinConfig,
    SoftArgmax3dConfig,
)
from handvit.model.architecture import layout_of, read_architecture
from handvit.model.backbone import Backbone, TrunkLayout
from handvit.model.decoder import HandDecoder
from handvit.model.network import HandNetwork
from handvit.model.perspective import PerspCrossAttention, PerspDense, PerspInfoEmbedder
from handvit.model.pretrained import create_trunk
from handvit.model.temporal import CausalEncoder, LastFrameEncoder
from handvit.model.translation_heads import (
    HAND_SIZE_MM,
    NEAREST_Z_MM,
    ROOT_MEAN_HANDS,
    ROOT_MEAN_MM,
    ROOT_STD_HANDS,
    ROOT_STD_MM,
    LogDepth,
    PatchRhoMultibin,
    RootZMultibin,
    SoftArgmax3d,
    TranslationHead,
)
from posecore.errors import InputError


def build_network(
    config: ModelConfig, *, mean_rotations: Float[Tensor, "15 3 3"] | None = None, load_weights: bool = True
) -> HandNetwork:
    """The network, with the encoder's published weights where the configuration names a folder or a hub model.

    Args:
        mean_rotations: Mean pose of the hand model (`HandModel.mean_rotations()`), where the first prediction lies;
            None: a flat hand.
        load_weights: False where a checkpoint's weights come next; the encoder's files are then not touched.

    Raises:
        InputError: A missing or unfit folder, hub model or field.
    """
    architecture = read_architecture(config.backbone)
    layout = layout_of(architecture, config.backbone.backbone_str, config.img_size)
    _check_layers(config, layout)
    trunk = create_trunk(config.backbone, architecture, config.img_size, load_weights)
    if config.backbone.gradient_checkpointing:
        trunk.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    backbone = Backbone(trunk, layout, config.img_size, config.backbone.infusion_layer, config.backbone.drop_cls)
    network = HandNetwork(
        backbone,
        _embedder(config, backbone),
        _decoder(config, layout.width, mean_rotations),
        config.img_size,
        _temporal(config, layout.width),
    )
    if config.stage == 2:
        network.freeze_spatial()
    return network


def load_stage1(network: HandNetwork, state: Mapping[str, Tensor]) -> None:
    """Start stage 2 from the weights of a stage-1 network.

    Raises:
        InputError: Anything but the temporal encoder's own parameters is missing, left over, or of another shape.
    """
    own = network.state_dict()
    lacking = [key for key in own if key not in state and not key.startswith("temporal_encoder.")]
    left = [key for key in state if key not in own or key.startswith("temporal_encoder.")]
    misfits = [key for key in own if key in state and own[key].shape != state[key].shape]
    problems = [
        f"the stage-1 weights {what} {', '.join(keys[:4])}" + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
        for what, keys in (("lack", lacking), ("hold unknown", left), ("have another shape of", misfits))
        if keys
    ]
    if problems:
        raise InputError(problems)
    network.load_state_dict(dict(state), strict=False)


def _check_layers(config: ModelConfig, layout: TrunkLayout) -> None:
    layers, name = config.backbone.infusion_layer, config.backbone.backbone_str
    if layers is not None and layers[-1] > layout.num_layers:
        raise InputError(f"backbone.infusion_layer {layers[-1]}: {name} has hidden states 0 to {layout.num_layers}")
    if layers is not None and layout.kind == "swinv2" and layers[0] < layout.num_layers - 1:
        raise InputError(
            f"backbone.infusion_layer {list(layers)}: layers of swinv2 must share the last grid; "
            f"of {name} only {layout.num_layers - 1} and {layout.num_layers} do"
        )


def _embedder(config: ModelConfig, backbone: Backbone) -> PerspInfoEmbedder:
    part = config.persp_info_embed
    if part.type == "ca":
        return PerspCrossAttention(backbone.width, backbone.num_tokens, part.num_sample, part.num_head, part.dim_head)
    if part.pie_fusion == "cls" and not backbone.has_cls:
        raise InputError(
            f"persp_info_embed.pie_fusion cls needs a class token, and {config.backbone.backbone_str} gives none"
        )
    return PerspDense(backbone.width, backbone.has_cls, part.num_sample, part.pie_fusion)


def _decoder(config: ModelConfig, dim: int, mean_rotations: Tensor | None) -> HandDecoder:
    part = config.handec
    return HandDecoder(
        dim,
        dim,
        _translation_head(config, dim),
        part.num_layer,
        part.num_head,
        part.dim_head,
        part.mlp_dim,
        part.dropout,
        config.joint_type,
        config.pose_mean,
        mean_rotations,
    )


def _translation_head(config: ModelConfig, dim: int) -> TranslationHead:
    head = config.handec.translation
    if isinstance(head, SoftArgmax3dConfig):
        mean = head.mean or (ROOT_MEAN_HANDS if config.norm_by_hand else ROOT_MEAN_MM)
        std = head.std or (ROOT_STD_HANDS if config.norm_by_hand else ROOT_STD_MM)
        nearest = NEAREST_Z_MM / HAND_SIZE_MM if config.norm_by_hand else NEAREST_Z_MM
        return SoftArgmax3d(dim, head.num_bins, mean, std, None if head.parity else nearest)
    if isinstance(head, RootZMultibinConfig):
        mean, std = head.mean or ROOT_MEAN_MM, head.std or ROOT_STD_MM
        return RootZMultibin(dim, head.num_bins, mean, std, head.num_depth_bins)
    num_cells = head.num_cells or max(8, config.img_size // 4)
    if isinstance(head, PatchRhoMultibinConfig):
        return PatchRhoMultibin(dim, num_cells, head.num_depth_bins)
    assert isinstance(head, LogDepthConfig)
    return LogDepth(dim, num_cells)


def _temporal(config: ModelConfig, dim: int) -> LastFrameEncoder | CausalEncoder | None:
    if config.stage == 1:
        return None
    part = config.temporal_encoder
    kind = LastFrameEncoder if part.kind == "last" else CausalEncoder
    return kind(dim, part.num_layer, part.num_head, part.dim_head, part.trope_scalar, part.zero_linear, part.dropout)
