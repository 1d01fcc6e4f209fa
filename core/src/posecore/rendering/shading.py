"""Shaded pictures of meshes: vertex colours or a texture, Lambert light, a background."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from posecore.rendering._screen import Z_NEAR, nan_where_broken
from posecore.rendering.backends import Backend
from posecore.rendering.raster import Raster, attach_gradients, interpolate, rasterize


@dataclass(frozen=True)
class Texture:
    """A picture wrapped round the mesh.

    Convention: as in OBJ files, uv (0, 0) is the picture's lower left corner, (1, 1) its upper right.
    """

    image: Float[Tensor, "#b th tw 3"]
    """RGB, 0 to 1; sampled bilinearly, repeated beyond the border texel."""
    uv: Float[Tensor, "t 2"]
    face_uv: Int64[Tensor, "f 3"]
    """For each face's corners the row of `uv`."""


@dataclass(frozen=True)
class Light:
    """White light: `ambient` everywhere, plus `diffuse` times the cosine between normal and light."""

    ambient: float = 0.4
    diffuse: float = 0.6
    direction_cam: Float[Tensor, "#b 3"] | None = None
    """From the surface towards the light, in the camera's frame; None: a lamp at the camera."""


def shade(
    vertices_cam: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    K: Float[Tensor, "b 3 3"],
    size: tuple[int, int],
    surface: Float[Tensor, "#b v 3"] | Texture,
    light: Light | None = None,
    background: Float[Tensor, "... 3"] | None = None,
    backend: Backend = "warp",
    *,
    smooth: bool = True,
    z_near: float = Z_NEAR,
) -> Float[Tensor, "b h w 3"]:
    """RGB 0 to 1 of a (height, width) picture; `surface` is RGB at the vertices or a texture.

    `background` is a colour (3), a picture (h w 3) or one each (b h w 3); None: black. `smooth` interpolates vertex
    normals, else each face has its own. Gradients reach colours, texture, light and, through the barycentrics and
    normals, the vertices; not through outlines.
    """
    raster = rasterize(vertices_cam, faces, K, size, backend, z_near=z_near)
    if torch.is_grad_enabled() and (vertices_cam.requires_grad or K.requires_grad):
        raster = attach_gradients(raster, vertices_cam, faces, K, z_near=z_near)
    rgb = shade_raster(raster, vertices_cam, faces, surface, light, background, smooth=smooth)
    return rgb + nan_where_broken(vertices_cam)[:, None, None, None]


def shade_raster(
    raster: Raster,
    vertices_cam: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    surface: Float[Tensor, "#b v 3"] | Texture,
    light: Light | None = None,
    background: Float[Tensor, "... 3"] | None = None,
    *,
    smooth: bool = True,
) -> Float[Tensor, "b h w 3"]:
    """`shade` for a raster that is there already, whose mask (`face_ids >= 0`) and depth are wanted too."""
    light = light or Light()
    albedo = interpolate(raster, faces, surface) if isinstance(surface, Tensor) else sample_texture(raster, surface)
    points = interpolate(raster, faces, vertices_cam)
    normals = _pixel_normals(raster, vertices_cam, faces, smooth)
    lit = albedo * _brightness(points, normals, light)[..., None]
    covered = (raster.face_ids >= 0)[..., None]
    behind = lit.new_zeros(3) if background is None else background
    return torch.where(covered, lit.clamp(max=1), behind)


def sample_texture(raster: Raster, texture: Texture) -> Float[Tensor, "b h w 3"]:
    """Bilinear colours; where they are 0 to 1, so is the result."""
    uv = interpolate(raster, texture.face_uv, texture.uv[None])
    grid = torch.stack([2 * uv[..., 0] - 1, 1 - 2 * uv[..., 1]], dim=-1)
    image = texture.image.expand(len(grid), -1, -1, -1).permute(0, 3, 1, 2)
    sampled: Tensor = grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.permute(0, 2, 3, 1)


def face_normals(vertices: Float[Tensor, "b v 3"], faces: Int64[Tensor, "f 3"]) -> Float[Tensor, "b f 3"]:
    """Not normalised: their length is twice the face's area."""
    a, b, c = vertices[:, faces].unbind(2)
    normals: Tensor = torch.linalg.cross(b - a, c - a)
    return normals


def vertex_normals(vertices: Float[Tensor, "b v 3"], faces: Int64[Tensor, "f 3"]) -> Float[Tensor, "b v 3"]:
    """Unit normals, weighted by area; 0 at a vertex without a face."""
    normals = face_normals(vertices, faces).repeat_interleave(3, dim=1)
    return normalize(torch.zeros_like(vertices).index_add(1, faces.reshape(-1), normals), dim=-1)


def _pixel_normals(raster: Raster, vertices_cam: Tensor, faces: Tensor, smooth: bool) -> Tensor:
    if smooth:
        return normalize(interpolate(raster, faces, vertex_normals(vertices_cam, faces)), dim=-1)
    if len(faces) == 0:
        return vertices_cam.new_zeros(*raster.face_ids.shape, 3)
    image = torch.arange(len(vertices_cam), device=faces.device)[:, None, None]
    return normalize(face_normals(vertices_cam, faces)[image, raster.face_ids.clamp(min=0)], dim=-1)


def _brightness(points: Tensor, normals: Tensor, light: Light) -> Tensor:
    """Lambert's cosine on the side of a face that the camera sees: the order of its corners does not matter."""
    to_camera = -normalize(points, dim=-1)
    facing = torch.where((normals * to_camera).sum(-1, keepdim=True) < 0, -normals, normals)
    to_light = to_camera if light.direction_cam is None else normalize(light.direction_cam, dim=-1)[:, None, None]
    cosine = (facing * to_light).sum(-1).clamp(min=0)
    return light.ambient + light.diffuse * cosine
