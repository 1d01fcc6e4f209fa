"""Pictures of meshes against closed forms, and the vertices that are doubled at creases."""

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posecore.errors import InputError
from posecore.rendering import Light
from vpog.objects import rendering
from vpog.objects.creases import split_at_creases
from vpog.objects.mesh import Mesh, MeshTexture
from vpog.objects.rendering import Z_NEAR_MM, render, render_depth, render_scene

SIZE = (60, 80)
K = np.array([[100.0, 0.0, 40.0], [0.0, 100.0, 30.0], [0.0, 0.0, 1.0]])


def mesh_of(shape: trimesh.Trimesh, color: tuple[int, int, int] | None = None) -> Mesh:
    colors = None if color is None else np.tile(np.array(color, np.uint8), (len(shape.vertices), 1))
    return Mesh(shape.vertices.astype(np.float32), shape.faces.astype(np.int64), colors)


def box(color: tuple[int, int, int] | None = None, half: float = 50.0) -> Mesh:
    return mesh_of(trimesh.creation.box((2 * half,) * 3), color)


def pose(x: float, y: float, z: float, rotation: np.ndarray | None = None) -> np.ndarray:
    result = np.eye(4)
    result[:3, 3] = x, y, z
    if rotation is not None:
        result[:3, :3] = rotation
    return result


def rays() -> np.ndarray:
    """(h, w, 3), z = 1."""
    columns, rows = np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0]))
    return np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(K).T


def box_depth(cam_from_obj: np.ndarray, half: float) -> np.ndarray:
    """z of the nearest point of a box on each pixel's ray, by slabs; 0 where it misses."""
    directions = rays() @ cam_from_obj[:3, :3]
    origin = -cam_from_obj[:3, :3].T @ cam_from_obj[:3, 3]
    with np.errstate(divide="ignore"):
        ends = np.stack([(-half - origin) / directions, (half - origin) / directions])
    enters, leaves = ends.min(0).max(-1), ends.max(0).min(-1)
    return np.where(enters <= leaves, enters, 0)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_depth_and_mask_of_a_turned_box_are_where_the_rays_hit_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    placed = pose(*rng.uniform(-60, 60, 2), rng.uniform(300, 600), Rotation.random(random_state=seed).as_matrix())
    drawn = render(box(), placed[None], K[None], SIZE)
    expected = box_depth(placed, 50.0)
    both = drawn.mask[0] & (expected > 0)
    np.testing.assert_allclose(drawn.depth_mm[0][both], expected[both], rtol=1e-4)
    assert (drawn.mask[0] != (expected > 0)).sum() <= 1  # a ray along an edge
    np.testing.assert_array_equal(drawn.depth_mm > 0, drawn.mask)
    np.testing.assert_array_equal(render_depth(box(), placed[None], K[None], SIZE), drawn.depth_mm)
    assert not drawn.rgb[~drawn.mask].any()


def test_a_square_covers_exactly_the_pixels_whose_centres_it_holds() -> None:
    half = 10.4 * 300 / 100  # 10.4 px around (40, 30)
    drawn = render(box(half=half), pose(0, 0, 300 + half)[None], K[None], SIZE)
    rows, columns = np.nonzero(drawn.mask[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 40, 30, 50)
    assert drawn.mask[0].sum() == 21 * 21


def test_a_plane_towards_the_lamp_has_its_colour_times_ambient_and_diffuse() -> None:
    light = Light(ambient=0.3, diffuse=0.5, direction_cam=torch.tensor([[0.0, 0.0, -1.0]]))
    drawn = render(box((200, 100, 50)), pose(0, 0, 400)[None], K[None], SIZE, light=light)
    np.testing.assert_array_equal(drawn.rgb[0, 30, 40], np.rint(0.8 * np.array([200, 100, 50])))
    from_behind = Light(ambient=0.3, diffuse=0.5, direction_cam=torch.tensor([[0.0, 0.0, 1.0]]))
    drawn = render(box((200, 100, 50)), pose(0, 0, 400)[None], K[None], SIZE, light=from_behind)
    np.testing.assert_array_equal(drawn.rgb[0, 30, 40], np.rint(0.3 * np.array([200, 100, 50])))


def test_each_face_of_a_box_has_one_brightness() -> None:
    turned = Rotation.from_euler("xyz", [0.6, 0.5, 0.2]).as_matrix()
    light = Light(direction_cam=torch.tensor([[0.3, -0.5, -1.0]]))
    drawn = render(box((200, 200, 200)), pose(0, 0, 300, turned)[None], K[None], SIZE, light=light)
    assert len(np.unique(drawn.rgb[drawn.mask], axis=0)) == 3


def test_a_texture_is_drawn_where_its_coordinates_say() -> None:
    vertices = np.array([[-50, -50, 0], [50, -50, 0], [50, 50, 0], [-50, 50, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20, :20], image[20:, 20:] = (255, 0, 0), (0, 0, 255)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)  # y runs down in the camera, v up in the picture
    mesh = Mesh(vertices, faces, texture=MeshTexture(image, uv, faces))
    drawn = render(mesh, pose(0, 0, 250)[None], K[None], SIZE, light=Light(1.0, 0.0)).rgb[0]
    assert drawn[20, 30].tolist() == [255, 0, 0]
    assert drawn[40, 50].tolist() == [0, 0, 255]
    assert drawn[20, 50].tolist() == [0, 0, 0]


def test_both_backends_draw_the_same() -> None:
    mesh = mesh_of(trimesh.creation.icosphere(2, 60.0), (90, 160, 230))
    poses, cameras = np.stack([pose(0, 0, 300), pose(40, -30, 500)]), np.tile(K, (2, 1, 1))
    warp, plain = (render(mesh, poses, cameras, SIZE, backend=backend) for backend in ("warp", "torch"))
    np.testing.assert_array_equal(warp.mask, plain.mask)
    np.testing.assert_allclose(warp.depth_mm, plain.depth_mm, rtol=1e-5)
    assert np.abs(warp.rgb.astype(int) - plain.rgb).max() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_what_the_processor_draws() -> None:
    mesh = mesh_of(trimesh.creation.icosphere(2, 60.0), (90, 160, 230))
    poses, cameras = np.stack([pose(0, 0, 300), pose(40, -30, 500)]), np.tile(K, (2, 1, 1))
    here, there = (render(mesh, poses, cameras, SIZE, device=device) for device in ("cpu", "cuda"))
    assert (here.mask != there.mask).sum() <= 2
    both = here.mask & there.mask
    np.testing.assert_allclose(here.depth_mm[both], there.depth_mm[both], rtol=1e-5)
    assert np.abs(here.rgb[both].astype(int) - there.rgb[both]).max() <= 1


def test_pictures_do_not_depend_on_how_many_are_drawn_together(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = mesh_of(trimesh.creation.icosphere(2, 60.0), (90, 160, 230))
    poses = np.stack([pose(x, 20 - x, 300 + 5 * x) for x in range(-80, 81, 20)])
    cameras = np.tile(K, (len(poses), 1, 1))
    together = render(mesh, poses, cameras, SIZE)
    monkeypatch.setattr(rendering, "PIXELS_AT_ONCE", {"cpu": 1})
    monkeypatch.setattr(rendering, "CORNERS_AT_ONCE", 1)
    alone = render(mesh, poses, cameras, SIZE)
    assert (together.mask != alone.mask).sum() <= 2
    same = together.mask & alone.mask
    np.testing.assert_allclose(together.depth_mm[same], alone.depth_mm[same], rtol=1e-5)
    assert np.abs(together.rgb[same].astype(int) - alone.rgb[same]).max() <= 1


@pytest.mark.parametrize("place", [(10_000, 0, 300), (0, -10_000, 300), (0, 0, -300), (0, 0, 0)])
def test_a_mesh_outside_the_picture_or_around_the_camera_shows_nothing(place: tuple[float, float, float]) -> None:
    sphere = mesh_of(trimesh.creation.icosphere(1, 0.5 * Z_NEAR_MM))
    drawn = render(sphere, pose(*place)[None], K[None], SIZE)
    assert not drawn.mask.any()
    assert not drawn.rgb.any()
    assert not drawn.depth_mm.any()


def test_of_a_mesh_that_leaves_the_picture_the_rest_is_seen() -> None:
    placed = pose(-150, 0, 400)
    drawn = render(box(), placed[None], K[None], SIZE)
    assert drawn.mask[0, :, 0].any()
    np.testing.assert_array_equal(drawn.mask[0], box_depth(placed, 50.0) > 0)


def test_in_a_scene_the_nearest_is_seen_and_every_silhouette_is_whole() -> None:
    red, green, blue = box((255, 0, 0)), box((0, 255, 0), 30.0), box((0, 0, 255), 20.0)
    poses = np.stack([pose(0, 0, 600), pose(31.3, 11.7, 400), pose(2000, 0, 400)])
    scene = render_scene([red, green, blue], poses, K, SIZE)
    depths = np.stack([box_depth(p, h) for p, h in zip(poses, (50.0, 30.0, 20.0), strict=True)])
    np.testing.assert_array_equal(scene.masks, depths > 0)
    expected = np.where(depths > 0, depths, np.inf).argmin(0)
    covered = (depths > 0).any(0)
    np.testing.assert_array_equal(scene.instance_ids, np.where(covered, expected, -1))
    np.testing.assert_allclose(
        scene.depth_mm, np.where(covered, np.where(depths > 0, depths, np.inf).min(0), 0), rtol=1e-4
    )
    assert not scene.masks[2].any()
    assert (scene.rgb[scene.instance_ids == 1] > 0).sum(0).tolist()[::2] == [0, 0]
    turned_round = render_scene([green, red], poses[[1, 0]], K, SIZE)
    np.testing.assert_array_equal(turned_round.rgb, scene.rgb)
    assert not render_scene([], np.zeros((0, 4, 4)), K, SIZE).rgb.any()
    with pytest.raises(ValueError, match="1 meshes have 2 poses"):
        render_scene([red], poses[:2], K, SIZE)


def test_a_mesh_that_cannot_be_drawn_is_told() -> None:
    broken = Mesh(np.full((3, 3), np.nan, np.float32), np.array([[0, 1, 2]]))
    with pytest.raises(InputError, match=r"mesh: vertex 0 is \[nan, nan, nan\]"):
        render(broken, pose(0, 0, 300)[None], K[None], SIZE)


def test_a_box_has_its_corners_three_times_and_a_sphere_once() -> None:
    corners = trimesh.creation.box((1, 1, 1))
    source, faces = split_at_creases(corners.vertices, corners.faces)
    assert np.bincount(source).tolist() == [3] * 8
    np.testing.assert_array_equal(source[faces], corners.faces)
    ball = trimesh.creation.icosphere(3)
    source, faces = split_at_creases(ball.vertices, ball.faces)
    assert len(source) == len(ball.vertices)
    np.testing.assert_array_equal(source[faces], ball.faces)


def test_a_sphere_cut_into_single_triangles_is_smooth_again() -> None:
    ball = trimesh.creation.icosphere(2)
    loose = ball.vertices[ball.faces].reshape(-1, 3)
    source, faces = split_at_creases(loose, np.arange(len(loose)).reshape(-1, 3))
    assert len(source) == len(ball.vertices)
    np.testing.assert_array_equal(loose[source[faces]], ball.vertices[ball.faces])


def test_faces_wound_against_each_other_share_no_vertex() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float64)
    assert len(split_at_creases(square, np.array([[0, 1, 2], [0, 2, 3]]))[0]) == 4
    assert len(split_at_creases(square, np.array([[0, 1, 2], [0, 3, 2]]))[0]) == 6
