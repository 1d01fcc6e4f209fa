"""Attention of tokens at the size of the maps, a few rows at a time.

A layer's map of all tokens at full size, for each head, is never stored whole: with 500 tokens, 8 heads and maps of 128 x 128
it is 260 MB a picture and layer, and upstream keeps several of them for the gradient. Here the scores of the native map
are resized (exact: resizing and the projection of queries are both linear, StableKeypoints section of the spec), block of rows
by block of rows, and computed again for the gradient; what is kept is queries, keys and one normaliser a pixel and head.

Axes: c pictures of a chunk, n pictures, h heads, d features of a head, m all tokens, k chosen tokens, s side of the
native map, r side of the resized map; tokens last, where softmax is fastest.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from keypoint_nvs.model.bicubic import RowBlock, bicubic_matrix, row_blocks

CPU_BLOCK, GPU_BLOCK = 2**21, 2**27
"""Scores handled at a time: 8 MB stay in a processor's cache; 0.5 GB fill a GPU."""

Queries = Float[Tensor, "n h s s d"]
Keys = Float[Tensor, "h m d"]


class Resizer:
    """Scores of one layer at the size of the maps, chunk by chunk."""

    def __init__(self, query: Queries, num_tokens: int, size: int) -> None:
        """`query`: to know sides, heads and device; `num_tokens` scores are computed for each pixel."""
        matrix = bicubic_matrix(size, query.shape[2])
        self.matrix = matrix.to(query.device)
        budget = CPU_BLOCK if query.device.type == "cpu" else GPU_BLOCK
        row = query.shape[1] * size * num_tokens
        self.blocks: list[RowBlock] = row_blocks(matrix, min(size, max(1, budget // row)), query.device)
        self.pictures = max(1, budget // (row * size))
        """Handled at once."""

    def chunks(self, num_pictures: int) -> Iterator[slice]:
        """Pictures that are handled together."""
        for start in range(0, num_pictures, self.pictures):
            yield slice(start, start + self.pictures)

    def widen(self, query: Float[Tensor, "c h s s d"], key: Keys | Float[Tensor, "c h m d"]) -> Tensor:
        """Scores with resized columns, (c h s r m)."""
        chunk, heads, side = query.shape[:3]
        scores = query.flatten(2, 3) @ key.transpose(-1, -2)
        return self.matrix @ scores.view(chunk, heads, side, side, scores.shape[-1])

    def rows(self, wide: Float[Tensor, "c h s r m"], block: RowBlock) -> Float[Tensor, "c h rows r m"]:
        """Scores of a block of rows."""
        native = wide[:, :, block.native_start : block.native_stop]
        return (block.weights @ native.flatten(3)).view(*native.shape[:2], -1, *wide.shape[3:])

    def add_rows_back(self, wide: Float[Tensor, "c h s r m"], block: RowBlock, gradient: Tensor) -> None:
        """Add what `rows` passes back to the gradient of `wide`."""
        target = wide[:, :, block.native_start : block.native_stop]
        target += (block.weights.T @ gradient.flatten(3)).view(target.shape)

    def narrow(self, wide: Float[Tensor, "c h s r m"]) -> Float[Tensor, "c h p m"]:
        """What the resizing of columns passes back: the gradient of the native scores."""
        return (self.matrix.T @ wide).flatten(2, 3)


def all_token_maps(
    queries: list[Float[Tensor, "n _h _s _s _d"]], keys: list[Float[Tensor, "_h m _d"]], size: int, want_maps: bool
) -> tuple[Float[Tensor, "n m r r"] | None, list[Float[Tensor, "n _h r r"]]]:
    """Attention of all tokens, mean over layers and heads (None if not wanted), and each layer's log of the sum of exps."""
    num, num_tokens = len(queries[0]), keys[0].shape[1]
    device = queries[0].device
    maps = torch.zeros(num, size, size, num_tokens, device=device) if want_maps else None
    normalisers = []
    for query, key in zip(queries, keys, strict=True):
        resizer = Resizer(query, num_tokens, size)
        normaliser = torch.empty(num, query.shape[1], size, size, device=device)
        for chunk in resizer.chunks(num):
            wide = resizer.widen(query[chunk], key)
            for block in resizer.blocks:
                rows = slice(block.start, block.stop)
                scores = resizer.rows(wide, block)
                attention = scores.softmax(-1)
                # the largest score's share is exp(score - normaliser), and never too small for its logarithm
                normaliser[chunk, :, rows] = scores.amax(-1) - attention.amax(-1).log()
                if maps is not None:
                    maps[chunk, rows] += attention.sum(1).div_(query.shape[1] * len(queries))
        normalisers.append(normaliser)
    return None if maps is None else maps.permute(0, 3, 1, 2).contiguous(), normalisers


class ChosenTokenMaps(torch.autograd.Function):
    """Attention of chosen tokens, with the softmax over all of them, mean over layers and heads."""

    @staticmethod
    def forward(ctx: Any, chosen: Tensor, size: int, *layers: Tensor) -> Tensor:
        """`chosen` (n k); `layers`: queries, then keys, then normalisers of all layers."""
        count = len(layers) // 3
        ctx.size, ctx.count = size, count
        ctx.save_for_backward(chosen, *layers[: 2 * count])
        queries, keys, normalisers = layers[:count], layers[count : 2 * count], layers[2 * count :]
        num, num_chosen = chosen.shape
        maps = torch.zeros(num, size, size, num_chosen, device=chosen.device)
        for query, key, normaliser in zip(queries, keys, normalisers, strict=True):
            resizer, heads = Resizer(query, num_chosen, size), query.shape[1]
            for chunk in resizer.chunks(num):
                wide = resizer.widen(query[chunk], key[:, chosen[chunk]].transpose(0, 1))
                for block in resizer.blocks:
                    rows = slice(block.start, block.stop)
                    attention = resizer.rows(wide, block).sub_(normaliser[chunk, :, rows, :, None]).exp_()
                    maps[chunk, rows] += attention.sum(1).div_(heads * count)
        return maps.permute(0, 3, 1, 2).contiguous()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries and keys; of each pixel's scores g_j = P_j ([j chosen] g_j - sum_k P_k g_k)."""
        chosen, *layers = ctx.saved_tensors
        count, size = ctx.count, ctx.size
        with torch.autocast(gradient.device.type, enabled=False):
            of_pixels = gradient.float().permute(0, 2, 3, 1).contiguous()
            parts = [
                _layer_gradient(of_pixels / count, chosen, size, layers[i], layers[count + i]) for i in range(count)
            ]
        return None, None, *[p[0] for p in parts], *[p[1] for p in parts], *[None] * count


def _layer_gradient(
    gradient: Float[Tensor, "n r r k"],
    chosen: Int64[Tensor, "n k"],
    size: int,
    query: Tensor,
    key: Tensor,
) -> tuple[Tensor, Tensor]:
    num, heads = query.shape[:2]
    resizer = Resizer(query, key.shape[1], size)
    query_gradient, key_gradient = torch.empty_like(query), torch.zeros_like(key)
    for chunk in resizer.chunks(num):
        wide = resizer.widen(query[chunk], key)
        wide_gradient = torch.zeros_like(wide)
        of_chosen = chosen[chunk, None, None, None]
        for block in resizer.blocks:
            rows = slice(block.start, block.stop)
            attention = resizer.rows(wide, block).softmax(-1)
            index = of_chosen.expand(*attention.shape[:-1], -1)
            direct = attention.gather(-1, index) * (gradient[chunk, None, rows] / heads)
            of_scores = attention.mul_(direct.sum(-1, keepdim=True).neg_()).scatter_add_(-1, index, direct)
            resizer.add_rows_back(wide_gradient, block, of_scores)
        native = resizer.narrow(wide_gradient)
        query_gradient[chunk] = (native @ key).view(query[chunk].shape)
        key_gradient += torch.einsum("chpm,chpd->hmd", native, query[chunk].flatten(2, 3))
    return query_gradient, key_gradient
