"""Which face each pixel sees, where on it, and how far away."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from posecore.rendering._hard import barycentrics_of, nearest_faces
from posecore.rendering._screen import Z_NEAR, check_scene, project_vertices
from posecore.rendering._topology import topology_of
from posecore.rendering.backends import Backend, check_backend


class Raster(NamedTuple):
    """A picture of face numbers; all three are -1 in the background."""

    face_ids: Int64[Tensor, "b h w"]
    barycentrics: Float[Tensor, "b h w 3"]
    """Perspective-correct weights of the face's corners at the pixel centre."""
    depth: Float[Tensor, "b h w"]
    """Camera-frame z, in the unit of the vertices."""


def rasterize(
    vertices_cam: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    K: Float[Tensor, "b 3 3"],
    size: tuple[int, int],
    backend: Backend = "warp",
    *,
    z_near: float = Z_NEAR,
) -> Raster:
    """The nearest face of each pixel of a (height, width) picture; both sides of a face are seen.

    Convention: OpenCV camera, pixel centres at integers: with K = [[100, 0, 50], [0, 100, 50], [0, 0, 1]] the point
    (0.1, 0, 1) lies on the centre of pixel (60, 50). A face with a corner nearer than `z_near` is left out. No
    gradients: see `attach_gradients`.
    """
    check_scene(vertices_cam, faces, K, size)
    check_backend(backend, vertices_cam.dtype)
    pixels, depth = project_vertices(vertices_cam.detach(), K.detach(), z_near)
    if backend == "warp":
        from posecore.rendering import _warp_ops

        return Raster(*_warp_ops.rasterize(pixels, depth, faces, size[0], size[1], z_near))
    if backend == "pytorch3d":
        from posecore.rendering import _pytorch3d

        return Raster(*_pytorch3d.rasterize(pixels, depth, faces, size, z_near))
    topology_of(faces, pixels.shape[1])  # checks the indices
    face_ids = nearest_faces(pixels, depth, faces, size, z_near)
    return Raster(face_ids, *barycentrics_of(pixels, depth, faces, face_ids))


def attach_gradients(
    raster: Raster,
    vertices_cam: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    K: Float[Tensor, "b 3 3"],
    *,
    z_near: float = Z_NEAR,
) -> Raster:
    """The same raster with barycentrics and depth computed once more, so that gradients reach the vertices and K.

    `z_near` is that of `rasterize`. Which face a pixel sees has no gradient: outlines move nothing here, that is what
    `edge_silhouette` is for.
    """
    pixels, depth = project_vertices(vertices_cam, K, z_near)
    return Raster(raster.face_ids, *barycentrics_of(pixels, depth, faces, raster.face_ids))


def interpolate(
    raster: Raster, faces: Int64[Tensor, "f 3"], attributes: Float[Tensor, "#b v c"]
) -> Float[Tensor, "b h w c"]:
    """Values at the vertices, carried to the pixels; 0 in the background.

    Where values belong to face corners instead (texture coordinates at a seam), hand over the table of
    those values and their own index array in the place of `faces`: only the order of faces must be the same.
    """
    batch = raster.face_ids.shape[0]
    if attributes.shape[0] not in (1, batch):
        raise ValueError(f"attributes is {tuple(attributes.shape)}: its first axis must be 1 or {batch}")
    if len(faces) == 0:
        return attributes.new_zeros(*raster.face_ids.shape, attributes.shape[2])
    corners = faces[raster.face_ids.clamp(min=0)]  # (b h w 3)
    image = torch.arange(batch, device=faces.device)[:, None, None, None]
    values = attributes.expand(batch, -1, -1)[image, corners]  # (b h w 3 c)
    covered = (raster.face_ids >= 0)[..., None]
    weights = torch.where(covered, raster.barycentrics, torch.zeros_like(raster.barycentrics))
    return (weights[..., None] * values).sum(-2)


def visible_points(
    points_cam: Float[Tensor, "b n 3"],
    depth: Float[Tensor, "b h w"],
    K: Float[Tensor, "b 3 3"],
    tolerance: float,
    *,
    z_near: float = Z_NEAR,
) -> Bool[Tensor, "b n"]:
    """Whether each point is in front of the camera, inside the picture and at most `tolerance` behind the surface.

    `depth` is a raster's (-1 in the background, which hides nothing), looked up at the nearest pixel. `tolerance`, in
    the unit of the points, lets joints be seen through the skin that they lie under.
    """
    pixels, point_depth = project_vertices(points_cam, K, z_near)
    height, width = depth.shape[1:]
    ends = pixels.new_tensor([width, height])
    nearest = (pixels + 0.5).floor()
    seen = (point_depth >= z_near) & ((nearest >= 0) & (nearest < ends)).all(-1)
    x, y = torch.where(seen[..., None], nearest, torch.zeros_like(nearest)).long().unbind(-1)
    surface = depth[torch.arange(len(depth), device=depth.device)[:, None], y, x]
    return seen & ((surface < 0) | (point_depth <= surface + tolerance))
