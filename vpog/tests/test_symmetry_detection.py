"""Symmetries found in meshes, against shapes whose symmetries are known."""

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from posecore.errors import InputError
from vpog.objects.mesh import Mesh, MeshTexture
from vpog.objects.models_info import symmetry_transforms
from vpog.objects.symmetry_detection import detect_symmetry, model_info_of

create = trimesh.creation
CENTRE = np.array([5.0, -7.0, 11.0])
TILT = Rotation.from_rotvec([0.7, -0.4, 1.1]).as_matrix()


def moved_box(size, shift):
    return create.box(size, transform=trimesh.transformations.translation_matrix(shift))


def mesh_of(shape, rotation=None, colors=None):
    vertices = shape.vertices @ (np.eye(3) if rotation is None else rotation).T + CENTRE
    return Mesh(vertices.astype(np.float32), np.asarray(shape.faces, dtype=np.int64), colors)


ASYMMETRIC = trimesh.util.concatenate([moved_box((20, 25, 100), (0, 0, 0)), moved_box((60, 20, 20), (35, 5, -40))])


@pytest.mark.parametrize("rotation", [None, TILT], ids=["upright", "tilted"])
@pytest.mark.parametrize(
    ("shape", "num_discrete", "num_continuous"),
    [
        (create.box((60, 80, 120)), 3, 0),
        (create.box((60, 60, 120)), 7, 0),
        (create.cylinder(30, 100, sections=48), 1, 1),
        (create.cone(30, 100, sections=48), 0, 1),
        (create.torus(40, 12), 1, 1),
        (create.icosphere(3, 40), 0, 3),
        (create.cylinder(30, 100, sections=6), 11, 0),
        (create.cylinder(30, 100, sections=3), 5, 0),
        (ASYMMETRIC, 0, 0),
    ],
    ids=[
        "box",
        "square prism",
        "cylinder",
        "cone",
        "torus",
        "ball",
        "hexagonal prism",
        "triangular prism",
        "asymmetric",
    ],
)
def test_known_shapes_have_their_known_symmetries_however_they_lie(shape, num_discrete, num_continuous, rotation):
    discrete, continuous = detect_symmetry(mesh_of(shape, rotation))
    assert (len(discrete), len(continuous)) == (num_discrete, num_continuous)


def test_a_cubes_24_rotations_are_found_about_the_coordinate_axes():
    assert len(detect_symmetry(mesh_of(create.box((60, 60, 60))))[0]) == 23


def test_the_motions_found_take_a_boxs_corners_to_its_corners():
    mesh = mesh_of(create.box((60, 80, 120)), TILT)
    motions = symmetry_transforms(model_info_of(mesh))
    assert len(motions) == 4
    for motion in motions:
        moved = mesh.vertices_mm @ motion[:3, :3].T + motion[:3, 3]
        distances = np.linalg.norm(moved[:, None] - mesh.vertices_mm[None], axis=-1)
        assert distances.min(1).max() < 1e-3
        assert len(set(distances.argmin(1))) == len(moved)


def test_the_axis_of_a_tilted_cylinder_is_found_where_it_is():
    info = model_info_of(mesh_of(create.cylinder(30, 100, sections=48), TILT))
    line = info.symmetries_continuous[0]
    assert abs(line.axis @ TILT[:, 2]) > 1 - 1e-6
    np.testing.assert_allclose(line.offset_mm, CENTRE, atol=1e-3)
    np.testing.assert_allclose(info.diameter_mm, np.hypot(60, 100), rtol=0.01)


def test_a_small_handle_breaks_a_cups_symmetry_unless_the_tolerance_hides_it():
    cup = trimesh.util.concatenate([create.cone(35, 90, sections=48), moved_box((10, 6, 20), (30, 0, 15))])
    assert not model_info_of(mesh_of(cup)).is_symmetric
    assert model_info_of(mesh_of(cup), tolerance=0.3).is_symmetric


def test_colours_break_the_symmetry_of_a_shape():
    shape = create.box((60, 80, 120))
    grey = np.full((len(shape.vertices), 3), 128, np.uint8)
    painted = np.where(shape.vertices[:, 2:] > 0, [200, 30, 30], grey).astype(np.uint8)
    assert len(detect_symmetry(mesh_of(shape, colors=grey))[0]) == 3
    discrete, _ = detect_symmetry(mesh_of(shape, colors=painted))
    np.testing.assert_allclose(discrete[0][:3, :3], np.diag([-1, -1, 1]), atol=1e-12)
    assert len(discrete) == 1


def test_a_texture_breaks_the_symmetry_of_a_shape_and_an_even_one_does_not():
    plain = mesh_of(create.box((60, 80, 120)))
    uv = (plain.vertices_mm[:, [0, 2]] - CENTRE[[0, 2]]) / [60, 120] + 0.5  # seen along y
    image = np.full((64, 64, 3), 90, np.uint8)
    for is_even in (True, False):
        image[: 64 if is_even else 32, :, 0] = 220  # the upper half of the picture is where v and z are large
        texture = MeshTexture(image.copy(), uv.astype(np.float32), plain.faces)
        assert len(detect_symmetry(Mesh(plain.vertices_mm, plain.faces, texture=texture))[0]) == (3 if is_even else 1)
        image[...] = 90


def test_finer_triangles_change_nothing():
    coarse = create.box((60, 80, 120))
    fine = coarse.subdivide().subdivide()
    uneven = fine.copy()
    uneven.faces = uneven.faces[np.random.default_rng(0).permutation(len(uneven.faces))]
    for shape in (fine, uneven):
        assert len(detect_symmetry(mesh_of(shape, TILT))[0]) == 3


def test_meshes_without_area_and_tolerances_of_nothing_are_told():
    flat = Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]]))
    with pytest.raises(InputError, match="no area"):
        detect_symmetry(flat)
    with pytest.raises(InputError, match="must be above 0"):
        detect_symmetry(mesh_of(ASYMMETRIC), tolerance=0.0)
