"""Templates: drawn, written, read back, kept in bounded memory."""

import io
import json
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from posecore.errors import InputError
from vpog.data.template_set import TemplateSet
from vpog.objects.mesh import Mesh
from vpog.templates import (
    TemplateStore,
    describe_templates,
    load_templates,
    render_templates,
    save_templates,
    templates_key,
    templates_of_mesh,
)
from vpog.templates.camera import TEMPLATE_K, fit_distance_mm
from vpog.templates.files import read_rgba
from vpog.views import direction_of, view_directions, view_subset

HALF = np.array([60.0, 35.0, 20.0])
CENTRE = np.array([10.0, -5.0, 30.0])
"""Of the box: off the origin, as meshes of users are."""
SMALL = {"K": TEMPLATE_K * [[0.25], [0.25], [1]] + [[0, 0, 0.3], [0, 0, 0.3], [0, 0, 0]], "size_hw": (120, 160)}
"""A sixteenth of the pixels, where their number does not matter; the optical axis meets no pixel's centre."""


def colored_box() -> Mesh:
    shape = trimesh.creation.box(2 * HALF).subdivide()
    colors = np.random.default_rng(0).integers(0, 256, (len(shape.vertices), 3), dtype=np.uint8)
    return Mesh((shape.vertices + CENTRE).astype(np.float32), shape.faces.astype(np.int64), colors)


def sheet() -> Mesh:
    """Without thickness, in the plane y = 0: nothing is seen of it from there."""
    vertices = np.array([[-50, 0, -50], [50, 0, -50], [50, 0, 50], [-50, 0, 50]], np.float32)
    return Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Object 1 as it is, object 2 drawn ten times larger, object 5 a sheet."""
    folder = tmp_path_factory.mktemp("templates")
    render_templates(colored_box(), folder, 1, level=0, distribution="upper")
    render_templates(colored_box(), folder, 2, level=0, distribution="upper", sigma=10.0)
    render_templates(sheet(), folder, 5, level=0, distribution="upper", **SMALL)
    return folder


def copied(root: Path, folder: Path, obj_id: int = 1) -> Path:
    """One object's files, to be damaged."""
    for file in [*(root / f"{obj_id:06d}").iterdir(), root / "object_poses" / f"{obj_id:06d}.npy"]:
        target = folder / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return folder


def points_of(templates: TemplateSet) -> tuple[np.ndarray, np.ndarray]:
    """What the pixels of all views show, in the object's frame, and the view of each."""
    view, row, column = np.nonzero(templates.mask)
    pixels = np.stack([column, row, np.ones_like(row)], 1).astype(np.float64)
    rays = np.einsum("nij,nj->ni", np.linalg.inv(templates.K)[view], pixels)
    cam = rays * templates.depth_mm[view, row, column][:, None]
    poses = templates.cam_from_obj_mm[view]
    return np.einsum("nji,nj->ni", poses[:, :3, :3], cam - poses[:, :3, 3]), view


def distance_from_box(points: np.ndarray) -> np.ndarray:
    """How far points lie from the surface of the box, signed by the farthest face."""
    return np.abs((np.abs(points - CENTRE) - HALF).max(1))


@pytest.mark.parametrize(("obj_id", "median_mm"), [(1, 0.3), (2, 0.1)])
def test_every_pixel_of_every_template_lies_on_the_surface_of_the_object(
    root: Path, obj_id: int, median_mm: float
) -> None:
    templates = TemplateStore(root, 112).load_all(obj_id)
    points, _ = points_of(templates)
    off = distance_from_box(points)
    assert np.median(off) < median_mm  # depth is rounded to 1 mm of the drawn mesh
    assert np.quantile(off, 0.99) < 2.0
    np.testing.assert_array_equal(templates.depth_mm > 0, templates.mask)


def test_a_scaled_mesh_gives_the_same_templates_with_finer_depth(root: Path) -> None:
    store = TemplateStore(root, 112)
    plain, scaled = store.load_all(1), store.load_all(2)
    np.testing.assert_allclose(scaled.cam_from_obj_mm, plain.cam_from_obj_mm, atol=1e-3)
    np.testing.assert_allclose(
        scaled.depth_mm[plain.mask & scaled.mask], plain.depth_mm[plain.mask & scaled.mask], atol=1
    )
    assert (scaled.mask != plain.mask).mean() < 1e-3


def test_a_set_in_memory_is_what_the_files_give(root: Path) -> None:
    stored = TemplateStore(root, 112).load_all(1)
    made = templates_of_mesh(colored_box(), 1, level=0, size=112, distribution="upper")
    np.testing.assert_array_equal(made.view_ids, stored.view_ids)
    np.testing.assert_array_equal(made.mask, stored.mask)
    np.testing.assert_array_equal(made.rgb, stored.rgb)
    np.testing.assert_allclose(made.K, stored.K)
    np.testing.assert_allclose(made.cam_from_obj_mm, stored.cam_from_obj_mm)
    np.testing.assert_allclose(made.depth_mm, stored.depth_mm, atol=0.501)
    np.testing.assert_array_equal(np.rint(made.depth_mm), stored.depth_mm)


def test_templates_look_from_the_directions_of_the_table_at_the_middle_of_the_box(root: Path) -> None:
    views = TemplateStore(root, 112).views(1)
    expected = view_directions(0)[view_subset(0, "upper")]
    np.testing.assert_allclose(views.directions, expected, atol=1e-12)
    about_the_middle = views.cam_from_obj_mm.copy()
    about_the_middle[:, :3, 3] += about_the_middle[:, :3, :3] @ CENTRE
    np.testing.assert_allclose(direction_of(about_the_middle), expected, atol=1e-6)
    assert views.is_valid.all()


def test_each_template_fills_its_square(root: Path) -> None:
    masks = TemplateStore(root, 112).load_all(1).mask
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert max(np.ptp(rows), np.ptp(columns)) >= 110
        assert abs(rows[0] + rows[-1] - 111) <= 1  # the shorter side is in the middle
        assert abs(columns[0] + columns[-1] - 111) <= 1


def test_a_view_that_shows_nothing_is_not_valid_and_not_loaded(root: Path) -> None:
    store = TemplateStore(root, 64)
    views = store.views(5)
    in_the_plane = np.abs(views.directions[:, 1]) < 1e-9
    assert in_the_plane.sum() >= 2
    np.testing.assert_array_equal(views.is_valid, ~in_the_plane)
    assert store.invalid_views() == {5: tuple(np.flatnonzero(in_the_plane))}
    with pytest.raises(InputError, match=r"000005/\d{6}\.png: shows nothing"):
        store.load(5, np.flatnonzero(in_the_plane)[:1])
    made = templates_of_mesh(sheet(), 5, level=0, size=64, distribution="upper")
    assert made.mask.any((1, 2)).all()
    assert set(np.flatnonzero(~in_the_plane)) <= set(made.view_ids)


def test_the_public_sets_layout_is_read_to_the_values_of_the_reference(
    tmp_path: Path, reference: Callable[[str], dict[str, np.ndarray]]
) -> None:
    arrays = reference("formats")
    folder = tmp_path / "000003"
    folder.mkdir()
    for key, content in arrays.items():
        if key.startswith("tmpl/files/"):
            (folder / key.removeprefix("tmpl/files/")).write_bytes(content.tobytes())
    (tmp_path / "object_poses").mkdir()
    np.save(tmp_path / "object_poses" / "000003.npy", arrays["tmpl/object_poses_npy"])
    K = arrays["tmpl/K_full"]
    with pytest.raises(InputError, match=r"is 80 x 60 px; without a templates\.json 640 x 480 px is expected"):
        TemplateStore(tmp_path, 32).load(3, np.array([0]))

    store = TemplateStore(tmp_path, 32, sigma=10.0, K=K)
    templates = store.load(3, np.arange(6))
    expected_t = arrays["tmpl/object_poses_npy"][:, :3, 3] / 10
    np.testing.assert_allclose(templates.cam_from_obj_mm[:, :3, 3], expected_t, rtol=1e-12)
    for view in range(6):
        rgb, mask = read_rgba(folder / f"{view:06d}.png")
        rgba = arrays["tmpl/rgba"][view]
        np.testing.assert_array_equal(mask, rgba[3] > 0)
        np.testing.assert_array_equal(rgb, (rgba[:3] * (rgba[3] > 0)).transpose(1, 2, 0))
        seen = set(np.unique(templates.depth_mm[view]))
        assert seen <= set(np.unique(arrays["tmpl/depth"][view] / np.float32(10)))
        x0, y0, x1, y1 = arrays["tmpl/box_xyxy"][view]
        middle = np.array([(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, 1.0])
        np.testing.assert_allclose(templates.K[view] @ np.linalg.solve(K, middle), [15.5, 15.5, 1], atol=1e-9)
        assert templates.K[view, 0, 0] == pytest.approx(K[0, 0] * 32 / max(x1 - x0, y1 - y0))

    description = describe_templates(tmp_path, 3, 10.0, K)
    np.testing.assert_array_equal(description.boxes_xyxy, arrays["tmpl/box_xyxy"])
    again = TemplateStore(tmp_path, 32).load(3, np.arange(6))  # now the file tells sigma and K
    np.testing.assert_array_equal(again.depth_mm, templates.depth_mm)
    np.testing.assert_array_equal(again.K, templates.K)


def test_without_a_description_the_pictures_tell_which_views_are_valid(root: Path, tmp_path: Path) -> None:
    folder = copied(root, tmp_path, 5)
    (folder / "000005" / "templates.json").unlink()
    (folder / "000005" / "000003_depth.png").unlink()
    expected = TemplateStore(root, 64).views(5).is_valid.copy()
    expected[3] = False
    np.testing.assert_array_equal(TemplateStore(folder, 64).views(5).is_valid, expected)
    describe_templates(folder, 5, 1.0, SMALL["K"])
    np.testing.assert_array_equal(TemplateStore(folder, 64).views(5).is_valid, expected)


def test_only_some_views_can_be_asked_for(root: Path) -> None:
    store = TemplateStore(root, 64, only_views=np.array([2, 4]))
    np.testing.assert_array_equal(store.load_all(1).view_ids, [2, 4])


def test_memory_stays_below_its_bound_and_is_told(root: Path) -> None:
    store = TemplateStore(root, 112, cache_mb=1)
    whole = store.load_all(1)
    assert 0.8 * 2**20 < store.memory_bytes <= 2**20
    assert store.memory_bytes == 10 * store.bytes_per_view
    once_more = store.load_all(1)
    np.testing.assert_array_equal(once_more.rgb, whole.rgb)
    with pytest.raises(InputError, match="templates of 2 objects need cache_mb: 5, it is 1"):
        store.preload([1, 2])


def test_what_was_preloaded_needs_no_file(root: Path, tmp_path: Path) -> None:
    store = TemplateStore(copied(root, tmp_path), 112, cache_mb=3)
    store.preload([1])
    for picture in (tmp_path / "000001").iterdir():
        picture.unlink()
    assert len(store.load_all(1)) == len(store.views(1).is_valid)


def test_writing_into_loaded_templates_does_not_change_the_next_ones(root: Path) -> None:
    store = TemplateStore(root, 64)
    first = store.load(1, np.array([0, 1]))
    kept = first.rgb.copy(), first.mask.copy(), first.cam_from_obj_mm.copy()
    first.rgb[:], first.mask[:], first.cam_from_obj_mm[:] = 7, True, 7
    second = store.load(1, np.array([0, 1]))
    for left, right in zip(kept, (second.rgb, second.mask, second.cam_from_obj_mm), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_store_is_pickled_without_its_pictures_and_works_afterwards(root: Path) -> None:
    store = TemplateStore(root, 112)
    expected = store.load_all(1)
    pickled = pickle.dumps(store)
    assert len(pickled) < 30_000
    copy = pickle.loads(pickled)
    assert copy.memory_bytes == 0
    np.testing.assert_array_equal(copy.load_all(1).rgb, expected.rgb)


def load_and_tell(store: TemplateStore, answers: "multiprocessing.Queue[int]") -> None:
    answers.put(int(store.load(1, np.array([0])).rgb.sum()))


def test_a_forked_worker_reads_although_its_parent_held_the_lock(root: Path) -> None:
    store = TemplateStore(root, 64)
    expected = int(store.load(1, np.array([0])).rgb.sum())
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with store._cache._guard():
        worker = context.Process(target=load_and_tell, args=(store, answers))
        worker.start()
    assert answers.get(timeout=20) == expected
    worker.join(timeout=20)
    assert worker.exitcode == 0


def test_damaged_files_are_named(root: Path, tmp_path: Path) -> None:
    def refused(file: str, content: bytes, match: str) -> None:
        folder = copied(root, tmp_path)
        (folder / file).write_bytes(content)
        with pytest.raises(InputError, match=match):
            TemplateStore(folder, 64).load(1, np.array([0]))

    whole = (root / "000001" / "000000.png").read_bytes()
    refused("000001/000000.png", whole[: len(whole) // 2], r"000000\.png: is not a complete PNG")
    refused("000001/000000.png", b"", r"000000\.png: is not a complete PNG")
    rgb = cv2.imencode(".png", np.zeros((480, 640, 3), np.uint8))[1].tobytes()
    refused("000001/000000.png", rgb, r"000000\.png: is uint8 \(480, 640, 3\); a template is RGBA")
    small = cv2.imencode(".png", np.full((48, 64, 4), 255, np.uint8))[1].tobytes()
    refused("000001/000000.png", small, r"is 64 x 48 px, but templates\.json says 640 x 480")
    depth = cv2.imencode(".png", np.zeros((48, 64), np.uint16))[1].tobytes()
    refused("000001/000000_depth.png", depth, r"000000_depth\.png: is 64 x 48 px, its picture 640 x 480")
    content = io.BytesIO()
    np.save(content, np.ones((3, 4, 4)))
    refused("object_poses/000001.npy", content.getvalue(), r"000001\.npy: view 0: is not a rigid pose")
    content = io.BytesIO()
    np.save(content, np.zeros((3, 3)))
    refused("object_poses/000001.npy", content.getvalue(), r"000001\.npy: is float64 \(3, 3\); one 4x4 pose")
    refused("object_poses/000001.npy", b"nothing", r"000001\.npy: cannot be read as an array of poses")
    fields = json.loads((root / "000001" / "templates.json").read_text())
    wrong = json.dumps(fields | {"sigma": -1}).encode()
    refused("000001/templates.json", wrong, r"templates\.json: sigma: Input should be greater than 0")
    wrong = json.dumps(fields | {"obj_id": 7}).encode()
    refused("000001/templates.json", wrong, r"obj_id: is 7, but the folder is of object 1")
    wrong = json.dumps(fields | {"boxes_xyxy": []}).encode()
    refused("000001/templates.json", wrong, r"boxes_xyxy: has 0 views, but there are 26 poses")


def test_wrong_requests_are_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="object_poses: no such folder"):
        TemplateStore(tmp_path, 64)
    store = TemplateStore(root, 64)
    assert store.objects == [1, 2, 5]
    with pytest.raises(InputError, match="has no templates of object 3; there are 1, 2, 5"):
        store.views(3)
    with pytest.raises(InputError, match=r"object 1 has views 0\.\.25, there is no view 26"):
        store.load(1, np.array([26]))
    with pytest.raises(InputError, match="sigma: is 10, but the configuration says 1; set sigma to 10"):
        TemplateStore(root, 64, sigma=1.0).views(2)


def test_finished_templates_are_left_alone_until_mesh_or_settings_change(tmp_path: Path) -> None:
    flat = sheet()
    first = render_templates(flat, tmp_path, 1, level=0, **SMALL)
    picture = tmp_path / "000001" / "000041.png"
    assert first.views == 42
    picture.write_bytes(b"marked")
    second = render_templates(sheet(), tmp_path, 1, level=0, **SMALL)
    assert second.seconds == 0
    assert (second.views, second.empty_views) == (first.views, first.empty_views)
    assert picture.read_bytes() == b"marked"
    upper = render_templates(flat, tmp_path, 1, level=0, distribution="upper", **SMALL)
    assert upper.views == 26
    assert not picture.exists()  # no picture is left of the larger set
    red = Mesh(flat.vertices_mm, flat.faces, np.tile(np.array([255, 0, 0], np.uint8), (4, 1)))
    assert render_templates(red, tmp_path, 1, level=0, distribution="upper", **SMALL).seconds > 0
    assert TemplateStore(tmp_path, 32).load_all(1).rgb[..., 1:].max() == 0


def test_a_distance_at_which_the_mesh_leaves_the_picture_is_refused(tmp_path: Path) -> None:
    large = Mesh(colored_box().vertices_mm * np.float32(4), colored_box().faces)
    with pytest.raises(InputError, match=r"template view \d+: the mesh .* leaves the picture of 640 x 480 px"):
        render_templates(large, tmp_path, 1, level=0, distance_mm=400.0)
    with pytest.raises(InputError, match=r"template view \d+: the camera is inside the mesh"):
        render_templates(large, tmp_path, 1, level=0, distance_mm=50.0)
    with pytest.raises(InputError, match="does not fit into 16 bits; take a smaller sigma"):
        render_templates(large, tmp_path, 1, level=0, sigma=100.0)
    assert not list(tmp_path.glob("object_poses/*"))


@pytest.mark.parametrize("half", [(60, 35, 20), (200, 2, 2), (50, 50, 50)])
def test_the_chosen_distance_shows_the_whole_mesh_in_a_good_part_of_the_picture(half: tuple[int, int, int]) -> None:
    shape = trimesh.creation.box(2 * np.array(half))
    mesh = Mesh(shape.vertices.astype(np.float32), shape.faces.astype(np.int64))
    radius = np.linalg.norm(half)
    height = TEMPLATE_K[1, 1] * np.tan(np.arcsin(radius / fit_distance_mm(mesh)))  # of the sphere round the box
    assert 120 < height < 239


def test_saved_templates_come_back_and_are_refused_for_another_mesh(tmp_path: Path) -> None:
    made = templates_of_mesh(colored_box(), 3, level=0, size=32, distribution="upper")
    key = templates_key(colored_box(), 0, 32, "upper")
    path = tmp_path / "cache" / "templates.npz"
    save_templates(path, made, key)
    back = load_templates(path, key)
    for name in ("obj_id", "view_ids", "rgb", "mask", "depth_mm", "K", "cam_from_obj_mm"):
        np.testing.assert_array_equal(getattr(back, name), getattr(made, name))
    with pytest.raises(InputError, match="made of another mesh or settings"):
        load_templates(path, templates_key(sheet(), 0, 32, "upper"))
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"templates\.npz: cannot be read as saved templates"):
            load_templates(path)
