"""From what a trunk returns to features: a pooled vector and tokens."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

PYRAMID_LEVELS = 2  # a U-Net decoder here goes from stride 32 up to 16, one token a cell


@dataclass(frozen=True)
class Features:
    """What a backbone sees in n images: `pooled` describes the whole, `tokens` the p places."""

    pooled: Float[Tensor, "n d"]
    tokens: Float[Tensor, "n p e"]


class TokenNeck(nn.Module):
    """Transformers: the class token (or the mean where there is none), and the patch tokens."""

    def __init__(self, num_prefix_tokens: int) -> None:
        super().__init__()
        self.num_prefix_tokens = num_prefix_tokens

    def forward(self, tokens: Tensor) -> Features:
        patches = tokens[:, self.num_prefix_tokens :]
        return Features(tokens[:, 0] if self.num_prefix_tokens else patches.mean(1), patches)


class GridNeck(nn.Module):
    """Convolutional networks: the mean of the last grid, and its cells as tokens."""

    def __init__(self, channels_last: bool) -> None:
        super().__init__()
        self.channels_last = channels_last

    def forward(self, grid: Tensor) -> Features:
        tokens = grid.flatten(1, 2) if self.channels_last else grid.flatten(2).transpose(1, 2)
        return Features(tokens.mean(1), tokens)


class UNetNeck(nn.Module):
    """A light decoder over the last levels of an encoder's pyramid: upsample, add, convolve; the cells are the tokens.

    Group norms, because batch statistics would tie the images of a batch together.
    """

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels[-PYRAMID_LEVELS:])
        self.smooth = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(32, width), nn.GELU())

    def forward(self, pyramid: list[Tensor]) -> Features:
        fine, coarse = (level(x) for level, x in zip(self.lateral, pyramid[-PYRAMID_LEVELS:], strict=True))
        merged = fine + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")
        tokens = self.smooth(merged).flatten(2).transpose(1, 2)
        return Features(tokens.mean(1), tokens)
