"""What every backend starts from: checked arguments, and vertices on the screen."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Z_NEAR = 1e-3
"""Default nearest depth, in the unit of the vertices: a face with a corner nearer than this is not drawn."""
MIN_AREA_NDC = 1e-8
"""Faces of a smaller doubled area (squared NDC units) are not drawn; PyTorch3D's kEpsilon."""


def check_scene(
    vertices_cam: Float[Tensor, "b v 3"], faces: Int64[Tensor, "f 3"], K: Float[Tensor, "b 3 3"], size: tuple[int, int]
) -> None:
    """Raise ValueError or TypeError, with shapes, where the arguments do not fit together."""
    batch = vertices_cam.shape[0]
    if vertices_cam.ndim != 3 or vertices_cam.shape[2] != 3:
        raise ValueError(f"vertices_cam is {tuple(vertices_cam.shape)}, must be (b, v, 3)")
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"faces is {tuple(faces.shape)}, must be (f, 3), shared by the batch")
    if faces.dtype != torch.int64:
        raise TypeError(f"faces is {faces.dtype}, must be torch.int64")
    if K.shape != (batch, 3, 3):
        raise ValueError(f"K is {tuple(K.shape)}, must be {(batch, 3, 3)} for {batch} sets of vertices")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size is {tuple(size)}, must be (height, width), both at least 1")
    if not vertices_cam.device == faces.device == K.device:
        raise ValueError(f"vertices_cam, faces and K lie on {vertices_cam.device}, {faces.device} and {K.device}")


def project_vertices(
    vertices_cam: Float[Tensor, "b v 3"], K: Float[Tensor, "b 3 3"], z_near: float
) -> tuple[Float[Tensor, "b v 2"], Float[Tensor, "b v"]]:
    """Pixels (integer centres) and depth; vertices nearer than `z_near` get finite pixels that no face uses."""
    depth = vertices_cam[..., 2]
    safe_depth = torch.where(depth < z_near, torch.ones_like(depth), depth)
    homogeneous = vertices_cam @ K.transpose(-1, -2)
    return homogeneous[..., :2] / safe_depth[..., None], depth


def pixels_per_ndc(size: tuple[int, int]) -> float:
    """Half the shorter side: NDC runs from -1 to 1 over it, as in PyTorch3D."""
    return min(size) / 2


def nan_where_broken(vertices: Float[Tensor, "b v c"]) -> Float[Tensor, " b"]:
    """Zero for each image, or nan where a vertex is not finite.

    A rasteriser merely leaves such faces out, and a diverged model would look like an empty
    picture; added to the result, this lets the loss become nan and the training loop stop.
    """
    return (vertices * 0).sum(dim=(1, 2))
