"""The network of a configuration."""

from pathlib import Path

from vpog.config.model import (
    CrocoCrossDecoderConfig,
    CrocoEncoderConfig,
    DinoEncoderConfig,
    JointDecoderConfig,
    ModelConfig,
    Rope2dConfig,
    S2RopeConfig,
)
from vpog.model.checkpoints import check_file_size, load_croco, read_croco
from vpog.model.croco_decoder import CrocoDecoder
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
    """A file that both parts name is read once: it is up to 1.7 GB."""
    wanted: dict[Path, list[CrocoEncoder | CrocoDecoder]] = {}
    for part, module in ((config.encoder, encoder), (config.decoder, decoder)):
        if isinstance(part, CrocoEncoderConfig | CrocoCrossDecoderConfig) and part.weights is not None:
            croco = module.croco if isinstance(module, CrossDecoder) else module
            assert isinstance(croco, CrocoEncoder | CrocoDecoder)
            wanted.setdefault(part.weights, []).append(croco)
    for path, modules in wanted.items():
        field = f"model.{'encoder' if isinstance(modules[0], CrocoEncoder) else 'decoder'}.weights"
        check_file_size(path, modules, field)
        checkpoint = read_croco(path, field)
        for croco in modules:
            load_croco(croco, checkpoint)
