"""Parts of a mesh, each with its own surface, made one mesh with one surface."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float64, Int64, UInt8

from posecore.errors import InputError
from vpog.objects.mesh import Mesh, MeshTexture

MAX_REPEATS = 8
"""How often a picture may repeat over one part in each direction."""
SLACK = 1e-4
"""Texture coordinates this far outside the picture are on its border."""


@dataclass(frozen=True)
class Part:
    """Triangles with one surface: colours at the vertices, a picture, or one colour."""

    vertices: Float64[np.ndarray, "v 3"]
    faces: Int64[np.ndarray, "f 3"]
    colors: UInt8[np.ndarray, "v 3"] | None = None
    image: UInt8[np.ndarray, "th tw 3"] | None = None
    uv: Float64[np.ndarray, "v 2"] | None = None
    flat_color: UInt8[np.ndarray, "3"] | None = None


def joined(parts: list[Part], name: str) -> Mesh:
    """One mesh; pictures are put side by side into one. Coordinates are those of the parts.

    Raises:
        InputError: A picture together with colours at vertices, or a picture that repeats too often.
    """
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    vertices = np.concatenate([part.vertices for part in parts])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=False)])
    pictured = any(part.image is not None for part in parts)
    colored = any(part.colors is not None for part in parts)
    if pictured and colored:
        raise InputError(f"{name}: has parts with a texture and parts with vertex colours; bake them into one texture")
    if pictured:
        return Mesh(vertices.astype(np.float32), faces, texture=_atlas(parts, name))
    if not colored and all(part.flat_color is None for part in parts):
        return Mesh(vertices.astype(np.float32), faces)
    return Mesh(vertices.astype(np.float32), faces, np.concatenate([_vertex_colors(part) for part in parts]))


def _vertex_colors(part: Part) -> UInt8[np.ndarray, "v 3"]:
    if part.colors is not None:
        return part.colors
    return np.tile(_flat_color(part), (len(part.vertices), 1))


def _flat_color(part: Part) -> UInt8[np.ndarray, "3"]:
    return np.full(3, 180, np.uint8) if part.flat_color is None else part.flat_color


def _atlas(parts: list[Part], name: str) -> MeshTexture:
    """Pictures one under the other, each with a border of one repeated texel; a single picture stays as it is."""
    tiles = [_tile(part, name) for part in parts]
    if len(tiles) == 1:
        image, uv = tiles[0]
        return MeshTexture(image, uv.astype(np.float32), np.arange(len(uv)).reshape(-1, 3))
    bordered = [cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE) for image, _ in tiles]
    width, height = max(image.shape[1] for image in bordered), sum(image.shape[0] for image in bordered)
    canvas, coordinates, top = np.zeros((height, width, 3), np.uint8), [], 0
    for picture, (image, uv) in zip(bordered, tiles, strict=True):
        canvas[top : top + picture.shape[0], : picture.shape[1]] = picture
        columns = (uv[:, 0] * image.shape[1] + 1) / width
        rows = ((1 - uv[:, 1]) * image.shape[0] + 1 + top) / height
        coordinates.append(np.stack([columns, 1 - rows], 1))
        top += picture.shape[0]
    table = np.concatenate(coordinates).astype(np.float32)
    return MeshTexture(canvas, table, np.arange(len(table)).reshape(-1, 3))


def _tile(part: Part, name: str) -> tuple[UInt8[np.ndarray, "th tw 3"], Float[np.ndarray, "c 2"]]:
    """Picture and coordinates of each face corner inside it; a part without picture gets one texel."""
    if part.image is None or part.uv is None:
        return _flat_color(part)[None, None], np.full((part.faces.size, 2), 0.5)
    corners = part.uv[part.faces]  # (f 3 2)
    if not np.isfinite(corners).all():
        raise InputError(f"{name}: has texture coordinates that are not finite")
    outside = ((corners < -SLACK) | (corners > 1 + SLACK)).any((1, 2))
    if not outside.any():
        return part.image, np.clip(corners, 0, 1).reshape(-1, 2)
    # Coordinates beyond 0..1 repeat the picture: faces are moved to the first copy that they begin in.
    corners = corners - np.floor(corners.min(1, keepdims=True) + SLACK)
    repeats = np.ceil(corners.max((0, 1)) - SLACK).astype(int).clip(min=1)
    if repeats.max() > MAX_REPEATS:
        raise InputError(
            f"{name}: a face repeats its texture {repeats.max()} times, at most {MAX_REPEATS} are read; "
            "divide the face, or bake the repeated texture"
        )
    image = np.tile(part.image, (repeats[1], repeats[0], 1))
    return image, np.clip(corners / repeats, 0, 1).reshape(-1, 2)
