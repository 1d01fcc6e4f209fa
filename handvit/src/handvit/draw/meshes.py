"""Meshes over pictures: all in one raster, so that depth decides what is seen."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from posecore.draw import TRUTH, Color, Picture, draw_mask_outline, draw_mesh_overlay
from posecore.rendering import Backend, Raster, rasterize, shade_raster

MESH_COLORS: tuple[Color, ...] = ((242, 170, 140), (140, 180, 242))
"""Right and left hand, or first and second."""
NEAREST_MM = 1.0


def draw_meshes(
    image: Picture,
    meshes_mm: Sequence[Float[np.ndarray, "_ 3"]],
    faces: Sequence[Int[np.ndarray, "_ 3"]] | Int[np.ndarray, "f 3"],
    K: Float[np.ndarray, "3 3"],
    colors: Sequence[Color] = MESH_COLORS,
    *,
    opacity: float = 0.75,
    backend: Backend = "warp",
) -> Picture:
    """Shaded meshes over the picture; where they cross, the nearer one is seen.

    Args:
        faces: One array for all, or one for each mesh.
        colors: Of the meshes, repeated where there are more.
    """
    if not meshes_mm:
        return image.copy()
    rgb, raster = _shaded(meshes_mm, faces, K, image.shape[:2], colors, backend)
    return draw_mesh_overlay(image, rgb, (raster.face_ids[0] >= 0).numpy().astype(float), opacity)


def draw_mesh_outline(
    image: Picture,
    vertices_mm: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    K: Float[np.ndarray, "3 3"],
    color: Color = TRUTH,
    *,
    backend: Backend = "warp",
) -> Picture:
    """The border of the mesh's silhouette."""
    raster = rasterize(*_scene(vertices_mm, faces, K), image.shape[:2], backend, z_near=NEAREST_MM)
    return draw_mask_outline(image, (raster.face_ids[0] >= 0).numpy(), color)


def project_mm(points_mm: Float[np.ndarray, "*n 3"], K: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "*n 2"]:
    """Pixels; nan behind the camera, which no drawing shows."""
    with np.errstate(divide="ignore", invalid="ignore"):
        homogeneous = points_mm @ K.T
        pixels = homogeneous[..., :2] / homogeneous[..., 2:]
    return np.asarray(np.where(points_mm[..., 2:] > NEAREST_MM, pixels, np.nan))


def _shaded(
    meshes: Sequence[np.ndarray],
    faces: Sequence[np.ndarray] | np.ndarray,
    K: np.ndarray,
    size: tuple[int, ...],
    colors: Sequence[Color],
    backend: Backend,
) -> tuple[Float[np.ndarray, "h w 3"], Raster]:
    """All meshes as one, so that depth decides which is seen."""
    each = [faces] * len(meshes) if isinstance(faces, np.ndarray) else list(faces)
    starts = np.cumsum([0, *(len(mesh) for mesh in meshes[:-1])])
    joined = np.concatenate([f.astype(np.int64) + start for f, start in zip(each, starts, strict=True)])
    surface = np.concatenate(
        [np.tile(np.array(colors[i % len(colors)]) / 255, (len(mesh), 1)) for i, mesh in enumerate(meshes)]
    )
    scene = _scene(np.concatenate(meshes), joined, K)
    raster = rasterize(*scene, (size[0], size[1]), backend, z_near=NEAREST_MM)
    rgb = shade_raster(raster, scene[0], scene[1], torch.from_numpy(surface).float()[None])
    return rgb[0].numpy(), raster


def _scene(vertices: np.ndarray, faces: np.ndarray, K: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.from_numpy(np.ascontiguousarray(vertices)).float()[None],
        torch.from_numpy(np.ascontiguousarray(faces).astype(np.int64)),
        torch.from_numpy(np.ascontiguousarray(K)).float()[None],
    )
