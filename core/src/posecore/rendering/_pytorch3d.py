"""PyTorch3D's rasteriser behind the same interface, where it is installed.

It takes vertices in its NDC space: x to the left, y up, pixel centres at halves, 2 units over the shorter side. Ours
are already on the screen, so one affine map replaces its cameras, and gradients flow through our own projection.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from posecore.rendering._pairs import drawn_faces
from posecore.rendering._screen import pixels_per_ndc
from posecore.rendering._soft import OPAQUE, REACH_SIGMAS

FACES_PER_PIXEL = 100
"""How many faces of a pixel the soft silhouette keeps, SMAL's and SMIL's number; its CUDA kernels allow 150."""


def rasterize(
    pixels: Float[Tensor, "b v 2"],
    depth: Float[Tensor, "b v"],
    faces: Int64[Tensor, "f 3"],
    size: tuple[int, int],
    z_near: float,
) -> tuple[Int64[Tensor, "b h w"], Float[Tensor, "b h w 3"], Float[Tensor, "b h w"]]:
    face_ids, pixel_depth, barycentrics, _ = _fragments(pixels, depth, faces, size, z_near, 0.0, 1)
    return face_ids[..., 0], barycentrics[..., 0, :], pixel_depth[..., 0]


def soft_log_transparency(
    pixels: Float[Tensor, "b v 2"],
    depth: Float[Tensor, "b v"],
    faces: Int64[Tensor, "f 3"],
    size: tuple[int, int],
    sigma: float,
    z_near: float,
) -> Float[Tensor, "b h w"]:
    """The log of SoftSilhouetteShader's product over the nearest faces."""
    face_ids, _, _, distances = _fragments(pixels, depth, faces, size, z_near, REACH_SIGMAS * sigma, FACES_PER_PIXEL)
    terms = -torch.nn.functional.softplus(-distances / sigma)
    return torch.where(face_ids >= 0, terms, torch.zeros_like(terms)).sum(-1).clamp(min=-OPAQUE)


def _fragments(
    pixels: Tensor,
    depth: Tensor,
    faces: Tensor,
    size: tuple[int, int],
    z_near: float,
    blur_radius: float,
    faces_per_pixel: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Face ids (b h w k), depth, barycentrics and squared NDC distances (negative inside)."""
    from pytorch3d.renderer.mesh import rasterize_meshes
    from pytorch3d.structures import Meshes

    drawn = drawn_faces(pixels.detach(), depth.detach(), faces, size, z_near)
    kept = [mask.nonzero()[:, 0] for mask in drawn]
    vertices = torch.cat([to_ndc(pixels, size), depth[..., None]], dim=-1)
    meshes = Meshes(verts=list(vertices), faces=[faces[index] for index in kept])
    face_ids, pixel_depth, barycentrics, distances = rasterize_meshes(
        meshes,
        image_size=size,
        blur_radius=blur_radius,
        faces_per_pixel=faces_per_pixel,
        perspective_correct=True,
        clip_barycentric_coords=False,
        cull_backfaces=False,
    )
    number = torch.cat([*kept, faces.new_full((1,), -1)])  # of a face in the packed meshes; its last entry answers -1
    return number[face_ids], pixel_depth, barycentrics, distances


def to_ndc(pixels: Float[Tensor, "b v 2"], size: tuple[int, int]) -> Float[Tensor, "b v 2"]:
    """Pixels (integer centres) to NDC. Convention: in 4 x 4 pixels (1.5, 1.5) is (0, 0) and (-0.5, -0.5) is (1, 1)."""
    centre = pixels.new_tensor([size[1], size[0]]) / 2
    return -(pixels + 0.5 - centre) / pixels_per_ndc(size)
