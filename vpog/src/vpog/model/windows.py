"""Pictures of tokens, cut into square windows and put together again."""

import torch
from jaxtyping import Float
from torch import Tensor


def to_windows(tokens: Float[Tensor, "n p d"], grid: tuple[int, int], window: int) -> Float[Tensor, "n windows ww d"]:
    """Windows row by row, and the tokens of each row by row.

    Raises:
        ValueError: Windows that do not fill the grid exactly.
    """
    rows, columns = grid
    if rows % window or columns % window:
        raise ValueError(f"a grid of {rows} x {columns} patches is not made of windows of {window} x {window}")
    cut = torch.unflatten(tokens, 1, (rows // window, window, columns // window, window))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(
    windows: Float[Tensor, "n windows ww d"], grid: tuple[int, int], window: int
) -> Float[Tensor, "n p d"]:
    rows, columns = grid
    cut = torch.unflatten(torch.unflatten(windows, 2, (window, window)), 1, (rows // window, columns // window))
    return cut.transpose(2, 3).flatten(1, 4)
