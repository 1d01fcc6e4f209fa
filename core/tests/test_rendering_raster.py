"""Faces, depth and what is read off them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from posecore.errors import InputError
from posecore.rendering import attach_gradients, interpolate, rasterize, visible_points

BACKENDS = ["warp", "torch"]
K = torch.tensor([[[40.0, 0, 15.5], [0, 40.0, 11.5], [0, 0, 1]]])
SIZE = (24, 32)
TRIANGLE = torch.tensor([[[-0.3, -0.2, 1.0], [0.3, -0.2, 1.5], [0.0, 0.25, 2.0]]])
ONE_FACE = torch.tensor([[0, 1, 2]])


def on_screen(pixels, depth=2.0):
    """Camera-frame points (1 n 3) that K puts on these pixels."""
    homogeneous = np.concatenate([np.asarray(pixels, float), np.ones((len(pixels), 1))], axis=1)
    points = depth * homogeneous @ np.linalg.inv(K[0].double().numpy()).T
    return torch.from_numpy(points).float()[None]


@pytest.mark.parametrize("backend", BACKENDS)
@given(seed=st.integers(0, 10**6), snapped=st.booleans(), angle=st.floats(0, 3.2))
def test_no_pixel_falls_between_the_faces_of_a_triangulation(backend, seed, snapped, angle):
    points = np.random.default_rng(seed).uniform(-6, 6, (12, 2))
    points = np.concatenate([points.round() if snapped else points, [[-9, -9], [9, -9], [9, 9], [-9, 9]]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    faces = torch.from_numpy(Delaunay(points).simplices).long()
    face_ids, _, _ = rasterize(on_screen(points @ turn.T + [15, 12]), faces, K, SIZE, backend)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = np.hypot(x - 15, y - 12) < 8.9
    assert (face_ids[0].numpy()[inside] >= 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_barycentrics_and_depth_put_each_pixel_on_its_face_and_under_its_ray(backend):
    raster = rasterize(TRIANGLE, ONE_FACE, K, SIZE, backend)
    points = interpolate(raster, ONE_FACE, TRIANGLE)[0]
    y, x = (raster.face_ids[0] >= 0).nonzero(as_tuple=True)
    assert len(x) > 50
    assert torch.equal(raster.depth[0] < 0, raster.face_ids[0] < 0)
    torch.testing.assert_close(points[y, x, 2], raster.depth[0, y, x])
    projected = points[y, x] @ K[0].T
    torch.testing.assert_close(projected[:, :2] / projected[:, 2:], torch.stack([x, y], 1).float(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_nearer_of_two_faces_is_seen_and_the_lower_number_where_they_coincide(backend):
    vertices = torch.cat([TRIANGLE * 1.2, TRIANGLE, TRIANGLE], dim=1)  # the same outline, farther and twice nearer
    face_ids, _, _ = rasterize(vertices, torch.arange(9).reshape(3, 3), K, SIZE, backend)
    assert set(face_ids.unique().tolist()) == {-1, 1}


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_sides_of_a_face_are_seen(backend):
    front, back = (rasterize(TRIANGLE, ONE_FACE[:, list(o)], K, SIZE, backend) for o in ((0, 1, 2), (0, 2, 1)))
    assert torch.equal(front.face_ids, back.face_ids)
    torch.testing.assert_close(front.depth, back.depth)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("vertices", "why"),
    [
        (TRIANGLE * torch.tensor([1.0, 1.0, -1.0]), "behind the camera"),
        (TRIANGLE - torch.tensor([0.0, 0.0, 1.2]), "through the camera's plane"),
        (torch.tensor([[[0.0, 0.0, 1.0], [0.1, 0.1, 1.0], [0.2, 0.2, 1.0]]]), "without area"),
        (TRIANGLE + torch.tensor([9.0, 0.0, 0.0]), "beside the picture"),
        (torch.full((1, 3, 3), float("nan")), "not a number"),
    ],
)
def test_a_face_that_cannot_be_seen_leaves_the_background(backend, vertices, why):
    raster = rasterize(vertices, ONE_FACE, K, SIZE, backend)
    assert all((part == -1).all() for part in raster), why


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_face_that_reaches_far_out_of_the_picture_covers_all_of_it(backend):
    wide = torch.tensor([[[-1e6, -1e6, 1.0], [1e6, -1e6, 1.0], [0.0, 2e6, 1.0]]])
    assert (rasterize(wide, ONE_FACE, K, SIZE, backend).face_ids == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("batch", "vertices"), [(1, 3), (0, 3), (2, 0)])
def test_no_faces_or_no_batch_give_pictures_of_background(backend, batch, vertices):
    scene = torch.ones(batch, vertices, 3), torch.zeros(0, 3, dtype=torch.int64), K.expand(batch, -1, -1)
    raster = rasterize(*scene, SIZE, backend)
    assert raster.face_ids.shape == (batch, *SIZE)
    assert raster.barycentrics.shape == (batch, *SIZE, 3)
    assert (raster.face_ids == -1).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_face_that_names_a_missing_vertex_is_refused(backend):
    for faces in (torch.tensor([[0, 1, 3]]), torch.tensor([[-1, 0, 1]])):
        with pytest.raises(ValueError, match="faces name vertices"):
            rasterize(TRIANGLE, faces, K, SIZE, backend)


def test_faces_changed_in_place_are_noticed():
    vertices = torch.cat([TRIANGLE, TRIANGLE + torch.tensor([9.0, 0.0, 0.0])], dim=1)
    faces = ONE_FACE.clone()
    assert (rasterize(vertices, faces, K, SIZE).face_ids == 0).any()
    faces += 3
    assert (rasterize(vertices, faces, K, SIZE).face_ids == -1).all()


@pytest.mark.skipif("config.getoption('jaxtyping_packages', None)", reason="jaxtyping refuses them first")
def test_arguments_that_do_not_fit_are_refused_with_their_shapes():
    with pytest.raises(ValueError, match=r"K is \(1, 3, 3\), must be \(2, 3, 3\)"):
        rasterize(TRIANGLE.expand(2, -1, -1), ONE_FACE, K, SIZE)
    with pytest.raises(TypeError, match=r"faces is torch.int32"):
        rasterize(TRIANGLE, ONE_FACE.int(), K, SIZE)
    with pytest.raises(ValueError, match=r"size is \(0, 4\)"):
        rasterize(TRIANGLE, ONE_FACE, K, (0, 4))
    with pytest.raises(TypeError, match=r"'warp' computes in float32"):
        rasterize(TRIANGLE.double(), ONE_FACE, K.double(), SIZE)
    with pytest.raises(ValueError, match="must be one of warp, torch, pytorch3d"):
        rasterize(TRIANGLE, ONE_FACE, K, SIZE, "opengl")


def test_pytorch3d_is_asked_for_by_name_and_missed_with_a_way_out(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"'pytorch3d' is not installed.*or choose 'warp'"):
        rasterize(TRIANGLE, ONE_FACE, K, SIZE, "pytorch3d")


def test_attached_gradients_are_those_of_depth_and_barycentrics():
    vertices, camera = TRIANGLE.double().requires_grad_(), K.double().requires_grad_()
    raster = rasterize(vertices, ONE_FACE, camera, SIZE, "torch")
    y, x = (raster.face_ids[0] >= 0).nonzero(as_tuple=True)

    def some_pixels(vertices, camera):
        _, barycentrics, depth = attach_gradients(raster, vertices, ONE_FACE, camera)
        return barycentrics[0, y[::20], x[::20]], depth[0, y[::20], x[::20]]

    assert torch.autograd.gradcheck(some_pixels, (vertices, camera))
    torch.testing.assert_close(attach_gradients(raster, vertices, ONE_FACE, camera), raster)


@pytest.mark.parametrize("backend", BACKENDS)
def test_points_are_visible_in_front_of_the_surface_inside_the_picture_only(backend):
    wall = on_screen([(-50, -50), (200, -50), (10.5, 200)])  # z = 2, left half of the picture and beyond
    wall[..., 0] -= 0.6
    depth = rasterize(wall, ONE_FACE, K, SIZE, backend).depth
    points = on_screen([(5, 5), (5, 5), (5, 5), (40, 5), (5, 5)]) * torch.tensor([0.9, 1.05, 1.2, 0.5, -1.0])[:, None]
    assert visible_points(points, depth, K, tolerance=0.2).tolist() == [[True, True, False, False, False]]
    empty = torch.full_like(depth, -1.0)
    assert visible_points(points, empty, K, tolerance=0.0).tolist() == [[True, True, True, False, False]]


def test_values_of_face_corners_are_interpolated_through_their_own_table():
    raster = rasterize(TRIANGLE, ONE_FACE, K, SIZE)
    at_vertices = interpolate(raster, ONE_FACE, torch.eye(3)[None])
    at_corners = interpolate(raster, torch.tensor([[2, 0, 1]]), torch.eye(3)[None, [1, 2, 0]])
    torch.testing.assert_close(at_vertices, at_corners)
    assert (at_vertices[raster.face_ids < 0] == 0).all()
