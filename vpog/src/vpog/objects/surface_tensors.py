"""What the renderer draws of a mesh, prepared once per mesh and device and kept as long as the mesh."""

import threading
import weakref
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from posecore.rendering import Texture
from vpog.objects.creases import split_at_creases
from vpog.objects.mesh import Mesh, MeshTexture, checked_mesh

GREY = 0.7
"""Of a mesh without colours."""
TEXTURE_PX = 1024
"""Longer side of a texture as it is drawn: larger ones flicker in pictures of a few hundred pixels."""


@dataclass(frozen=True)
class Surface:
    """A mesh with vertices doubled at its creases."""

    vertices_mm: Float64[np.ndarray, "v 3"]
    faces: Int64[Tensor, "f 3"]
    look: Float[Tensor, "1 v 3"] | Texture
    """RGB 0..1 at the vertices, or a texture."""


_kept: weakref.WeakKeyDictionary[Mesh, dict[str, Surface]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def surface_of(mesh: Mesh, device: torch.device) -> Surface:
    """
    Raises:
        InputError: As `checked_mesh`.
    """
    with _lock:
        known = _kept.setdefault(mesh, {})
        if str(device) in known:
            return known[str(device)]
    prepared = _prepare(mesh, device)
    with _lock:
        known[str(device)] = prepared
    return prepared


def _prepare(mesh: Mesh, device: torch.device) -> Surface:
    checked_mesh(mesh, "mesh")
    vertices = mesh.vertices_mm.astype(np.float64)
    source, faces = split_at_creases(vertices, mesh.faces)
    return Surface(vertices[source], torch.from_numpy(faces).to(device), _look(mesh, source, device))


def _look(mesh: Mesh, source: Int64[np.ndarray, " k"], device: torch.device) -> Tensor | Texture:
    if mesh.texture is not None:
        return _texture(mesh.texture, device)
    if mesh.colors is None:
        return torch.full((1, len(source), 3), GREY, device=device)
    return torch.from_numpy(mesh.colors[source].astype(np.float32) / 255)[None].to(device)


def _texture(texture: MeshTexture, device: torch.device) -> Texture:
    image = texture.image
    shrink = TEXTURE_PX / max(image.shape[:2])
    if shrink < 1:
        size = (max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    rgb = torch.from_numpy(np.asarray(image, np.float32) / 255)[None]
    return Texture(
        rgb.to(device), torch.from_numpy(texture.uv).to(device), torch.from_numpy(texture.face_uv).to(device)
    )
