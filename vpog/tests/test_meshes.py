"""Mesh files: what is read, what is refused, and that nothing is read wrongly in silence."""

from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.distance import pdist

from posecore.errors import InputError
from vpog.objects.mesh import Mesh, MeshTexture, checked_mesh, largest_distance, mesh_diameter_mm, mesh_hash
from vpog.objects.meshes import read_mesh, write_mesh
from vpog.objects.units import mm_per_unit


def box(extents: tuple[float, float, float] = (100, 60, 40)) -> trimesh.Trimesh:
    return trimesh.creation.box(extents)


def colored_box() -> Mesh:
    shape = box()
    colors = np.random.default_rng(0).integers(0, 256, (len(shape.vertices), 3), dtype=np.uint8)
    return Mesh(shape.vertices.astype(np.float32), shape.faces.astype(np.int64), colors)


def textured_box() -> Mesh:
    """Each face has the whole picture, so that vertices have several coordinates."""
    shape = box()
    image = np.random.default_rng(1).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    uv = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    texture = MeshTexture(image, uv, np.tile(np.arange(3), (len(shape.faces), 1)))
    return Mesh(shape.vertices.astype(np.float32), shape.faces.astype(np.int64), texture=texture)


def corner_uv(mesh: Mesh) -> np.ndarray:
    assert mesh.texture is not None
    return mesh.texture.uv[mesh.texture.face_uv]


def write_obj(folder: Path, materials: dict[str, str], uv: str = "vt 0 0\nvt 1 0\nvt 0 1\n") -> Path:
    """One triangle of 100 mm for each material, given as lines of an .mtl file, one above the other."""
    (folder / "m.mtl").write_text("".join(f"newmtl {name}\n{text}\n" for name, text in materials.items()))
    places = "".join(f"v 0 0 {i}\nv 100 0 {i}\nv 0 100 {i}\n" for i in range(len(materials)))
    faces = "".join(f"usemtl {name}\nf {3 * i + 1}/1 {3 * i + 2}/2 {3 * i + 3}/3\n" for i, name in enumerate(materials))
    path = folder / "object.obj"
    path.write_text(f"mtllib m.mtl\n{places}{uv}{faces}")
    return path


def test_a_mesh_with_vertex_colours_comes_back_from_its_file(tmp_path: Path) -> None:
    mesh = colored_box()
    write_mesh(tmp_path / "obj_000001.ply", mesh)
    back = read_mesh(tmp_path / "obj_000001.ply")
    np.testing.assert_array_equal(back.vertices_mm, mesh.vertices_mm)
    np.testing.assert_array_equal(back.faces, mesh.faces)
    np.testing.assert_array_equal(back.colors, mesh.colors)
    assert back.texture is None


def test_a_mesh_with_a_texture_comes_back_corner_by_corner(tmp_path: Path) -> None:
    mesh = textured_box()
    write_mesh(tmp_path / "obj_000001.ply", mesh)
    back = read_mesh(tmp_path / "obj_000001.ply")
    assert back.texture is not None
    assert mesh.texture is not None
    np.testing.assert_array_equal(back.texture.image, mesh.texture.image)
    np.testing.assert_array_equal(back.vertices_mm[back.faces], mesh.vertices_mm[mesh.faces])
    np.testing.assert_allclose(corner_uv(back), corner_uv(mesh), atol=1e-6)


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb"])
def test_files_of_an_independent_writer_are_read(tmp_path: Path, suffix: str) -> None:
    shape = box()
    path = tmp_path / f"box.{suffix}"
    path.write_bytes(content.encode() if isinstance(content := shape.export(file_type=suffix), str) else content)
    mesh = read_mesh(path)
    np.testing.assert_allclose(mesh.vertices_mm[mesh.faces], shape.vertices[shape.faces], atol=1e-4)
    assert mesh_diameter_mm(mesh) == pytest.approx(np.sqrt(100**2 + 60**2 + 40**2), rel=1e-6)


def test_an_ascii_file_is_the_binary_one(tmp_path: Path) -> None:
    shape = box()
    shape.visual.vertex_colors = np.random.default_rng(0).integers(0, 256, (8, 4))
    for encoding in ("ascii", "binary"):
        (tmp_path / f"{encoding}.ply").write_bytes(trimesh.exchange.ply.export_ply(shape, encoding=encoding))
    ascii_mesh, binary = (read_mesh(tmp_path / f"{encoding}.ply") for encoding in ("ascii", "binary"))
    np.testing.assert_allclose(ascii_mesh.vertices_mm, binary.vertices_mm, atol=1e-4)
    np.testing.assert_array_equal(ascii_mesh.faces, binary.faces)
    np.testing.assert_array_equal(ascii_mesh.colors, binary.colors)
    np.testing.assert_array_equal(binary.colors, shape.visual.vertex_colors[:, :3])


def test_the_texture_of_a_glb_file_is_read(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    uv = np.random.default_rng(2).uniform(0, 1, (8, 2))
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(image))
    shape = box()
    shape.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    (tmp_path / "box.glb").write_bytes(shape.export(file_type="glb"))
    mesh = read_mesh(tmp_path / "box.glb")
    assert mesh.texture is not None
    np.testing.assert_array_equal(mesh.texture.image, image)
    np.testing.assert_allclose(corner_uv(mesh), uv[shape.faces], atol=1e-5)


def texels(mesh: Mesh, face: int) -> np.ndarray:
    """Colour at each corner of a face, drawn a little towards its middle."""
    assert mesh.texture is not None
    corners = corner_uv(mesh)[face]
    uv = 0.98 * corners + 0.02 * corners.mean(0)
    height, width = mesh.texture.image.shape[:2]
    columns, rows = (uv[:, 0] * width).astype(int), ((1 - uv[:, 1]) * height).astype(int)
    return mesh.texture.image[rows, columns]


def face_at(mesh: Mesh, z: float) -> int:
    """Of a file of `write_obj`."""
    return int(np.flatnonzero((mesh.vertices_mm[mesh.faces][..., 2] == z).all(1))[0])


def quarters(path: Path, seed: int) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(image).save(path)
    return image


def test_each_material_of_a_file_keeps_its_own_picture(tmp_path: Path) -> None:
    first, second = quarters(tmp_path / "first.png", 0), quarters(tmp_path / "second.png", 1)
    path = write_obj(tmp_path, {"a": "map_Kd first.png", "b": "map_Kd second.png", "c": "Kd 0 0 1"})
    mesh = read_mesh(path)
    for place, image in enumerate((first, second)):
        np.testing.assert_array_equal(texels(mesh, face_at(mesh, place)), image[[-1, -1, 0], [0, -1, 0]])
    np.testing.assert_array_equal(texels(mesh, face_at(mesh, 2)), np.tile([0, 0, 255], (3, 1)))


def test_texture_coordinates_beyond_the_picture_repeat_it(tmp_path: Path) -> None:
    image = quarters(tmp_path / "first.png", 0)
    shifted = read_mesh(write_obj(tmp_path, {"a": "map_Kd first.png"}, uv="vt -2 3\nvt -1 3\nvt -2 4\n"))
    np.testing.assert_array_equal(texels(shifted, 0), image[[-1, -1, 0], [0, -1, 0]])
    twice = read_mesh(write_obj(tmp_path, {"a": "map_Kd first.png"}, uv="vt 0 0\nvt 2 0\nvt 0 3\n"))
    assert twice.texture is not None
    np.testing.assert_array_equal(twice.texture.image, np.tile(image, (3, 2, 1)))
    np.testing.assert_allclose(corner_uv(twice)[0], [[0, 0], [1, 0], [0, 1]], atol=1e-6)
    with pytest.raises(InputError, match="repeats its texture 50 times"):
        read_mesh(write_obj(tmp_path, {"a": "map_Kd first.png"}, uv="vt 0 0\nvt 50 0\nvt 0 1\n"))


def test_a_material_without_picture_colours_its_faces(tmp_path: Path) -> None:
    mesh = read_mesh(write_obj(tmp_path, {"a": "Kd 1 0 0", "b": "Kd 0 1 0"}))
    assert mesh.colors is not None
    np.testing.assert_array_equal(mesh.colors[mesh.faces[face_at(mesh, 0)]], np.tile([255, 0, 0], (3, 1)))
    np.testing.assert_array_equal(mesh.colors[mesh.faces[face_at(mesh, 1)]], np.tile([0, 255, 0], (3, 1)))


@pytest.mark.parametrize("text", ["map_Kd lost.png", "map_Kd -s 1 1 1 lost.png"])
def test_a_texture_that_is_not_there_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"object\.obj: names lost\.png, which is not at .*lost\.png"):
        read_mesh(write_obj(tmp_path, {"a": text}))
    write_mesh(tmp_path / "box.ply", textured_box())
    (tmp_path / "box.png").unlink()
    with pytest.raises(InputError, match=r"box\.ply: names box\.png"):
        read_mesh(tmp_path / "box.ply")


def written(folder: Path, scale: float) -> Path:
    mesh = colored_box()
    path = folder / f"scaled_{scale}.ply"
    write_mesh(path, Mesh(mesh.vertices_mm * np.float32(scale), mesh.faces, mesh.colors))
    return path


def test_a_file_in_metres_is_read_in_millimetres(tmp_path: Path) -> None:
    for unit in ("auto", "m"):
        mesh = read_mesh(written(tmp_path, 0.001), unit)
        np.testing.assert_allclose(mesh.vertices_mm, colored_box().vertices_mm, rtol=1e-5)


def test_a_size_that_fits_both_units_is_refused_and_the_diameter_settles_it(tmp_path: Path) -> None:
    path = written(tmp_path, 0.1)  # 12.3: millimetres or, as many would guess, centimetres
    with pytest.raises(InputError, match=r"would be 12\.33 mm or 1\.233e\+04 mm if it is in metres.*Give the unit"):
        read_mesh(path)
    assert mesh_diameter_mm(read_mesh(path, "mm")) == pytest.approx(12.33, abs=0.01)
    assert mesh_diameter_mm(read_mesh(path, diameter_mm=12.4)) == pytest.approx(12.33, abs=0.01)
    assert mesh_diameter_mm(read_mesh(path, diameter_mm=12400.0)) == pytest.approx(12330, abs=10)
    with pytest.raises(InputError, match=r"diameter is 12\.33, read as mm or m, but models_info\.json says 123 mm"):
        read_mesh(path, diameter_mm=123.0)
    with pytest.raises(InputError, match="read as m, but"):
        read_mesh(path, "m", diameter_mm=12.4)


@pytest.fixture
def own_checks_only() -> Iterator[None]:
    """A function's own checks alone, also in a run that checks annotations (`--jaxtyping-packages`)."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_a_unit_that_is_not_read_is_refused(tmp_path: Path, own_checks_only: None) -> None:
    with pytest.raises(InputError, match="mesh unit: is 'cm'; auto, mm or m is needed"):
        read_mesh(written(tmp_path, 0.1), "cm")  # type: ignore[arg-type]


@given(diameter_mm=st.floats(30, 790))
def test_the_unit_of_an_object_of_a_hand_to_a_chair_is_told_from_its_size(diameter_mm: float) -> None:
    assert mm_per_unit("x", diameter_mm, "auto") == 1.0
    assert mm_per_unit("x", diameter_mm / 1000, "auto") == 1000.0


def test_what_is_no_mesh_is_refused_by_name(tmp_path: Path) -> None:
    def refused(name: str, content: bytes | None, match: str) -> None:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=match):
            read_mesh(path)

    refused("none.ply", None, r"none\.ply: no such mesh file")
    refused("empty.ply", b"", r"empty\.ply: is empty")
    refused("mesh.stl", b"solid", r"mesh\.stl: \.stl is not read as a mesh")
    refused("garbage.ply", b"\x00\x01garbage", r"garbage\.ply: cannot be read as \.ply")
    refused("garbage.glb", b"\x00\x01garbage", r"garbage\.glb: cannot be read as \.glb")
    cloud = (
        b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    refused("cloud.ply", cloud + b"0 0 0\n1 1 1\n", r"cloud\.ply: has no faces")
    whole = written(tmp_path, 1.0).read_bytes()
    refused("cut.ply", whole[: len(whole) * 2 // 3], r"cut\.ply: cannot be read")
    bad = b"v 0 0 0\nv 100 nan 0\nv 0 100 0\nf 1 2 3\n"
    refused("nan.obj", bad, r"nan\.obj: vertex \d is .*nan.*finite")


def test_broken_arrays_are_told_row_by_row() -> None:
    mesh = colored_box()
    with pytest.raises(InputError, match=r"x: face 0 is \[0, 1, 8\], but there are 8 vertices"):
        checked_mesh(Mesh(mesh.vertices_mm, np.array([[0, 1, 8]])), "x")
    with pytest.raises(InputError, match="all 8 vertices are the same point"):
        checked_mesh(Mesh(mesh.vertices_mm * 0, mesh.faces), "x")
    image = np.zeros((2, 2, 3), np.uint8)
    texture = MeshTexture(image, np.zeros((3, 2), np.float32), np.array([[0, 1, 2]]))
    with pytest.raises(InputError, match="1 of 12 faces have a texture"):
        checked_mesh(Mesh(mesh.vertices_mm, mesh.faces, texture=texture), "x")


@given(seed=st.integers(0, 10_000), count=st.integers(2, 60), flat=st.booleans())
def test_the_diameter_is_the_largest_distance_of_any_two_points(seed: int, count: int, flat: bool) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    points[:, 2] *= not flat
    assert largest_distance(points) == pytest.approx(pdist(points).max(), rel=1e-12)


def test_the_hash_changes_with_every_array() -> None:
    mesh = colored_box()
    assert mesh.colors is not None
    others = [
        Mesh(mesh.vertices_mm + np.float32(1e-3), mesh.faces, mesh.colors),
        Mesh(mesh.vertices_mm, mesh.faces[::-1], mesh.colors),
        Mesh(mesh.vertices_mm, mesh.faces, mesh.colors ^ 1),
        Mesh(mesh.vertices_mm, mesh.faces),
        textured_box(),
    ]
    assert len({mesh_hash(each) for each in [mesh, *others]}) == 6
    assert mesh_hash(colored_box()) == mesh_hash(mesh)
