"""Depth of meshes for VSD; apart from the other metrics because the renderer needs torch."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Float32

from vpog.metrics.vsd import DepthRenderer
from vpog.objects.mesh import Mesh
from vpog.objects.rendering import render_depth


def mesh_depths(meshes: Mapping[int, Mesh]) -> DepthRenderer:
    """Depth of the objects' meshes, from the renderer of templates."""

    def depth(
        obj_id: int,
        cam_from_obj_mm: Float[np.ndarray, "b 4 4"],
        K: Float[np.ndarray, "b 3 3"],
        size_hw: tuple[int, int],
    ) -> Float32[np.ndarray, "b h w"]:
        return render_depth(meshes[obj_id], cam_from_obj_mm, K, size_hw)

    return depth
