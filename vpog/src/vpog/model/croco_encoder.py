"""The CroCo v2 image encoder: a plain ViT with RoPE2D, without class token. Keys as in the public checkpoints.

Weinzaepfel et al., "CroCo v2: Improved Cross-view Completion Pre-training for Stereo Matching and Optical Flow", 2023.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from vpog.model.attention import FeedForward, SelfAttention, start_as_croco
from vpog.model.encoder import Encoder
from vpog.model.rope import Position, rope2d
from vpog.model.stem import ConvolutionalStem, PatchEmbedding

NORM_EPS = 1e-6
MLP_RATIO = 4


class EncoderBlock(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, NORM_EPS)
        self.attn = SelfAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, NORM_EPS)
        self.mlp = FeedForward(dim, MLP_RATIO * dim)

    def forward(self, x: Float[Tensor, "n p d"], position: Position) -> Float[Tensor, "n p d"]:
        x = x + self.attn(self.norm1(x), position)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class CrocoEncoder(Encoder):
    """Any picture whose sides are multiples of the patch size."""

    def __init__(
        self, dim: int, depth: int, num_heads: int, patch_size: int, stem: Literal["patch", "conv"] = "patch"
    ) -> None:
        super().__init__(dim, patch_size)
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.patch_embed = (PatchEmbedding if stem == "patch" else ConvolutionalStem)(patch_size, dim)
        self.enc_blocks = nn.ModuleList(EncoderBlock(dim, num_heads) for _ in range(depth))
        self.enc_norm = nn.LayerNorm(dim, NORM_EPS)
        start_as_croco(self)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p d"]:
        patches = self.patch_embed(images)
        position = rope2d((patches.shape[2], patches.shape[3]), self.head_dim, images.device)
        tokens = patches.flatten(2).transpose(1, 2)
        for block in self.enc_blocks:
            tokens = block(tokens, position)
        out: Tensor = self.enc_norm(tokens)
        return out
