"""Two ways to name a place on a square or oblong picture.

`rc_unit` is the capture code's, as upstream: (row, col), each (index + 0.5) / size, so 0..1 from edge to edge on maps of
any resolution. `xy_px` is everything else's: (x, y) in pixels with centres at integers, which depends on the resolution.
"""

import torch
from jaxtyping import Float
from torch import Tensor

Size = int | tuple[int, int]
"""Side of a square picture, or (h, w)."""


def height_width(size: Size) -> tuple[int, int]:
    """(h, w) of a size."""
    return (size, size) if isinstance(size, int) else size


def xy_px_from_rc_unit(points_rc_unit: Float[Tensor, "*points 2"], size: Size) -> Float[Tensor, "*points 2"]:
    """Pixels of a picture of `size`. Convention: the upper left pixel of one 4 x 4, (1/8, 1/8), is (0, 0)."""
    height, width = height_width(size)
    row, col = points_rc_unit.unbind(-1)
    return torch.stack((col * width - 0.5, row * height - 0.5), -1)


def rc_unit_from_xy_px(points_xy_px: Float[Tensor, "*points 2"], size: Size) -> Float[Tensor, "*points 2"]:
    """Inverse of `xy_px_from_rc_unit`."""
    height, width = height_width(size)
    x, y = points_xy_px.unbind(-1)
    return torch.stack(((y + 0.5) / height, (x + 0.5) / width), -1)
