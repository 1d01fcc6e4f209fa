"""The hand's mesh as a closed surface: MANO's is open at the wrist."""

import numpy as np
from jaxtyping import Float, Int


def boundary_loop(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, " n"]:
    """Vertices of the open border in the direction of the faces' edges; empty if the surface is closed.

    Raises:
        ValueError: More than one border, or a border that meets itself.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    count = int(faces.max(initial=-1)) + 1
    inner = np.isin(edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0])
    border = edges[~inner]
    following = dict(border.tolist())
    if len(following) != len(border):
        raise ValueError("the border of the mesh meets itself; expected one loop")
    loop: list[int] = []
    vertex = int(border[0, 0]) if len(border) else -1
    while vertex in following:
        loop.append(vertex)
        vertex = following.pop(vertex)
    if following:
        raise ValueError(f"the mesh has further borders beside one of {len(loop)} edges; expected one loop")
    return np.array(loop, dtype=np.int64)


def close_wrist(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "g 3"]]:
    """The watertight surface: one vertex more, in the middle of the open border, and a fan of faces to it."""
    loop = boundary_loop(faces)
    if not len(loop):
        return vertices, faces
    fan = np.stack([np.roll(loop, -1), loop, np.full_like(loop, len(vertices))], axis=1)
    centre = vertices[loop].mean(axis=0, keepdims=True).astype(vertices.dtype)
    return np.concatenate([vertices, centre]), np.concatenate([faces, fan.astype(faces.dtype)])
