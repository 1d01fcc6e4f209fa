"""Reading and writing mesh files: .ply, .obj and .glb."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from posecore.data.images import encode_png
from posecore.errors import InputError
from vpog.objects.mesh import (
    Mesh,
    MeshTexture,
    checked_mesh,
    largest_distance,
    mesh_bounds_mm,
    mesh_diameter_mm,
    mesh_hash,
)
from vpog.objects.surfaces import Part, joined
from vpog.objects.units import Unit, mm_per_unit

FORMATS = (".ply", ".obj", ".glb")
PLY_HEADER_BYTES = 1 << 16


def read_mesh(path: Path, unit: Unit = "auto", diameter_mm: float | None = None) -> Mesh:
    """A mesh in millimetres, with its vertex colours or its texture.

    Axes and origin are those of the file; polygons become triangles, parts become one mesh.

    Args:
        path: A .ply (ascii or binary), .obj (with its .mtl) or .glb file.
        unit: What the file is written in; "auto" decides by the size and refuses where that is ambiguous.
        diameter_mm: Of the object where it is known (models_info.json); decides the unit, and is checked.

    Raises:
        InputError: No such file, another format, damaged, no faces, not finite, a missing texture, unclear unit.
    """
    path = Path(path)
    name = str(path)
    _check_file(path)
    mesh = joined([_part(geometry, name) for geometry in _geometries(path)], name)
    checked_mesh(mesh, name)
    scale = mm_per_unit(name, largest_distance(mesh.vertices_mm.astype(np.float64)), unit, diameter_mm)
    vertices = (mesh.vertices_mm.astype(np.float64) * scale).astype(np.float32)
    return Mesh(vertices, mesh.faces, mesh.colors, mesh.texture)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: no such mesh file")
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: {path.suffix or 'no suffix'} is not read as a mesh; {', '.join(FORMATS)} are")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty")
    for companion in _companions(path):
        if not companion.is_file():
            raise InputError(
                f"{path}: names {companion.name}, which is not at {companion}; put it there, or take the line out"
            )


def _companions(path: Path) -> list[Path]:
    """Files that this one names: trimesh leaves a missing texture out without a word."""
    if path.suffix.lower() == ".ply":
        with path.open("rb") as file:
            header = file.read(PLY_HEADER_BYTES).partition(b"end_header")[0].decode("latin-1")
        return [path.parent / name.strip() for name in re.findall(r"(?m)^comment TextureFile (.+)$", header)]
    if path.suffix.lower() == ".obj":
        with path.open(encoding="utf-8", errors="replace") as lines:
            named = [line.split(maxsplit=1)[1].strip() for line in lines if line.startswith("mtllib ")]
        materials = [path.parent / name for name in named]
        return materials + [texture for file in materials if file.is_file() for texture in _textures_of(file)]
    return []


def _textures_of(material: Path) -> list[Path]:
    text = material.read_text(encoding="utf-8", errors="replace")
    options = re.findall(r"(?m)^\s*map_Kd\s+(.+?)\s*$", text)
    return [material.parent / re.sub(r"^(?:-\w+(?:\s+-?[\d.]+)*\s+)+", "", name) for name in options]


def _geometries(path: Path) -> list[Any]:
    try:
        placed = _placed(trimesh.load_scene(path, process=False))
    except Exception as error:  # its loaders raise whatever the parsing tripped over
        raise InputError(f"{path}: cannot be read as {path.suffix.lower()}: {error or type(error).__name__}") from None
    meshes = [geometry for geometry in placed if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces)]
    if not meshes:
        raise InputError(f"{path}: has no faces; a triangle mesh is needed, not a point cloud")
    return meshes


def _placed(scene: trimesh.Scene) -> list[Any]:
    """In the order of their names: that of the scene's graph differs from process to process."""
    placed = []
    for node in sorted(scene.graph.nodes_geometry):
        transform, name = scene.graph[node]
        geometry = scene.geometry[name].copy()
        placed.append(geometry.apply_transform(transform))
    return placed


def _part(geometry: Any, name: str) -> Part:
    vertices, faces = np.asarray(geometry.vertices, np.float64), np.asarray(geometry.faces, np.int64)
    visual = geometry.visual
    if visual.kind == "vertex":
        return Part(vertices, faces, colors=np.asarray(visual.vertex_colors)[:, :3].astype(np.uint8))
    if visual.kind == "face":  # each face has its own corners then
        colors = np.repeat(np.asarray(visual.face_colors)[:, :3].astype(np.uint8), 3, axis=0)
        return Part(vertices[faces.reshape(-1)], np.arange(faces.size).reshape(-1, 3), colors=colors)
    if visual.kind != "texture":
        return Part(vertices, faces)
    material = visual.material
    picture = getattr(material, "image", None)
    picture = getattr(material, "baseColorTexture", None) if picture is None else picture
    if picture is None:
        return Part(vertices, faces, flat_color=np.asarray(material.main_color, np.uint8)[:3])
    if visual.uv is None:
        raise InputError(f"{name}: has a texture but no texture coordinates")
    return Part(vertices, faces, image=np.asarray(picture.convert("RGB")), uv=np.asarray(visual.uv, np.float64)[:, :2])


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Binary PLY in millimetres; a texture becomes a PNG beside it, as the models of BOP have it.

    Vertices whose corners have several texture coordinates are written once for each of these.

    Raises:
        InputError: Not a .ply name, or a mesh that `read_mesh` would refuse.
    """
    path = Path(path)
    if path.suffix.lower() != ".ply":
        raise InputError(f"{path}: meshes are written as .ply")
    checked_mesh(mesh, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, np.ndarray] = {}
    vertices, faces, comments = mesh.vertices_mm, mesh.faces, ["millimetres"]
    if mesh.texture is not None:
        picture = path.with_suffix(".png")
        picture.write_bytes(encode_png(mesh.texture.image))
        vertices, faces, uv = _split_at_seams(mesh, mesh.texture)
        columns = {"texture_u": uv[:, 0], "texture_v": uv[:, 1]}
        comments.append(f"TextureFile {picture.name}")
    elif mesh.colors is not None:
        columns = dict(zip(("red", "green", "blue"), mesh.colors.T, strict=True))
    path.write_bytes(_ply(vertices, faces, columns, comments))


def _split_at_seams(mesh: Mesh, texture: MeshTexture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pairs = np.stack([mesh.faces.reshape(-1), texture.face_uv.reshape(-1)], 1)
    coordinates = texture.uv[pairs[:, 1]]
    keys = np.column_stack([pairs[:, 0].astype(np.float64), coordinates])
    _, first, corner = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return mesh.vertices_mm[pairs[first, 0]], corner.reshape(-1, 3), coordinates[first]


def _ply(vertices: np.ndarray, faces: np.ndarray, columns: dict[str, np.ndarray], comments: list[str]) -> bytes:
    types = {"<f4": "float", "|u1": "uchar"}
    rows = {**dict(zip("xyz", vertices.astype("<f4").T, strict=True)), **columns}
    table = np.empty(len(vertices), [(name, values.dtype.str) for name, values in rows.items()])
    for name, values in rows.items():
        table[name] = values
    corners = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    corners["count"], corners["corners"] = 3, faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {text}" for text in comments),
        f"element vertex {len(vertices)}",
        *(f"property {types[values.dtype.str]} {name}" for name, values in rows.items()),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    return "\n".join(header).encode("ascii") + table.tobytes() + corners.tobytes()


__all__ = ["Mesh", "MeshTexture", "Unit", "mesh_bounds_mm", "mesh_diameter_mm", "mesh_hash", "read_mesh", "write_mesh"]
