"""Vertices doubled along sharp edges, so that interpolated normals are smooth on curves and sharp at corners."""

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

SHARP_DEG = 40.0
"""Between the normals of two faces: more than a cylinder of ten sides has."""


def split_at_creases(
    vertices: Float64[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"], sharp_deg: float = SHARP_DEG
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, "f 3"]]:
    """Which old vertex each new one is, and the faces of new vertices.

    Corners of faces at one place share a vertex where a chain of smooth edges joins them; places are compared, not
    indices, so that a mesh cut at the seams of its texture is smooth across them.
    """
    _, place = np.unique(vertices, axis=0, return_inverse=True)
    placed = place.reshape(-1)[faces]
    a, b = _smooth_corner_pairs(placed, _unit_normals(vertices[faces]), np.cos(np.deg2rad(sharp_deg)))
    links = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(faces.size, faces.size))
    count, corner = connected_components(links, directed=False)
    source = np.empty(count, np.int64)
    source[corner] = faces.reshape(-1)
    return source, corner.reshape(-1, 3).astype(np.int64)


def _unit_normals(triangles: Float64[np.ndarray, "f 3 3"]) -> Float64[np.ndarray, "f 3"]:
    """Zero for a face without area."""
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0))


def _smooth_corner_pairs(
    placed: Int64[np.ndarray, "f 3"], normals: Float64[np.ndarray, "f 3"], least_cosine: float
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Corners (face * 3 + k) that meet at either end of an edge between two faces of similar normals.

    Two faces that run along the edge the same way are wound differently: their normals would cancel, so it is sharp.
    """
    starts = np.arange(placed.size)
    ends = starts.reshape(-1, 3)[:, [1, 2, 0]].reshape(-1)
    flat = placed.reshape(-1)
    swapped = flat[starts] > flat[ends]
    low, high = np.where(swapped, ends, starts), np.where(swapped, starts, ends)
    order = np.lexsort((flat[high], flat[low]))
    low, high, swapped = low[order], high[order], swapped[order]
    same = (flat[low][1:] == flat[low][:-1]) & (flat[high][1:] == flat[high][:-1])
    cosine = (normals[low[1:] // 3] * normals[low[:-1] // 3]).sum(1)
    smooth = same & (swapped[1:] != swapped[:-1]) & (cosine >= least_cosine)
    return np.concatenate([low[1:][smooth], high[1:][smooth]]), np.concatenate([low[:-1][smooth], high[:-1][smooth]])
