"""The network of a configuration."""

from vpog.config.model import (
    CrocoEncoderConfig,
    DinoEncoderConfig,
    JointDecoderConfig,
    ModelConfig,
    Rope2dConfig,
    S2RopeConfig,
)
from vpog.model.checkpoints import check_file_size, load_croco_decoder, load_croco_encoder, read_croco
from vpog.model.croco_encoder import CrocoEncoder
from vpog.model.cross_decoder import CrossDecoder
from vpog.model.encoder import Encoder
from vpog.model.group_decoder import GroupDecoder
from vpog.model.joint_decoder import JointDecoder
from vpog.model.network import VpogNetwork
from vpog.model.positions import PlanarPositions, RotationPositions, SphericalPositions, TemplatePositions
from vpog.model.s2rope import ChannelSplit


def build_network(config: ModelConfig, *, load_weights: bool = True) -> VpogNetwork:
    """The network, with the published weights that the configuration names, else random ones.

    Args:
        load_weights: False where a checkpoint's weights come next; the published files are then not touched.

    Raises:
        InputError: A missing or unfit file, or an encoder that is not what the configuration says.
    """
    encoder = _encoder(config, load_weights)
    decoder = _decoder(config, encoder.width)
    if load_weights:
        _load_croco(config, encoder, decoder)
    heads = config.heads
    return VpogNetwork(encoder, decoder, heads.hidden, heads.proj, heads.flow_hidden, config.img_size)


def _encoder(config: ModelConfig, load_weights: bool) -> Encoder:
    part = config.encoder
    if isinstance(part, DinoEncoderConfig):
        from vpog.model.dino_weights import create_dino  # timm takes seconds to import

        return create_dino(part, config.img_size, config.patch_size, load_weights)
    return CrocoEncoder(part.dim, part.depth, part.heads, config.patch_size, part.stem)


def _decoder(config: ModelConfig, encoder_width: int) -> GroupDecoder:
    part = config.decoder
    if isinstance(part, JointDecoderConfig):
        positions = _positions(part)
        return JointDecoder(encoder_width, part.dim, part.depth, part.heads, part.window, config.grid, positions)
    return CrossDecoder(encoder_width, part.dim, part.depth, part.heads, config.grid)


def _positions(config: JointDecoderConfig) -> TemplatePositions:
    part = config.position
    if isinstance(part, S2RopeConfig):
        return SphericalPositions(ChannelSplit(part.px, part.py, part.ps), part.azimuth)
    if isinstance(part, Rope2dConfig):
        return PlanarPositions(config.head_dim)
    return RotationPositions(config.rotated_channels)


def _load_croco(config: ModelConfig, encoder: Encoder, decoder: GroupDecoder) -> None:
    for_encoder = config.encoder.weights if isinstance(config.encoder, CrocoEncoderConfig) else None
    for_decoder = None if isinstance(config.decoder, JointDecoderConfig) else config.decoder.weights
    if for_encoder is not None:
        assert isinstance(encoder, CrocoEncoder)
        check_file_size(for_encoder, [encoder], "model.encoder.weights")
        load_croco_encoder(encoder, read_croco(for_encoder, "model.encoder.weights"))
    if for_decoder is not None:
        assert isinstance(decoder, CrossDecoder)
        check_file_size(for_decoder, [decoder.croco], "model.decoder.weights")
        load_croco_decoder(decoder.croco, read_croco(for_decoder, "model.decoder.weights"))
