"""Keypoints lie on the object, where the data have transparency."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def foreground(
    positions_px: Float[Tensor, "n k 2"], alpha: Float[Tensor, "n h w"], map_px: int
) -> Float[Tensor, "n k"]:
    """1 - alpha at each position: (x, y) in pixels of a map of side `map_px`, integer centres, of the same view.

    Alpha may have any size; between its pixels it is bilinear, beyond its outermost centres it stays the same.
    """
    grid = (2 * positions_px + 1) / map_px - 1
    seen = functional.grid_sample(
        alpha[:, None].to(grid), grid[:, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return 1 - seen[:, 0, 0]
