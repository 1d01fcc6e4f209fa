"""Objects drawn one by one, each as the list of pixels that it covers, inside the picture or beyond its border."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from posecore.rendering import Backend, Raster, rasterize, vertex_normals
from vpog.objects.mesh import Mesh
from vpog.objects.rendering import Z_NEAR_MM
from vpog.objects.surface_tensors import Surface, surface_of

PIXELS_AT_ONCE = 1 << 17
"""Of all windows that are drawn together."""


@dataclass(frozen=True)
class Lighting:
    """Lambert's light, white."""

    towards_cam: Float64[np.ndarray, "3"]
    """From the object towards the light, unit, camera frame."""
    ambient: float
    """Share that comes from everywhere."""


@dataclass(frozen=True)
class Sprite:
    """One object by itself."""

    columns: Int64[np.ndarray, " n"]
    """Of the pixels, by the picture's count; may be negative or beyond its width."""
    rows: Int64[np.ndarray, " n"]
    depth_mm: Float32[np.ndarray, " n"]
    rgb: Float32[np.ndarray, "n 3"]
    """0 to 1."""


def draw_sprites(
    mesh: Mesh,
    cam_from_obj_mm: Float64[np.ndarray, "b 4 4"],
    K: Float64[np.ndarray, "b 3 3"],
    size_hw: tuple[int, int],
    lightings: Sequence[Lighting],
    backend: Backend = "warp",
) -> list[Sprite]:
    """One mesh, with vertex colours, in b poses of b pictures.

    As in BOP's ground truth, what leaves the picture by more than its width or height is not drawn.

    Args:
        cam_from_obj_mm: May also scale.
        size_hw: Of the pictures.
    """
    surface = surface_of(mesh, torch.device("cpu"))
    assert isinstance(surface.look, Tensor)  # synthetic objects have vertex colours
    normals = vertex_normals(torch.from_numpy(surface.vertices_mm)[None], surface.faces)[0].float()
    paint = torch.cat([surface.look[0], normals], 1)  # (v 6)
    vertices = surface.vertices_mm @ cam_from_obj_mm[:, :3, :3].transpose(0, 2, 1) + cam_from_obj_mm[:, None, :3, 3]
    corners, sizes = _windows(vertices, K, size_hw)
    sprites: list[Sprite | None] = [None] * len(vertices)
    for chosen in _batches(sizes):
        window = (int(sizes[chosen, 1].max()), int(sizes[chosen, 0].max()))
        raster = _rasterize(surface, vertices[chosen], K[chosen], corners[chosen], window, backend)
        for place, row in enumerate(chosen):
            single = Raster(raster.face_ids[place], raster.barycentrics[place], raster.depth[place])
            rotation = cam_from_obj_mm[row, :3, :3] / np.cbrt(np.linalg.det(cam_from_obj_mm[row, :3, :3]))
            sprites[row] = _sprite(single, surface.faces, paint, rotation, corners[row], K[row], lightings[row])
    return [sprite for sprite in sprites if sprite is not None]


def _windows(
    vertices_cam: Float64[np.ndarray, "b v 3"], K: Float64[np.ndarray, "b 3 3"], size_hw: tuple[int, int]
) -> tuple[Int64[np.ndarray, "b 2"], Int64[np.ndarray, "b 2"]]:
    """First pixel and size (x, y) of the part of the plane that each object covers."""
    homogeneous = vertices_cam @ K.transpose(0, 2, 1)
    pixels = homogeneous[..., :2] / homogeneous[..., 2:]
    size = np.array(size_hw[::-1])
    first = np.clip(np.floor(pixels.min(1)), -size, 2 * size - 1).astype(np.int64)
    last = np.clip(np.ceil(pixels.max(1)), -size, 2 * size - 1).astype(np.int64)
    return first, last - first + 1


def _batches(sizes: Int64[np.ndarray, "b 2"]) -> list[Int64[np.ndarray, " k"]]:
    """Objects of similar size together: all windows of a batch are drawn as large as the largest."""
    order = np.argsort(sizes.prod(1), kind="stable")
    batches: list[list[int]] = [[]]
    for row in order.tolist():
        members = [*batches[-1], row]
        if batches[-1] and len(members) * sizes[members].max(0).prod() > PIXELS_AT_ONCE:
            batches.append([])
        batches[-1].append(row)
    return [np.array(batch, dtype=np.int64) for batch in batches]


def _rasterize(
    surface: Surface,
    vertices_cam: Float64[np.ndarray, "b v 3"],
    K: Float64[np.ndarray, "b 3 3"],
    corners: Int64[np.ndarray, "b 2"],
    window: tuple[int, int],
    backend: Backend,
) -> Raster:
    shifted = K.copy()
    shifted[:, :2, 2] -= corners
    vertices = torch.from_numpy(vertices_cam.astype(np.float32))
    cameras = torch.from_numpy(shifted.astype(np.float32))
    return rasterize(vertices, surface.faces, cameras, window, backend, z_near=Z_NEAR_MM)


def _sprite(
    raster: Raster,
    faces: Int64[Tensor, "f 3"],
    paint: Float[Tensor, "v 6"],
    cam_from_obj_rot: Float64[np.ndarray, "3 3"],
    corner: Int64[np.ndarray, "2"],
    K: Float64[np.ndarray, "3 3"],
    lighting: Lighting,
) -> Sprite:
    """`raster` without its batch axis."""
    rows, columns = torch.nonzero(raster.face_ids >= 0, as_tuple=True)
    weights = raster.barycentrics[rows, columns]  # (n 3)
    corners = faces[raster.face_ids[rows, columns]]
    values = torch.bmm(weights[:, None], paint[corners])[:, 0].numpy()
    x, y = columns.numpy() + corner[0], rows.numpy() + corner[1]
    rays = np.ones((len(x), 3), np.float32)
    rays[:, 0], rays[:, 1] = (x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1]
    normals = values[:, 3:] @ cam_from_obj_rot.T.astype(np.float32)
    normals /= np.sqrt(np.einsum("nk,nk->n", normals, normals)).clip(1e-6)[:, None]
    towards = normals @ lighting.towards_cam.astype(np.float32)
    is_back = np.einsum("nk,nk->n", normals, rays) > 0
    cosine = np.clip(np.where(is_back, -towards, towards), 0, None)  # both sides are lit
    brightness = np.float32(lighting.ambient) + np.float32(1 - lighting.ambient) * cosine
    rgb = values[:, :3] * brightness[:, None]
    return Sprite(x, y, raster.depth[rows, columns].numpy(), rgb)
