"""Patch embeddings: how pixels become tokens."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

STRIDED_LAYERS = 3
"""Of the convolutional stem, each halving the sides; what is left of the patch size is one more layer."""


class PatchEmbedding(nn.Module):
    """One linear map of each patch, as in the public weights."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, patch_size)
        _start_as_linear(self.proj)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d hp wp"]:
        out: Tensor = self.proj(images)
        return out


class ConvolutionalStem(nn.Module):
    """Strided 3x3 convolutions with norms: small encoders trained from nothing learn sooner with it."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        widths = [3, max(8, width // 6), max(8, width // 3), max(8, 2 * width // 3)]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(1, after), nn.GELU()]
        self.layers = nn.Sequential(*layers)
        rest = patch_size // 2**STRIDED_LAYERS
        self.proj = nn.Conv2d(widths[-1], width, rest, rest)
        _start_as_linear(self.proj)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d hp wp"]:
        out: Tensor = self.proj(self.layers(images))
        return out


def _start_as_linear(convolution: nn.Conv2d) -> None:
    """Xavier's uniform distribution of the map of a whole patch."""
    nn.init.xavier_uniform_(convolution.weight.data.view(convolution.out_channels, -1))
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
