"""Bicubic resizing as a matrix, so that it can change places with other linear maps."""

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@cache
def bicubic_matrix(size: int, side: int) -> Float[Tensor, "{size} {side}"]:
    """M with M S M^T = F.interpolate(S, (size, size), mode="bicubic", align_corners=False) for S of side x side.

    On the CPU, and the same tensor for all who ask: not to be changed.

    Convention: pixel i of the larger map lies at (i + 0.5) side / size - 0.5 of the smaller one.
    """
    each_pixel = torch.eye(side, device="cpu").view(1, side, side, 1)
    resized = F.interpolate(each_pixel, size=(size, 1), mode="bicubic", align_corners=False)
    return resized[0, :, :, 0].T.contiguous()


@dataclass(frozen=True)
class RowBlock:
    """Some neighbouring rows of the resized map, and the few rows of the native one that they are made of."""

    start: int
    stop: int
    native_start: int
    native_stop: int
    weights: Float[Tensor, "rows native_rows"]


def row_blocks(matrix: Float[Tensor, "size side"], rows: int, device: torch.device | str = "cpu") -> list[RowBlock]:
    """Cut a bicubic matrix (of the CPU) into blocks of at most `rows` rows on `device`, without columns of zeros."""
    used = matrix != 0
    blocks = []
    for start in range(0, len(matrix), rows):
        stop = min(start + rows, len(matrix))
        columns = used[start:stop].any(0).nonzero()[:, 0]
        first, last = int(columns[0]), int(columns[-1]) + 1
        blocks.append(RowBlock(start, stop, first, last, matrix[start:stop, first:last].contiguous().to(device)))
    return blocks
