"""Attention blocks: pre-norm layers with fused projections, with names as in the published state dicts."""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ScaledDropout(nn.Dropout):
    """Dropout whose rate a warm-up scales."""

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self.full_p = p

    def set_share(self, share: float) -> None:
        self.p = share * self.full_p


class RotaryTime(nn.Module):
    """Turns pairs (2i, 2i + 1) of a head's channels by the angle t * 10000^(-2i / d)."""

    inv_freq: Tensor

    def __init__(self, dim_head: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 10000.0 ** (-torch.arange(0, dim_head, 2).float() / dim_head))

    def forward(self, x: Float[Tensor, "b heads n d"], times: Float[Tensor, "b n"]) -> Float[Tensor, "b heads n d"]:
        angle = times.float()[:, None, :, None] * self.inv_freq.float()  # float32: bf16 angles are off by degrees
        cosine, sine = angle.cos(), angle.sin()
        even, odd = x[..., 0::2].float(), x[..., 1::2].float()
        turned = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1)
        return turned.flatten(-2).to(x.dtype)


class Attention(nn.Module):
    """What self- and cross-attention share: heads, output projection, dropout, rotary times (`pe`)."""

    def __init__(self, dim: int, num_head: int, dim_head: int, dropout: float, rotary: bool) -> None:
        super().__init__()
        self.num_head = num_head
        self.attend_dropout = ScaledDropout(dropout)
        self.pe = RotaryTime(dim_head) if rotary else None
        self.to_out = nn.Sequential(nn.Linear(num_head * dim_head, dim), ScaledDropout(dropout))

    def split(self, x: Float[Tensor, "b n inner"]) -> Float[Tensor, "b heads n d"]:
        return x.reshape(*x.shape[:2], self.num_head, -1).transpose(1, 2)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> Tensor:
        dropout = self.attend_dropout.p if self.training else 0.0
        return self.merge(F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=causal))

    def merge(self, heads: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b n dim"]:
        out: Tensor = self.to_out(heads.transpose(1, 2).flatten(2))
        return out


class SelfAttention(Attention):
    def __init__(
        self, dim: int, num_head: int, dim_head: int, dropout: float, rotary: bool = False, causal: bool = False
    ) -> None:
        super().__init__(dim, num_head, dim_head, dropout, rotary)
        self.causal = causal
        self.to_qkv = nn.Linear(dim, 3 * num_head * dim_head, bias=False)

    def forward(self, x: Float[Tensor, "b n d"], times: Float[Tensor, "b n"] | None = None) -> Float[Tensor, "b n d"]:
        query, key, value = map(self.split, self.to_qkv(x).chunk(3, -1))
        if self.pe is not None:
            assert times is not None, "rotary attention needs times"
            query, key = self.pe(query, times), self.pe(key, times)
        return self.attend(query, key, value, self.causal)


class CrossAttention(Attention):
    """The context enters as it is, without a norm."""

    def __init__(
        self, dim: int, context_dim: int, num_head: int, dim_head: int, dropout: float, rotary: bool = False
    ) -> None:
        super().__init__(dim, num_head, dim_head, dropout, rotary)
        self.to_kv = nn.Linear(context_dim, 2 * num_head * dim_head, bias=False)
        self.to_q = nn.Linear(dim, num_head * dim_head, bias=False)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        context: Float[Tensor, "b m c"],
        times: Float[Tensor, "b n"] | None = None,
        context_times: Float[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        query = self.split(self.to_q(x))
        if self.pe is None and 2 * self.num_head * x.shape[1] < self.to_q.out_features:
            return self.merge(self._attend_unprojected(query, context))
        key, value = map(self.split, self.to_kv(context).chunk(2, -1))
        if self.pe is not None:
            assert times is not None, "rotary attention needs times"
            assert context_times is not None, "rotary attention needs times of the context"
            query, key = self.pe(query, times), self.pe(key, context_times)
        return self.attend(query, key, value)

    def _attend_unprojected(
        self, query: Float[Tensor, "b heads n e"], context: Float[Tensor, "b m c"]
    ) -> Float[Tensor, "b heads n e"]:
        """The same without keys and values of the context: q . (W_k x) = (W_k^T q) . x, and sum a W_v x = W_v sum a x.

        For m tokens and n queries of each of the heads this takes 4 n heads c products a token instead of 4 heads e c.
        """
        to_key, to_value = self.to_kv.weight.reshape(2, self.num_head, -1, context.shape[-1])  # each (heads e c)
        asked = (query * query.shape[-1] ** -0.5) @ to_key
        scores = asked.flatten(1, 2) @ context.transpose(1, 2)
        attention = F.dropout(scores.softmax(-1), self.attend_dropout.p, self.training)
        seen: Tensor = (attention @ context).reshape(*asked.shape[:3], -1)
        heads: Tensor = seen @ to_value.mT
        return heads


class FeedForward(nn.Module):
    def __init__(self, dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim, mlp_dim), nn.GELU(), ScaledDropout(dropout), nn.Linear(mlp_dim, dim), ScaledDropout(dropout)
        )

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        out: Tensor = self.net(x)
        return out


class PreNorm(nn.Module):
    """x + fn(LN x, ...)."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, x: Float[Tensor, "b n d"], *more: Tensor | None) -> Float[Tensor, "b n d"]:
        out: Tensor = self.fn(self.norm(x), *more)
        return x + out


class CrossAttentionLayers(nn.Module):
    """Layers of self-attention, cross-attention to a context and a feed-forward block. `rotary` concerns the second."""

    def __init__(
        self,
        dim: int,
        context_dim: int,
        num_layer: int,
        num_head: int,
        dim_head: int,
        mlp_dim: int,
        dropout: float,
        rotary: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                (
                    PreNorm(dim, SelfAttention(dim, num_head, dim_head, dropout)),
                    PreNorm(dim, CrossAttention(dim, context_dim, num_head, dim_head, dropout, rotary)),
                    PreNorm(dim, FeedForward(dim, mlp_dim, dropout)),
                )
            )
            for _ in range(num_layer)
        )

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        context: Float[Tensor, "b m c"],
        times: Float[Tensor, "b n"] | None = None,
        context_times: Float[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        for layer in self.layers:
            attend_self, attend_context, feed = cast(nn.ModuleList, layer)
            x = feed(attend_context(attend_self(x), context, times, context_times))
        return x


class TokenDecoder(nn.Module):
    """Tokens are embedded, get learned positions, and attend a context."""

    def __init__(self, num_tokens: int, token_dim: int, dim: int, transformer: CrossAttentionLayers) -> None:
        super().__init__()
        self.to_token_embedding = nn.Linear(token_dim, dim)
        self.pos_embedding = nn.Parameter(torch.randn(1, num_tokens, dim) * 0.02)
        self.transformer = transformer

    def forward(self, tokens: Float[Tensor, "b n token"], context: Float[Tensor, "b m c"]) -> Float[Tensor, "b n d"]:
        out: Tensor = self.transformer(self.to_token_embedding(tokens) + self.pos_embedding, context)
        return out
