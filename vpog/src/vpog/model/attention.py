"""Attention and feed-forward layers, with names as in the public CroCo state dicts."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vpog.model.rope import Position


class SelfAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        position: Position,
        is_attended: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Every token attends all tokens, or those that `is_attended` names."""
        query, key, value = (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, -1))
        mask = None if is_attended is None else is_attended[:, None, None]
        heads = F.scaled_dot_product_attention(position(query), position(key), value, attn_mask=mask)
        out: Tensor = self.proj(heads.transpose(1, 2).flatten(2))
        return out


class CrossAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.projq = nn.Linear(dim, dim)
        self.projk = nn.Linear(dim, dim)
        self.projv = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "b n d"], context: Float[Tensor, "b m d"], position: Position
    ) -> Float[Tensor, "b n d"]:
        """The same positions hold for both: they are patches of grids of the same size."""
        query, key, value = (
            split_heads(part, self.num_heads) for part in (self.projq(x), self.projk(context), self.projv(context))
        )
        heads = F.scaled_dot_product_attention(position(query), position(key), value)
        out: Tensor = self.proj(heads.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


def split_heads(x: Float[Tensor, "b n inner"], num_heads: int) -> Float[Tensor, "b heads n d"]:
    return torch.unflatten(x, -1, (num_heads, -1)).transpose(1, 2)


def start_as_croco(module: nn.Module) -> None:
    """Linear layers from Xavier's uniform distribution, biases 0.

    At small widths this is a wide start (a standard deviation of 0.1 at 96), which small networks learn sooner from.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
