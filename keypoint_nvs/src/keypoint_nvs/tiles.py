"""The one picture that Zero123++ draws: views side by side and one above the other.

View i lies at row i // cols and column i % cols: 3 rows x 2 columns, so that the left column has the upper cameras and
the right one the lower ones. The same holds for latents and for attention maps of any resolution, as long as those are
read with the grid's own height and width (token t of a map w2 wide: y = t // w2, x = t % w2).
"""

from jaxtyping import Float
from torch import Tensor


def tile_views(
    views: Float[Tensor, "*batch v c h w"], rows: int = 3, cols: int = 2
) -> Float[Tensor, "*batch c grid_h grid_w"]:
    """Pictures (or latents, or maps) of `rows * cols` views as one grid of (rows h, cols w)."""
    *batch, num_views, channels, height, width = views.shape
    if num_views != rows * cols:
        raise ValueError(f"tile_views: {num_views} views do not fill {rows} rows of {cols}")
    split = views.reshape(*batch, rows, cols, channels, height, width).movedim(-3, -5)  # (c rows cols h w)
    return split.transpose(-3, -2).reshape(*batch, channels, rows * height, cols * width)


def untile_views(
    grid: Float[Tensor, "*batch c grid_h grid_w"], rows: int = 3, cols: int = 2
) -> Float[Tensor, "*batch v c h w"]:
    """The views of a grid, the inverse of `tile_views`."""
    *batch, channels, grid_height, grid_width = grid.shape
    if grid_height % rows or grid_width % cols:
        raise ValueError(
            f"untile_views: {grid_height} x {grid_width} pixels do not divide by {rows} rows x {cols} columns"
        )
    height, width = grid_height // rows, grid_width // cols
    split = grid.reshape(*batch, channels, rows, height, cols, width).transpose(-3, -2)  # (c rows cols h w)
    return split.movedim(-5, -3).reshape(*batch, rows * cols, channels, height, width)
