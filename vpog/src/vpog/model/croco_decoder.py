"""The CroCo v2 decoder: patches of one picture look for themselves in another. Keys as in the public checkpoints."""

from jaxtyping import Float
from torch import Tensor, nn

from vpog.model.attention import CrossAttention, FeedForward, SelfAttention, start_as_croco
from vpog.model.croco_encoder import MLP_RATIO, NORM_EPS
from vpog.model.rope import Position


class DecoderBlock(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, NORM_EPS)
        self.attn = SelfAttention(dim, num_heads)
        self.cross_attn = CrossAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, NORM_EPS)
        self.norm3 = nn.LayerNorm(dim, NORM_EPS)
        self.mlp = FeedForward(dim, MLP_RATIO * dim)
        self.norm_y = nn.LayerNorm(dim, NORM_EPS)

    def forward(
        self, x: Float[Tensor, "n p d"], y: Float[Tensor, "n p d"], position: Position
    ) -> Float[Tensor, "n p d"]:
        """x attends itself, then y, which stays as it is."""
        x = x + self.attn(self.norm1(x), position)
        x = x + self.cross_attn(self.norm2(x), self.norm_y(y), position)
        out: Tensor = x + self.mlp(self.norm3(x))
        return out


class CrocoDecoder(nn.Module):
    def __init__(self, encoder_dim: int, dim: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.width, self.num_heads, self.head_dim = dim, num_heads, dim // num_heads
        self.decoder_embed = nn.Linear(encoder_dim, dim)
        self.dec_blocks = nn.ModuleList(DecoderBlock(dim, num_heads) for _ in range(depth))
        self.dec_norm = nn.LayerNorm(dim, NORM_EPS)
        start_as_croco(self)

    def decode(
        self, x: Float[Tensor, "n p d"], y: Float[Tensor, "n p d"], position: Position
    ) -> Float[Tensor, "n p d"]:
        """Of tokens that went through `decoder_embed`."""
        for block in self.dec_blocks:
            x = block(x, y, position)
        out: Tensor = self.dec_norm(x)
        return out
