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


def close_wrist(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "g 3"]:
    """Faces of the watertight surface: the given ones, and a strip across the open border. No vertex is added.

    The strip runs from edge to edge along the shorter diagonals, so that it stays flat where the border is. A closed
    surface comes back as it is.
    """
    loop = boundary_loop(faces)[::-1]
    low, high = 0, len(loop) - 1
    strip: list[list[int]] = []
    while high - low > 1:
        from_low, from_high = (vertices[loop[a]] - vertices[loop[b]] for a, b in ((low, high - 1), (low + 1, high)))
        if np.square(from_low).sum() < np.square(from_high).sum():
            strip.append([loop[low], loop[high - 1], loop[high]])
            high -= 1
        else:
            strip.append([loop[low], loop[low + 1], loop[high]])
            low += 1
    return np.concatenate([faces, np.array(strip, dtype=faces.dtype).reshape(-1, 3)])
