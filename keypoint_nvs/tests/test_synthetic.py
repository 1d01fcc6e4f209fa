"""Made-up objects: the pictures, cameras and keypoints of a sample tell the same story."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from keypoint_nvs.data.records import MultiviewSample
from keypoint_nvs.data.store import MultiviewStore
from keypoint_nvs.data.synthetic import PART_NAMES, SyntheticOptions, make_object, make_sequence, synthesise
from keypoint_nvs.data.synthetic.anatomy import posed, random_anatomy
from keypoint_nvs.data.synthetic.coat import FIXED_COLORS, GREY_BODY, coat
from keypoint_nvs.data.synthetic.ellipsoids import Ellipsoids, cast, farthest_distance
from keypoint_nvs.data.synthetic.render import render
from keypoint_nvs.rig import OBJECT_RADIUS, Rig, zero123plus_rig
from posecore.cameras import triangulate
from posecore.errors import InputError

TAIL = PART_NAMES.index("tail")


def views_of(sample: MultiviewSample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures, cam_from_world and K of all seven."""
    assert sample.cond_camera is not None
    assert sample.target_cameras is not None
    both = (sample.cond_camera, sample.target_cameras)
    pictures = np.concatenate([sample.cond_imgs[None], sample.target_imgs])
    return pictures, np.concatenate([c.cam_from_world for c in both]), np.concatenate([c.K for c in both])


def projected(points: np.ndarray, cam_from_world: np.ndarray, K: np.ndarray) -> np.ndarray:
    cam = points @ cam_from_world[:, :3, :3].transpose(0, 2, 1) + cam_from_world[:, None, :3, 3]
    px = cam @ K.transpose(0, 2, 1)
    return px[..., :2] / px[..., 2:]


def random_solids(seed: int, count: int = 6) -> Ellipsoids:
    rng = np.random.default_rng(seed)
    axes = Rotation.random(count, random_state=seed).as_matrix()
    return Ellipsoids(rng.uniform(-0.4, 0.4, (count, 3)), axes, rng.uniform(0.03, 0.3, (count, 3)))


def inside(solids: Ellipsoids, points: np.ndarray) -> np.ndarray:
    """Value below 1 inside, 1 on the surface: by the definition, in the axes of each solid."""
    local = np.einsum("pij,npi->npj", solids.axes, points[:, None] - solids.centre) / solids.radii
    return (local**2).sum(-1)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_a_ray_ends_on_the_surface_of_its_part_and_has_passed_no_other(seed):
    solids = random_solids(seed)
    camera = zero123plus_rig("v1.2").cam_from_world()[:1]
    rays = np.random.default_rng(seed).uniform(-0.25, 0.25, (1, 200, 2))
    hits = cast(solids, camera, rays)
    hit = hits.part[0] >= 0
    directions = np.concatenate([rays[0], np.ones((200, 1))], 1)
    world_from_cam = np.linalg.inv(camera[0])

    def world(depth: np.ndarray) -> np.ndarray:
        return (directions[hit] * depth[:, None]) @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]

    end = inside(solids, world(hits.depth[0][hit]))
    np.testing.assert_allclose(end[np.arange(hit.sum()), hits.part[0][hit]], 1, atol=1e-9)
    for share in np.linspace(0.4, 0.999, 40):
        assert (inside(solids, world(share * hits.depth[0][hit])) > 1 - 1e-9).all()
    missing = directions[~hit]
    for depth in np.linspace(0.8, 3.0, 60):
        beside = (missing * depth) @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
        assert (inside(solids, beside) > 1 - 1e-9).all()


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_a_normal_is_the_gradient_of_the_surface(seed):
    solids = random_solids(seed)
    camera = np.eye(4)[None]
    camera[0, 2, 3] = 2.0
    hits = cast(solids, camera, np.random.default_rng(seed).uniform(-0.2, 0.2, (1, 50, 2)))
    np.testing.assert_array_equal(np.linalg.norm(hits.normal_cam, axis=-1) > 0.5, hits.part >= 0)
    rays = np.random.default_rng(seed).uniform(-0.2, 0.2, (1, 50, 2))
    for ray in np.flatnonzero(hits.part[0] >= 0):
        point = np.array([*rays[0, ray], 1.0]) * hits.depth[0, ray] - [0, 0, 2]
        steps = 1e-6 * np.eye(3)
        value = inside(solids, np.concatenate([point + steps, point - steps]))[:, hits.part[0, ray]]
        gradient = value[:3] - value[3:]
        cosine = gradient @ hits.normal_cam[0, ray] / np.linalg.norm(gradient)
        assert cosine == pytest.approx(1, abs=1e-5)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_alpha_is_the_share_of_a_pixel_inside_the_projected_outlines(seed):
    """Oracle: the outline of an ellipsoid is the conic whose dual is P Q* P', with Q* the dual quadric."""
    solids, rig, size = random_solids(seed, 4), zero123plus_rig("v1.1"), 24
    cameras, K = rig.cam_from_world()[1:3], np.stack([rig.K(size)] * 2)
    light = np.array([0.0, 0.0, 1.0])
    pictures = render(solids, np.full((4, 3), 0.5), light, cameras, K, size, supersampling=4)
    fine = (np.arange(size * 4) + 0.5) / 4 - 0.5
    x, y = np.meshgrid(fine, fine)
    pixels = np.stack([x, y, np.ones_like(x)], -1)
    for view in range(2):
        covered = np.zeros(x.shape, bool)
        for centre, axes, radii in zip(solids.centre, solids.axes, solids.radii, strict=True):
            shape = np.eye(4)
            shape[:3, :3], shape[:3, 3] = axes * radii, centre
            P = K[view] @ cameras[view][:3]
            dual = P @ shape @ np.diag([1.0, 1, 1, -1]) @ shape.T @ P.T
            conic = np.linalg.inv(dual)
            value = np.einsum("...i,ij,...j->...", pixels, conic, pixels)
            middle = P @ np.append(centre, 1)
            covered |= value * (middle @ conic @ middle) > 0
        share = covered.reshape(size, 4, size, 4).mean((1, 3))
        np.testing.assert_array_equal(pictures[view, 3], (255 * share).round())


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_the_farthest_distance_is_not_exceeded_and_reached(seed):
    solids = random_solids(seed, 3)
    around = np.random.default_rng(seed).normal(size=(20_000, 3))
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    surface = np.einsum("pij,npj->npi", solids.axes, solids.radii * around[:, None]) + solids.centre
    point = np.array([0.1, -0.2, 0.05])
    sampled = np.linalg.norm(surface - point, axis=-1).max()
    assert sampled <= farthest_distance(solids, point) + 1e-9
    assert farthest_distance(solids, point) == pytest.approx(sampled, rel=1e-3)


def test_an_object_touches_its_sphere_and_stays_within():
    for number in range(10):
        sample = make_object(np.random.default_rng(number), SyntheticOptions(view_px=8))
        assert sample.keypoints is not None
        assert np.linalg.norm(sample.keypoints.world, axis=1).max() < OBJECT_RADIUS
    # by nearly parallel rays: a picture a pixel wider on each side than the sphere holds all of it, a smaller does not
    for scale, cut in ((64 / 62, False), (0.8, True)):
        rig = Rig((0.0, 90.0), (0.0, 0.0), 2 * np.rad2deg(np.arctan(scale * OBJECT_RADIUS / 100)), 100.0, 1, 2)
        samples = [
            make_object(np.random.default_rng(number), SyntheticOptions(view_px=64, rig=rig)) for number in range(10)
        ]
        alphas = np.stack([sample.target_imgs[:, 3] for sample in samples])
        assert (alphas[..., [0, -1], :].any() or alphas[..., :, [0, -1]].any()) == cut


def test_a_seen_part_has_its_colour_where_its_middle_is_projected():
    right, looked_at = 0, 0
    colors = coat(GREY_BODY)
    chroma = colors / np.linalg.norm(colors, axis=1, keepdims=True)
    for number in range(12):
        options = SyntheticOptions(view_px=96, supersampling=1, body_color="fixed")
        sample = make_object(np.random.default_rng(number), options)
        assert sample.keypoints is not None
        pictures, cam_from_world, K = views_of(sample)
        px = projected(sample.keypoints.world, cam_from_world, K).round().astype(int)
        for view, part in zip(*np.nonzero(sample.keypoints.visible), strict=True):
            color = pictures[view, :, px[view, part, 1], px[view, part, 0]]
            looked_at += 1
            right += color[3] == 255 and color[:3] @ chroma[part] > 0.998 * np.linalg.norm(color[:3].astype(float))
    # the nearest pixel of a middle beside an edge may show what is before it
    assert looked_at > 400
    assert right >= 0.97 * looked_at


def test_a_hidden_part_is_not_what_its_middle_shows():
    """Blue occurs in the tail alone: where a hidden tail's middle lies, the picture is not blue."""
    looked_at = blue = 0
    for number in range(20):
        sample = make_object(
            np.random.default_rng(number), SyntheticOptions(view_px=96, supersampling=1, body_color="fixed")
        )
        assert sample.keypoints is not None
        pictures, cam_from_world, K = views_of(sample)
        px = projected(sample.keypoints.world, cam_from_world, K).round().astype(int)
        for view in np.flatnonzero(~sample.keypoints.visible[:, TAIL]):
            r, _, b, alpha = pictures[view, :, px[view, TAIL, 1], px[view, TAIL, 0]].astype(int)
            assert alpha == 255
            looked_at, blue = looked_at + 1, blue + (b > 2 * r)
    assert looked_at > 10
    assert blue <= 0.2 * looked_at  # a nearest pixel may lie beside what hides the tail


def test_the_tail_that_all_views_show_is_one_point_in_space():
    """Middles of the blue pixels, triangulated: pictures and cameras agree."""
    errors = []
    for number in range(12):
        sample = make_object(
            np.random.default_rng(number), SyntheticOptions(view_px=96, supersampling=1, body_color="fixed")
        )
        assert sample.keypoints is not None
        pictures, cam_from_world, K = views_of(sample)
        blue = (pictures[:, 2] > 2.0 * pictures[:, 0]) & (pictures[:, 3] == 255)
        seen = sample.keypoints.visible[:, TAIL] & (blue.sum((1, 2)) > 25)
        if seen.sum() < 3:
            continue
        middles = np.array([np.argwhere(mask).mean(0)[::-1] if mask.any() else [0.0, 0.0] for mask in blue])
        point, _ = triangulate(
            torch.tensor(middles[:, None]),
            torch.tensor(K.astype(float) @ cam_from_world[:, :3]),
            torch.tensor(seen[:, None]).double(),
        )
        errors.append(np.linalg.norm(point[0].numpy() - sample.keypoints.world[TAIL]))
    assert len(errors) >= 8
    assert np.median(errors) < 0.03


def test_the_world_is_that_of_the_input_view():
    sample = make_object(np.random.default_rng(3), SyntheticOptions(view_px=8))
    _, cam_from_world, _ = views_of(sample)
    eye = np.linalg.inv(cam_from_world[0])[:3, 3]
    assert eye[1] == pytest.approx(0, abs=1e-6)
    assert np.rad2deg(np.arcsin(eye[2] / np.linalg.norm(eye))) == pytest.approx(sample.elevation_deg, abs=1e-4)
    np.testing.assert_allclose(cam_from_world[1:], zero123plus_rig("v1.2").cam_from_world(), atol=1e-6)


@pytest.mark.parametrize(
    ("azimuth_deg", "direction"), [(0.0, (1, 0)), (90.0, (0, -1)), (-90.0, (0, 1)), (180.0, (-1, 0))]
)
def test_the_animal_looks_where_the_azimuth_of_the_input_view_says(azimuth_deg, direction):
    options = SyntheticOptions(view_px=8, azimuth_range_deg=(azimuth_deg, azimuth_deg))
    for number in range(10):
        sample = make_object(np.random.default_rng(number), options)
        assert sample.keypoints is not None
        tail_to_head = (sample.keypoints.world[1] - sample.keypoints.world[TAIL])[:2]
        assert tail_to_head @ direction > 0.8 * np.linalg.norm(tail_to_head)
        left_to_right = (sample.keypoints.world[[4, 6]] - sample.keypoints.world[[3, 5]]).mean(0)[:2]
        assert left_to_right @ [direction[1], -direction[0]] > 0


def test_bodies_differ_in_colour_and_heads_do_not():
    means: dict[str, list[np.ndarray]] = {"random": [], "fixed": []}
    for body_color, found in means.items():
        for number in range(6):
            options = SyntheticOptions(view_px=64, supersampling=1, body_color=body_color)
            sample = make_object(np.random.default_rng(number), options)
            assert sample.keypoints is not None
            pictures, cam_from_world, K = views_of(sample)
            view = int(np.flatnonzero(sample.keypoints.visible[:, 0] & sample.keypoints.visible[:, 1])[0])
            x, y = projected(sample.keypoints.world, cam_from_world, K)[view].round().astype(int).T
            colors = pictures[view, :3, y[:2], x[:2]].astype(float)
            found.append(colors / np.linalg.norm(colors, axis=1, keepdims=True))
    random, fixed = np.array(means["random"]), np.array(means["fixed"])
    head = np.array(FIXED_COLORS["head"]) / np.linalg.norm(FIXED_COLORS["head"])
    assert np.abs(random[:, 1] - head).max() < 0.02
    assert np.ptp(random[:, 0], axis=0).max() > 0.3
    assert np.ptp(fixed[:, 0], axis=0).max() < 0.02


def test_in_a_walk_legs_move_and_all_else_of_the_camera_stays():
    walk = make_sequence(np.random.default_rng(1), SyntheticOptions(view_px=16, frames=4))
    points = np.stack([sample.keypoints.world for sample in walk if sample.keypoints is not None])
    assert [sample.sample_id for sample in walk] == [f"animal-000000/{frame:04d}" for frame in range(4)]
    np.testing.assert_array_equal(points[0, 0], points[3, 0])
    assert (np.linalg.norm(points[0, 3:7] - points[3, 3:7], axis=1) > 0.005).all()
    assert (np.linalg.norm(np.diff(points, axis=0), axis=-1) < 0.15).all()
    for sample in walk:
        np.testing.assert_array_equal(views_of(sample)[1], views_of(walk[0])[1])
    stride = [posed(random_anatomy(np.random.default_rng(0)), phase).centre for phase in (0.0, 2 * np.pi)]
    np.testing.assert_allclose(stride[0], stride[1], atol=1e-12)


def test_an_object_is_the_same_in_every_set_that_has_its_number(tmp_path: Path):
    options = SyntheticOptions(objects=6, frames=2, view_px=16, seed=7)
    summary = synthesise(tmp_path / "all.hdf5", options)
    synthesise(tmp_path / "late.hdf5", replace(options, first_object=4, objects=2))
    synthesise(tmp_path / "other.hdf5", replace(options, seed=8))
    everything, late, other = (MultiviewStore(tmp_path / f"{name}.hdf5") for name in ("all", "late", "other"))
    assert summary["samples"] == len(everything) == 12
    assert late.sample_ids == everything.sample_ids[8:]
    for index in range(4):
        np.testing.assert_array_equal(late.read(index).target_imgs, everything.read(8 + index).target_imgs)
    assert all((other.read(i).target_imgs != everything.read(i).target_imgs).any() for i in range(12))


def test_a_store_gives_back_what_was_made_with_any_rig(tmp_path: Path):
    own = Rig((0.0, 60.0, 120.0, 180.0), (10.0, 0.0, 10.0, 0.0), 40.0, 1.6, rows=2, cols=2)
    for rig, name in ((zero123plus_rig("v1.1"), "zero123plus-v1.1"), (own, "free")):
        options = SyntheticOptions(objects=1, view_px=16, rig=rig)
        path = tmp_path / f"{name}.hdf5"
        assert synthesise(path, options)["rig"] == name
        sample, made = MultiviewStore(path).read(0), make_object(np.random.default_rng([0, 0]), options)
        for got, wanted in zip(views_of(sample), views_of(made), strict=True):
            np.testing.assert_array_equal(got, wanted)
        assert sample.keypoints is not None
        assert made.keypoints is not None
        np.testing.assert_array_equal(sample.keypoints.visible, made.keypoints.visible)
        assert (sample.category, sample.azimuth_deg, sample.elevation_deg) == (
            "animal",
            made.azimuth_deg,
            made.elevation_deg,
        )


@pytest.mark.slow  # two processes start for 3 s
def test_processes_make_what_one_makes(tmp_path: Path):
    options = SyntheticOptions(objects=20, view_px=16)
    for workers in (0, 2):
        synthesise(tmp_path / f"{workers}.hdf5", options, workers=workers)
    one, two = (MultiviewStore(tmp_path / f"{workers}.hdf5") for workers in (0, 2))
    assert one.sample_ids == two.sample_ids
    assert all((one.read(i).target_imgs == two.read(i).target_imgs).all() for i in range(20))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"objects": 0}, "objects: 0, must be at least 1"),
        ({"view_px": 4}, "view_px: 4, must be at least 8"),
        ({"azimuth_range_deg": (45.0, -45.0)}, "azimuth_range_deg: 45 to -45, must rise and lie within -360 to 360"),
        ({"distance_range": (0.5, 2.0)}, "distance_range: 0.5 to 2, must rise and lie within 0.6 to 100"),
        ({"cond_fov_deg": 30.0}, "cond_fov_deg: 30, must be at least 39.77 for objects at distance 1.47"),
        ({"rig": Rig((0.0,), (0.0,), 30.0, 0.4, 1, 1)}, "rig.radius: 0.4, must be above 0.5, the object's radius"),
    ],
)
def test_options_that_cannot_be_are_told(fields, problem):
    with pytest.raises(InputError) as caught:
        SyntheticOptions(**fields)
    assert any(line.startswith(problem) for line in caught.value.problems), caught.value.problems


def test_a_store_that_exists_is_not_overwritten(tmp_path: Path):
    path = tmp_path / "a.hdf5"
    path.write_bytes(b"kept")
    with pytest.raises(InputError, match="exists already"):
        synthesise(path, SyntheticOptions(objects=1))
    with pytest.raises(InputError, match=r"ends in \.hdf5"):
        synthesise(tmp_path / "a.zip", SyntheticOptions(objects=1))
    assert path.read_bytes() == b"kept"
