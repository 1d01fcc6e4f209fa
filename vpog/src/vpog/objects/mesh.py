"""Meshes of objects, in millimetres, with vertex colours or a texture."""

import hashlib
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import cdist

from posecore.errors import InputError

DISTANCE_BLOCK = 1024
"""Points whose distances to all others are in memory at once."""


@dataclass(frozen=True, eq=False)
class MeshTexture:
    """A picture wrapped round a mesh; as in OBJ files uv (0, 0) is its lower left corner, (1, 1) its upper right."""

    image: UInt8[np.ndarray, "th tw 3"]
    uv: Float32[np.ndarray, "t 2"]
    """Inside 0..1."""
    face_uv: Int64[np.ndarray, "f 3"]
    """For each face's corners the row of `uv`."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh; without colours and texture it is drawn grey. Equal only to itself, so that it can be a key."""

    vertices_mm: Float32[np.ndarray, "v 3"]
    faces: Int64[np.ndarray, "f 3"]
    colors: UInt8[np.ndarray, "v 3"] | None = None
    texture: MeshTexture | None = None
    """Takes the place of `colors` where there are both."""


def checked_mesh(mesh: Mesh, name: str) -> Mesh:
    """The mesh itself.

    Raises:
        InputError: No faces, coordinates that are not finite, faces of vertices that are not there, no extent.
    """
    if len(mesh.vertices_mm) == 0 or len(mesh.faces) == 0:
        count = f"{len(mesh.vertices_mm)} vertices and {len(mesh.faces)} faces"
        raise InputError(f"{name}: has {count}; a triangle mesh is needed, not a point cloud")
    finite = np.isfinite(mesh.vertices_mm).all(1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise InputError(f"{name}: vertex {row} is {mesh.vertices_mm[row].tolist()}; coordinates must be finite")
    _check_indices(mesh.faces, len(mesh.vertices_mm), name, "vertices")
    if mesh.texture is not None:
        if len(mesh.texture.face_uv) != len(mesh.faces):
            raise InputError(f"{name}: {len(mesh.texture.face_uv)} of {len(mesh.faces)} faces have a texture")
        _check_indices(mesh.texture.face_uv, len(mesh.texture.uv), name, "texture coordinates")
    if not np.ptp(mesh.vertices_mm, axis=0).max() > 0:
        raise InputError(f"{name}: all {len(mesh.vertices_mm)} vertices are the same point")
    return mesh


def _check_indices(faces: np.ndarray, count: int, name: str, what: str) -> None:
    wrong = ((faces < 0) | (faces >= count)).any(1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(f"{name}: face {row} is {faces[row].tolist()}, but there are {count} {what}")


def mesh_diameter_mm(mesh: Mesh) -> float:
    """Largest distance between two vertices."""
    return largest_distance(mesh.vertices_mm.astype(np.float64))


def largest_distance(points: Float64[np.ndarray, "n 3"]) -> float:
    """Between two of the points, exactly."""
    candidates = _far_points(points)
    blocks = range(0, len(candidates), DISTANCE_BLOCK)
    return float(max(cdist(candidates[first : first + DISTANCE_BLOCK], candidates[first:]).max() for first in blocks))


def _far_points(points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "k 3"]:
    """Those that can be an end of the largest distance: corners of the convex hull, far enough from the middle.

    Where two points are `known` apart and none is farther than `radius` from the middle, both ends of a larger
    distance are at least `known - radius` from it.
    """
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:  # flat or a line: has no volume, so that all points are candidates
        corners = np.unique(points, axis=0)
    distances = np.linalg.norm(corners - (corners.min(0) + corners.max(0)) / 2, axis=1)
    end = corners[distances.argmax()]
    known = np.linalg.norm(corners - end, axis=1).max()
    return np.asarray(corners[distances >= (known - distances.max()) * (1 - 1e-9)])


def mesh_bounds_mm(mesh: Mesh) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
    """Least and largest coordinates."""
    vertices = mesh.vertices_mm.astype(np.float64)
    return vertices.min(0), vertices.max(0)


def mesh_hash(mesh: Mesh) -> str:
    """SHA-256 of all that a picture of the mesh depends on."""
    digest = hashlib.sha256()
    for part in (mesh, mesh.texture):
        for field in fields(part) if part is not None else ():
            value = getattr(part, field.name)
            if isinstance(value, np.ndarray):
                digest.update(f"{field.name} {value.dtype} {value.shape} ".encode())
                digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
