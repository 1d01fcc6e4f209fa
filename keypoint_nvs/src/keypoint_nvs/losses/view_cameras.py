"""Cameras of the pictures whose maps are compared."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class ViewCameras:
    """Of v pictures of each object. Lengths in the rig's unit."""

    cam_from_world: Float[Tensor, "b v 4 4"]
    K: Float[Tensor, "b v 3 3"]
    """Pixels of the maps."""
    known: Bool[Tensor, "b v"]
    """Views without a camera have the identity here, and teach nothing about points in space."""

    @classmethod
    def at_map_size(
        cls,
        cam_from_world: Float[Tensor, "b v 4 4"],
        K: Float[Tensor, "b v 3 3"],
        from_px: int,
        map_px: int,
        known: Bool[Tensor, "b v"] | None = None,
    ) -> "ViewCameras":
        """From intrinsics of square pictures of side `from_px`. What stands where a camera is not `known` is ignored."""
        if known is None:
            known = torch.ones(cam_from_world.shape[:2], dtype=torch.bool, device=cam_from_world.device)
        mask = known[..., None, None]
        scale = map_px / from_px
        shift = scale / 2 - 0.5  # centres are at integers: x' = (x + 0.5) scale - 0.5
        map_from_picture = K.new_tensor([[scale, 0, shift], [0, scale, shift], [0, 0, 1]])
        return cls(
            torch.where(mask, cam_from_world, torch.eye(4).to(cam_from_world)),
            torch.where(mask, map_from_picture @ K, torch.eye(3).to(K)),
            known,
        )
