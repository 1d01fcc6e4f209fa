"""Masked multi-head attention on projected tokens, safe for rows in which every key is masked."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def attend(
    query: Float[Tensor, "b q d"],
    key: Float[Tensor, "b k d"],
    value: Float[Tensor, "b k d"],
    num_heads: int,
    key_mask: Bool[Tensor, "b k"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "b q d"]:
    """softmax(q k / sqrt(d / heads)) v per head; keys with a False mask are ignored.

    A row without any valid key attends to all of them: its output is finite, and its caller must not use it.
    """
    heads = [x.reshape(*x.shape[:2], num_heads, -1).transpose(1, 2) for x in (query, key, value)]
    mask = None
    if key_mask is not None:
        mask = (key_mask | ~key_mask.any(-1, keepdim=True))[:, None, None, :]
    out = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=mask, dropout_p=dropout)
    return out.transpose(1, 2).flatten(2)
