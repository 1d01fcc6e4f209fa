"""Pictures, depth and masks of meshes in millimetres: one mesh in many poses, or a scene of several."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from torch import Tensor

from posecore.rendering import Backend, Light, Raster, rasterize, shade_raster
from vpog.objects.mesh import Mesh
from vpog.objects.surface_tensors import Surface, surface_of

Z_NEAR_MM = 1.0
"""A face with a corner nearer than this is not drawn."""
PIXELS_AT_ONCE = {"cpu": 1 << 17, "cuda": 1 << 23}
"""Of the part of the pictures that is drawn; some 250 bytes each are needed while they are shaded. On a CPU more is
slower: 17 ms a view with 2^17, 21 ms with 2^20."""
CORNERS_AT_ONCE = 1 << 22
"""Vertices of all poses that are drawn together."""


@dataclass(frozen=True)
class Rendering:
    """Pictures of one mesh."""

    rgb: UInt8[np.ndarray, "b h w 3"]
    """Black outside the object."""
    depth_mm: Float32[np.ndarray, "b h w"]
    """z of the camera frame at the pixel's centre; 0 outside the object."""
    mask: Bool[np.ndarray, "b h w"]


@dataclass(frozen=True)
class SceneRendering:
    """One picture of several objects; the nearest is seen, of equally near ones the first."""

    rgb: UInt8[np.ndarray, "h w 3"]
    depth_mm: Float32[np.ndarray, "h w"]
    instance_ids: Int64[np.ndarray, "h w"]
    """Place of the object that is seen in the list, -1 in the background."""
    masks: Bool[np.ndarray, "n h w"]
    """Every object's whole silhouette inside the picture, as if it were alone."""


@dataclass(frozen=True)
class Window:
    """Part of a picture: rows and columns from the first up to, not including, the last."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left


def render(
    mesh: Mesh,
    cam_from_obj_mm: Float[np.ndarray, "b 4 4"],
    K: Float[np.ndarray, "b 3 3"],
    size_hw: tuple[int, int],
    *,
    light: Light | None = None,
    device: str | torch.device = "cpu",
    backend: Backend = "warp",
) -> Rendering:
    """Draw a mesh in b poses. Lambert's light and ambient light; edges between faces are smooth up to 40 degrees.

    Convention: OpenCV camera, pixel centres at integers. Memory is bounded: poses are drawn a few at a time, and only
    the part of the picture in which the mesh can be.

    Args:
        mesh: Both sides of its faces are seen.
        cam_from_obj_mm: Poses, translations in mm.
        K: Intrinsics in px.
        size_hw: Height and width of the pictures in px.
        light: None: a lamp at the camera.
        device: Where it is drawn.
        backend: "warp", compiled; "torch" where Warp cannot run, ten times slower.

    Raises:
        InputError: A mesh without faces or with numbers that are not finite.
    """
    height, width = size_hw
    pictures = Rendering(
        np.zeros((len(cam_from_obj_mm), height, width, 3), np.uint8),
        np.zeros((len(cam_from_obj_mm), height, width), np.float32),
        np.zeros((len(cam_from_obj_mm), height, width), bool),
    )
    canvas = _Canvas(pictures.depth_mm, pictures.mask, pictures.rgb)
    _draw_all(surface_of(mesh, torch.device(device)), cam_from_obj_mm, K, canvas, light, backend)
    return pictures


def render_depth(
    mesh: Mesh,
    cam_from_obj_mm: Float[np.ndarray, "b 4 4"],
    K: Float[np.ndarray, "b 3 3"],
    size_hw: tuple[int, int],
    *,
    device: str | torch.device = "cpu",
    backend: Backend = "warp",
) -> Float32[np.ndarray, "b h w"]:
    """The depth of `render` alone, in mm, 0 outside the object: without shading it takes a fifth of the time."""
    canvas = _Canvas(np.zeros((len(cam_from_obj_mm), *size_hw), np.float32))
    _draw_all(surface_of(mesh, torch.device(device)), cam_from_obj_mm, K, canvas, None, backend)
    return canvas.depth_mm


def render_scene(
    meshes: Sequence[Mesh],
    cam_from_obj_mm: Float[np.ndarray, "n 4 4"],
    K: Float[np.ndarray, "3 3"],
    size_hw: tuple[int, int],
    *,
    light: Light | None = None,
    device: str | torch.device = "cpu",
    backend: Backend = "warp",
) -> SceneRendering:
    """Draw several meshes into one picture; arguments as in `render`, one pose for each mesh.

    Raises:
        ValueError: Not as many meshes as poses.
    """
    if len(meshes) != len(cam_from_obj_mm):
        raise ValueError(f"{len(meshes)} meshes have {len(cam_from_obj_mm)} poses")
    height, width = size_hw
    rgb, nearest = np.zeros((height, width, 3), np.uint8), np.full((height, width), np.inf, np.float32)
    ids, masks = np.full((height, width), -1, np.int64), np.zeros((len(meshes), height, width), bool)
    for place, (mesh, pose) in enumerate(zip(meshes, cam_from_obj_mm, strict=True)):
        alone = render(mesh, pose[None], K[None], size_hw, light=light, device=device, backend=backend)
        masks[place] = alone.mask[0]
        seen = alone.mask[0] & (alone.depth_mm[0] < nearest)
        rgb[seen], nearest[seen], ids[seen] = alone.rgb[0][seen], alone.depth_mm[0][seen], place
    return SceneRendering(rgb, np.where(ids >= 0, nearest, np.float32(0)), ids, masks)


@dataclass(frozen=True)
class _Canvas:
    """What is drawn into: what is None is not drawn."""

    depth_mm: Float32[np.ndarray, "b h w"]
    mask: Bool[np.ndarray, "b h w"] | None = None
    rgb: UInt8[np.ndarray, "b h w 3"] | None = None

    def part(self, poses: slice, rows: slice = slice(None), columns: slice = slice(None)) -> "_Canvas":
        where = poses, rows, columns
        mask, rgb = (None if plane is None else plane[where] for plane in (self.mask, self.rgb))
        return _Canvas(self.depth_mm[where], mask, rgb)


def _draw_all(
    surface: Surface,
    cam_from_obj_mm: Float[np.ndarray, "b 4 4"],
    K: Float[np.ndarray, "b 3 3"],
    canvas: _Canvas,
    light: Light | None,
    backend: Backend,
) -> None:
    poses, cameras = cam_from_obj_mm.astype(np.float64), K.astype(np.float64)
    step = max(1, CORNERS_AT_ONCE // len(surface.vertices_mm))
    for first in range(0, len(poses), step):
        chosen = slice(first, first + step)
        vertices = surface.vertices_mm @ poses[chosen, :3, :3].transpose(0, 2, 1) + poses[chosen, None, :3, 3]
        _draw_chunk(surface, vertices, cameras[chosen], canvas.part(chosen), light, backend)


def _draw_chunk(
    surface: Surface,
    vertices_cam: Float64[np.ndarray, "b v 3"],
    K: Float64[np.ndarray, "b 3 3"],
    canvas: _Canvas,
    light: Light | None,
    backend: Backend,
) -> None:
    size_hw = (canvas.depth_mm.shape[1], canvas.depth_mm.shape[2])
    windows = [window_of(vertices, camera, size_hw) for vertices, camera in zip(vertices_cam, K, strict=True)]
    first = 0
    while first < len(windows):
        last, window = _grow(windows, first, PIXELS_AT_ONCE[surface.faces.device.type])
        if min(window.size) > 0:
            chosen = slice(first, last)
            part = canvas.part(chosen, slice(window.top, window.bottom), slice(window.left, window.right))
            _draw(surface, vertices_cam[chosen], _shifted(K[chosen], window), part, light, backend)
        first = last


def _shifted(K: Float64[np.ndarray, "b 3 3"], window: Window) -> Float64[np.ndarray, "b 3 3"]:
    """Of the pictures that begin at the window's corner."""
    moved = K.copy()
    moved[:, :2] -= np.array([window.left, window.top], np.float64)[:, None] * K[:, 2:]
    return moved


def _grow(windows: list[Window], first: int, limit: int) -> tuple[int, Window]:
    """As many poses as fit in memory when all are drawn in one window that holds theirs."""
    together, last = windows[first], first + 1
    while last < len(windows):
        larger = _union(together, windows[last])
        if (last + 1 - first) * larger.size[0] * larger.size[1] > limit:
            break
        together, last = larger, last + 1
    return last, together


def _union(a: Window, b: Window) -> Window:
    if min(a.size) == 0 or min(b.size) == 0:
        return a if min(b.size) == 0 else b
    return Window(min(a.top, b.top), max(a.bottom, b.bottom), min(a.left, b.left), max(a.right, b.right))


def window_of(
    vertices_cam: Float64[np.ndarray, "v 3"], K: Float64[np.ndarray, "3 3"], size_hw: tuple[int, int]
) -> Window:
    """The part of a picture that a mesh can cover; empty where it is outside. Faces too near are not drawn at all."""
    height, width = size_hw
    in_front = vertices_cam[vertices_cam[:, 2] >= Z_NEAR_MM]
    if len(in_front) == 0:
        return Window(0, 0, 0, 0)
    homogeneous = in_front @ K.T
    pixels = homogeneous[:, :2] / in_front[:, 2:]
    left, top = np.clip(np.floor(pixels.min(0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(pixels.max(0)) + 1, 0, (width, height)).astype(int)
    return Window(int(top), int(bottom), int(left), int(right)) if right > left and bottom > top else Window(0, 0, 0, 0)


def _draw(
    surface: Surface,
    vertices_cam: Float64[np.ndarray, "b v 3"],
    K: Float64[np.ndarray, "b 3 3"],
    canvas: _Canvas,
    light: Light | None,
    backend: Backend,
) -> None:
    device = surface.faces.device
    vertices = torch.from_numpy(vertices_cam.astype(np.float32)).to(device)
    cameras = torch.from_numpy(K.astype(np.float32)).to(device)
    size = (canvas.depth_mm.shape[1], canvas.depth_mm.shape[2])
    raster = rasterize(vertices, surface.faces, cameras, size, backend, z_near=Z_NEAR_MM)
    mask = raster.face_ids >= 0
    canvas.depth_mm[:] = torch.where(mask, raster.depth, 0).cpu().numpy()
    if canvas.mask is None or canvas.rgb is None:
        return
    canvas.mask[:] = mask.cpu().numpy()
    for place in range(len(vertices)):
        chosen = slice(place, place + 1)
        lit = _lit(surface, Raster(*(part[chosen] for part in raster)), vertices[chosen], mask[chosen], light)
        canvas.rgb[place][canvas.mask[place]] = lit.cpu().numpy()


def _lit(
    surface: Surface,
    raster: Raster,
    vertices_cam: Float[Tensor, "1 v 3"],
    mask: Bool[Tensor, "1 h w"],
    light: Light | None,
) -> UInt8[Tensor, "m 3"]:
    """RGB of the covered pixels, which are shaded as a picture of one row: half of a window is background."""
    row = Raster(*(part[mask][None, None] for part in raster))
    rgb = shade_raster(row, vertices_cam, surface.faces, surface.look, light)
    return (rgb[0, 0] * 255).round().to(torch.uint8)


__all__ = ["Light", "Rendering", "SceneRendering", "Window", "render", "render_depth", "render_scene", "window_of"]
