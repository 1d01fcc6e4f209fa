"""How much memory the maps of tokens take in training: what limits StableKeypoints on small GPUs.

Upstream keeps, for the gradient, each layer's attention of all tokens at full size for each head, in 2 to 3 copies:
layers x heads x R^2 x N x 4 bytes x 2-3 a picture. Ours keeps queries, keys and one normaliser a pixel and head, and computes
the attention again, a bounded block at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BYTES = 4
"""Scores and maps are always float32."""


@dataclass(frozen=True)
class LayerSize:
    """Of a captured cross-attention."""

    heads: int
    channels: int
    """Of all heads together."""
    side: int
    """Of its own map."""


@dataclass(frozen=True)
class MapMemory:
    """Bytes beside the networks, in one training step of one process."""

    upstream: tuple[int, int]
    """2 and 3 copies, of one picture and its warped copy, as upstream trains; none of it is bounded."""
    kept: int
    """Ours, for the gradient, of all pictures of the step."""
    working: int
    """Ours, while maps are computed; does not grow with the pictures."""


def layer_sizes(unet: Mapping[str, Any], latent_px: int, names: Sequence[str] | None) -> list[LayerSize]:
    """Of the layers that are captured.

    Args:
        unet: Its configuration.
        latent_px: Side of the latents.
        names: None: the usual four.

    Raises:
        InputError: There is no such layer.
    """
    import torch
    from diffusers import UNet2DConditionModel

    from keypoint_nvs.model.attention_layers import checked_layers, default_layers

    with torch.device("meta"):
        model: Any = UNet2DConditionModel.from_config(dict(unet))
    levels = len(model.up_blocks)
    sizes = []
    for name, attention in checked_layers(model, list(names or default_layers(model, latent_px))).items():
        side = latent_px // 2 ** _level(name, levels)
        sizes.append(LayerSize(attention.heads, attention.to_q.out_features, side))
    return sizes


def _level(name: str, levels: int) -> int:
    """How often the map of a layer was halved."""
    part, _, rest = name.partition(".")
    if part == "mid_block":
        return levels - 1
    block = int(rest.partition(".")[0])
    return block if part == "down_blocks" else levels - 1 - block


def map_memory(
    layers: Sequence[LayerSize], *, num_tokens: int, num_keypoints: int, map_px: int, pictures: int, block: int
) -> MapMemory:
    """
    Args:
        pictures: Of a step, with the warped copies.
        block: Scores that are computed at a time.
    """
    area = map_px**2
    one_copy = 2 * sum(layer.heads for layer in layers) * area * num_tokens * BYTES
    queries = sum(layer.channels * layer.side**2 for layer in layers)
    normalisers = sum(layer.heads for layer in layers) * area
    keys = sum(layer.channels for layer in layers) * num_tokens
    kept = pictures * (2 * queries + normalisers + 2 * num_keypoints * area) + 2 * keys
    at_once = max(min(block, pictures * layer.heads * area * num_tokens) for layer in layers)
    wide = max(_wide(layer, num_tokens, map_px, pictures, block) for layer in layers)
    return MapMemory((2 * one_copy, 3 * one_copy), kept * BYTES, (3 * at_once + 2 * wide) * BYTES)


def _wide(layer: LayerSize, num_tokens: int, map_px: int, pictures: int, block: int) -> int:
    """Scores whose columns alone are resized."""
    of_picture = layer.heads * map_px * num_tokens
    return min(pictures, max(1, block // (of_picture * map_px))) * of_picture * layer.side
