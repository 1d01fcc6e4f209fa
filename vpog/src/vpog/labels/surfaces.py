"""What pictures show of an object's surface, and where its points lie in other pictures.

Depths are multiplied with rays element by element: a matrix product may be rounded to 10 bits on a GPU (TF32), which
moves points by a tenth of a pixel.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from posecore.cameras import MIN_DEPTH
from vpog.labels.rules import Lookup


@dataclass(frozen=True)
class Surfaces:
    """Depth pictures of b objects, v of each."""

    depth: Float[Tensor, "b v h w"]
    """z of the camera frame, 0 where the object is not seen; in `units_per_mm` of a millimetre."""
    K: Float[Tensor, "b v 3 3"]
    cam_from_obj: Float[Tensor, "b v 4 4"]
    """Object -> camera, in the unit of the depth."""
    units_per_mm: float
    """1: millimetres; sigma for a mesh rendered sigma times as large."""
    tolerance: Float[Tensor, " b"]
    """How far behind the surface a point still counts as seen, in the unit of the depth."""


@dataclass(frozen=True)
class PixelMap:
    """Pixels of a source picture to a target: homogeneous target pixel = depth * ray_map [u, v, 1] + offset.

    The third component is the point's depth in the target, in the target's unit.
    """

    ray_map: Float[Tensor, "*batch 3 3"]
    offset: Float[Tensor, "*batch 3"]

    def of_pairs(self, sample: Int64[Tensor, " m"], view: Int64[Tensor, " m"]) -> "PixelMap":
        """The map of each pair."""
        return PixelMap(self.ray_map[sample, view], self.offset[sample, view])


@dataclass(frozen=True)
class Landing:
    """Where points of one picture lie in another."""

    x: Float[Tensor, "*points"]
    """Pixels; finite but without meaning where the point is not in front."""
    y: Float[Tensor, "*points"]
    depth: Float[Tensor, "*points"]
    in_front: Bool[Tensor, "*points"]
    """Of the camera, further than MIN_DEPTH."""


def pixel_map(source: Surfaces, target: Surfaces) -> PixelMap:
    """From each picture of `source` to that of `target`; where one of them has a single view, it goes with all others.

    Worked out in float64: K of a small crop far from the optical axis is large in all its entries.
    """
    scale = target.units_per_mm / source.units_per_mm
    source_pose, target_pose = source.cam_from_obj.double(), target.cam_from_obj.double()
    rotation = scale * target_pose[..., :3, :3] @ source_pose[..., :3, :3].mT
    translation = target_pose[..., :3, 3] - (rotation @ source_pose[..., :3, 3, None])[..., 0]
    target_K = target.K.double()
    ray_map = target_K @ rotation @ torch.linalg.inv(source.K.double())
    offset = (target_K @ translation[..., None])[..., 0]
    return PixelMap(ray_map.to(source.depth.dtype), offset.to(source.depth.dtype))


def dehomogenise(homogeneous: Float[Tensor, "*batch 3 points"]) -> Landing:
    """Pixels and depths of points."""
    x, y, depth = homogeneous.unbind(-2)
    safe = depth.clamp(min=MIN_DEPTH)
    return Landing(x / safe, y / safe, depth, depth > MIN_DEPTH)


def look_up(
    landing: Landing, size_hw: tuple[int, int], lookup: Lookup
) -> tuple[Int64[Tensor, "*points"], Bool[Tensor, "*points"]]:
    """Flat index of the pixel that a point falls on, row by row, and whether there is one.

    Where there is none, the index is that of some pixel. Convention: (1.6, 0.2) is pixel 2 for "nearest" and pixel 1
    for "reference".
    """
    height, width = size_hw
    shift = 0.5 if lookup == "nearest" else 0.0
    column, row = torch.floor(landing.x + shift), torch.floor(landing.y + shift)
    inside = landing.in_front & (landing.x >= 0) & (landing.y >= 0) & (column < width) & (row < height)
    index = row.clamp_(0, height - 1).mul_(width).add_(column.clamp_(0, width - 1))  # whole numbers: exact below 2**24
    return index.long(), inside


def is_seen(
    point_depth: Float[Tensor, "*#points"],
    surface_depth: Float[Tensor, "*#points"],
    tolerance: Float[Tensor, "*#points"],
    compare: bool,
) -> Bool[Tensor, "*all_points"]:
    """Is there a surface, and is the point not hidden behind it?"""
    on_surface = surface_depth > 0
    return on_surface & (point_depth <= surface_depth + tolerance) if compare else on_surface
