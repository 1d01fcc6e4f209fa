"""Pictures, masks and depth of meshes, with gradients: Warp kernels, plain PyTorch, or PyTorch3D."""

from posecore.rendering.backends import Backend
from posecore.rendering.raster import Raster, attach_gradients, interpolate, rasterize, visible_points
from posecore.rendering.shading import Light, Texture, shade, shade_raster, vertex_normals
from posecore.rendering.silhouettes import edge_silhouette, soft_silhouette

__all__ = [
    "Backend",
    "Light",
    "Raster",
    "Texture",
    "attach_gradients",
    "edge_silhouette",
    "interpolate",
    "rasterize",
    "shade",
    "shade_raster",
    "soft_silhouette",
    "vertex_normals",
    "visible_points",
]
