"""Templates cut to squares around the object."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

from vpog.data.crop import crop_depth, crop_mask, crop_matrix, crop_rgb

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in px; the last column and row are x1 - 1 and y1 - 1."""


@dataclass(frozen=True)
class CutView:
    """One template, cut; its arrays cannot be written to, because they are shared."""

    rgb: UInt8[np.ndarray, "size size 3"]
    mask: Bool[np.ndarray, "size size"]
    depth_mm: Float32[np.ndarray, "size size"]
    K: Float64[np.ndarray, "3 3"]

    @property
    def num_bytes(self) -> int:
        return sum(getattr(self, field.name).nbytes for field in fields(self))


def mask_box(mask: Bool[np.ndarray, "h w"]) -> Box | None:
    """The smallest box that holds the mask; None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def cut_view(
    rgb: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    depth_mm: Float32[np.ndarray, "h w"],
    K: Float[np.ndarray, "3 3"],
    size: int,
) -> CutView | None:
    """A square of `size` px that just holds the object, as queries are cut. None: the picture shows nothing."""
    box = mask_box(mask)
    if box is None:
        return None
    crop_from_image = crop_matrix(np.array(box, np.float64), size)
    inside = crop_mask(mask, crop_from_image, size)
    cut = CutView(
        np.where(inside[..., None], crop_rgb(rgb, crop_from_image, size), np.uint8(0)),
        inside,
        np.where(inside, crop_depth(depth_mm, crop_from_image, size), np.float32(0)),
        crop_from_image @ K,
    )
    for field in fields(cut):
        getattr(cut, field.name).flags.writeable = False
    return cut
