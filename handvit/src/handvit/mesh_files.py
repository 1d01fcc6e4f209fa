"""Meshes as files that other programs open. In metres, as most of them expect; the header says so."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

COMMENT = "handvit: metres, camera frame of OpenCV (x right, y down, z forward)"


def write_obj(path: Path, vertices_m: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], label: str = "") -> None:
    """Wavefront OBJ; its faces count vertices from 1."""
    lines = [f"# {COMMENT}", f"# {label}"] if label else [f"# {COMMENT}"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices_m.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (faces + 1).tolist()]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def write_ply(path: Path, vertices_m: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], label: str = "") -> None:
    """Binary PLY, little-endian."""
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {text}" for text in (COMMENT, label) if text),
        f"element vertex {len(vertices_m)}",
        *(f"property float {axis}" for axis in "xyz"),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    corners = np.empty(len(faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    corners["count"], corners["corners"] = 3, faces
    text = "\n".join(header) + "\n"
    path.write_bytes(text.encode("ascii") + vertices_m.astype("<f4").tobytes() + corners.tobytes())
