"""Calibration files, lenses, triangulation and the verdict on a rig: synthetic rigs, and a real one that is wrong."""

from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posecore.errors import InputError
from smil_regressor.calibration import (
    RigCamera,
    check_rig,
    dlt,
    ransac_triangulate,
    read_calibration,
    refine_cameras,
    undistort_image,
    write_calibration,
)

SIZE = (640, 480)
BARREL = np.array([-0.2, 0.03, 0.001, -0.0005, 0.0])


def rig(count: int = 4, distance: float = 300.0) -> list[RigCamera]:
    """Cameras on a ring that look at the origin."""
    cameras = []
    for index in range(count):
        azimuth = 2 * np.pi * index / count + 0.3
        centre = distance * np.array([np.cos(azimuth), np.sin(azimuth), 0.6 + 0.1 * index])
        forward = -centre / np.linalg.norm(centre)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        cam_from_world = np.eye(4)
        cam_from_world[:3, :3] = np.stack([right, np.cross(forward, right), forward])
        cam_from_world[:3, 3] = -cam_from_world[:3, :3] @ centre
        K = np.array([[700.0 + 20 * index, 0, 315.0], [0, 705.0, 244.0], [0, 0, 1]])
        cameras.append(RigCamera(f"c{index}", SIZE, K, BARREL, cam_from_world))
    return cameras


def recorded(cameras: list[RigCamera], points: np.ndarray, noise_px: float = 0.0, seed: int = 0) -> np.ndarray:
    """Distorted pixels of points, by OpenCV."""
    rng = np.random.default_rng(seed)
    views = []
    for camera in cameras:
        rvec = cv2.Rodrigues(camera.cam_from_world[:3, :3])[0]
        pixels = cv2.projectPoints(points, rvec, camera.cam_from_world[:3, 3], camera.K, camera.distortion)[0][:, 0]
        views.append(pixels + noise_px * rng.normal(size=pixels.shape))
    return np.stack(views)


def cloud(count: int = 150) -> np.ndarray:
    return np.random.default_rng(1).uniform(-40, 40, (count, 3))


def test_a_calibration_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    cameras = [*rig(3), replace(rig(1)[0], name='odd "name"', fisheye=True, distortion=np.array([0.1, 0.0, 0.01, 0.0]))]
    write_calibration(cameras, tmp_path / "calibration.toml")
    for ours, read in zip(cameras, read_calibration(tmp_path / "calibration.toml"), strict=True):
        assert (read.name, read.size_wh, read.fisheye) == (ours.name, ours.size_wh, ours.fisheye)
        np.testing.assert_array_equal(read.K, ours.K)
        np.testing.assert_array_equal(read.distortion, ours.distortion)
        np.testing.assert_allclose(read.cam_from_world, ours.cam_from_world, atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("matrix = [[700.0", "matrix = [[nan", "cam_0.matrix: 3x3 finite numbers are expected"),
        ("size = [640, 480]", "size = [640.5, 480]", "cam_0.size: [width, height] in whole pixels"),
        ('name = "c0"', "name = 3", "cam_0.name: a text is expected"),
        ('name = "c1"', 'name = "c0"', "two cameras are called 'c0'"),
        ("rotation = [", "turn = [", "cam_0.rotation: missing"),
        ("[cam_0]", "[cam_0", "not a TOML file"),
    ],
)
def test_a_wrong_calibration_file_is_told_by_table_and_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "calibration.toml"
    write_calibration(rig(2), path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        read_calibration(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_empty_or_missing_calibration_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_calibration(tmp_path / "calibration.toml")
    (tmp_path / "empty.toml").write_text("[metadata]\n")
    with pytest.raises(InputError, match="no camera in it"):
        read_calibration(tmp_path / "empty.toml")


@given(x=st.floats(0, 639), y=st.floats(0, 479))
def test_distorting_an_undistorted_pixel_gives_it_back(x: float, y: float) -> None:
    camera = rig(1)[0]
    straight = camera.undistort_points(np.array([[x, y]]))
    ray = np.linalg.solve(camera.K, [*straight[0], 1.0])
    back = cv2.projectPoints(ray[None, None], np.zeros(3), np.zeros(3), camera.K, camera.distortion)[0]
    np.testing.assert_allclose(back[0, 0], [x, y], atol=1e-6)


def test_a_pixel_beyond_the_fold_of_the_lens_model_is_missing_and_not_a_huge_number() -> None:
    # with k1 = -0.3 alone the distorted radius never exceeds f * 2/3 / sqrt(0.9) = 0.70 f
    camera = replace(rig(1)[0], distortion=np.array([-0.3, 0, 0, 0, 0]))
    f, cx, cy = camera.K[0, 0], camera.K[0, 2], camera.K[1, 2]
    pixels = np.array([[cx + 0.69 * f, cy], [cx + 0.72 * f, cy], [cx - 3 * f, cy], [np.nan, 3.0]])
    straight = camera.undistort_points(pixels)
    assert np.isfinite(straight[0]).all()
    assert np.isnan(straight[1:]).all()


def test_fisheye_points_and_pictures_agree_with_opencv() -> None:
    camera = replace(rig(1)[0], fisheye=True, distortion=np.array([0.05, -0.01, 0.002, 0.0]))
    pixels = np.random.default_rng(0).uniform(20, 450, (50, 2))
    again = cv2.fisheye.distortPoints(
        ((camera.undistort_points(pixels) - camera.K[:2, 2]) / camera.K[[0, 1], [0, 1]])[:, None],
        camera.K,
        camera.distortion,
    )[:, 0]
    np.testing.assert_allclose(again, pixels, atol=1e-3)


@pytest.mark.parametrize("fisheye", [False, True])
def test_the_undistorted_picture_shows_a_dot_where_the_undistorted_point_is(fisheye: bool) -> None:
    distortion = np.array([0.1, -0.02, 0.0, 0.0]) if fisheye else BARREL
    camera = replace(rig(1)[0], fisheye=fisheye, distortion=distortion)
    dot = np.array([150.0, 120.0])
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    image = 255 * np.exp(-((columns - dot[0]) ** 2 + (rows - dot[1]) ** 2) / 18)
    straight = undistort_image(np.repeat(image[..., None], 3, axis=2).astype(np.uint8), camera.undistortion_maps())
    weights = straight[..., 0].astype(float)
    centre = np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()
    assert np.linalg.norm(centre - dot) > 2
    np.testing.assert_allclose(centre, camera.undistort_points(dot[None])[0], atol=0.1)


def test_dlt_agrees_with_the_reference(reference) -> None:
    vectors = reference("triangulation")
    for b in range(2):
        pixels = vectors["keypoints_noisy_yx01"][b, ..., ::-1].astype(float) * int(vectors["image_size"])
        cam_from_world = np.concatenate([vectors["R_cv"][b], vectors["t_cv"][b][..., None]], axis=-1)
        weights = vectors["visibility"][b] * vectors["in_bounds"][b] * vectors["view_mask"][b][:, None]
        points = dlt(pixels, (vectors["K"][b] @ cam_from_world).astype(float), weights.astype(float))
        valid = vectors["noisy_valid"][b]
        np.testing.assert_allclose(points[valid], vectors["noisy_svd_points"][b][valid], atol=5e-6)


def test_ransac_outvotes_a_view_that_is_wrong_and_keeps_no_point_of_a_single_view() -> None:
    cameras, points = rig(5), cloud(60)
    pixels = np.stack([camera.project(points) for camera in cameras])
    pixels[2, :30] += 80.0
    weights = np.ones(pixels.shape[:2])
    weights[1:, 59] = 0
    found = ransac_triangulate(pixels, np.stack([camera.projection for camera in cameras]), weights)
    np.testing.assert_allclose(found.points[:59], points[:59], atol=1e-6)
    assert not found.inliers[2, :30].any()
    assert found.inliers[2, 30:59].all()
    assert np.isnan(found.points[59]).all()


def test_ransac_over_many_views_draws_pairs_by_its_seed_alone() -> None:
    cameras, points = rig(14), cloud(20)
    pixels = np.stack([camera.project(points) for camera in cameras])
    pixels += np.random.default_rng(2).normal(size=pixels.shape)
    projections = np.stack([camera.projection for camera in cameras])
    runs = [ransac_triangulate(pixels, projections, np.ones(pixels.shape[:2]), seed=5) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].points, runs[1].points)
    assert np.abs(runs[0].points - points).max() < 3


def test_a_sound_rig_has_no_bad_camera_and_small_figures() -> None:
    cameras, points = rig(4), cloud()
    report = check_rig(cameras, recorded(cameras, points, noise_px=0.5), points)
    assert report.bad_cameras == ()
    assert report.duplicates == ()
    assert all(camera.reprojection_px < 1 and camera.leave_one_out_px < 1.5 for camera in report.cameras)
    assert all(pair.residual_px < 1 for pair in report.pairs)


@pytest.mark.parametrize("bad", [0, 2])
def test_a_camera_that_was_turned_is_found_and_the_others_are_kept(bad: int) -> None:
    cameras, points = rig(4), cloud()
    pixels = recorded(cameras, points, noise_px=0.5)
    turned = cameras[bad].cam_from_world.copy()
    turned[:3] = Rotation.from_euler("x", 6, degrees=True).as_matrix() @ turned[:3]
    cameras[bad] = replace(cameras[bad], cam_from_world=turned)
    report = check_rig(cameras, pixels)
    assert report.bad_cameras == (f"c{bad}",)
    assert "px from where the trusted cameras put them" in report.lines()[0]


def test_a_copied_camera_is_named_with_its_twin() -> None:
    cameras, points = rig(4), cloud()
    pixels = recorded(cameras, points, noise_px=0.5)
    cameras[3] = replace(cameras[1], name="c3")
    report = check_rig(cameras, pixels)
    assert report.duplicates == (("c1", "c3"),)
    assert report.bad_cameras == ("c3",)
    assert "identical to those of c1" in report.lines()[0]
    assert "wrong" in report.table()


def test_two_cameras_that_disagree_are_both_named_since_nobody_can_tell_which() -> None:
    cameras, points = rig(2), cloud()
    pixels = recorded(cameras, points)
    pixels[1] = pixels[1, ::-1]
    assert check_rig(cameras, pixels).bad_cameras == ("c0", "c1")


def test_a_camera_that_saw_almost_nothing_is_not_blamed() -> None:
    cameras, points = rig(4), cloud()
    pixels = recorded(cameras, points)
    pixels[3, 5:] = np.nan
    assert check_rig(cameras, pixels).bad_cameras == ()


@pytest.mark.parametrize("refine_focal", [False, True])
def test_bundle_adjustment_mends_a_perturbed_rig(refine_focal: bool) -> None:
    true, points = rig(4), cloud(120)
    pixels = recorded(true, points, noise_px=0.3)
    pixels[:, ::7] = np.nan
    pixels[1, 3] += 200.0  # one gross error must not spoil it
    rng = np.random.default_rng(3)
    start = []
    for index, camera in enumerate(true):
        moved = camera.cam_from_world.copy()
        if index:
            moved[:3, :3] = Rotation.from_rotvec(rng.normal(size=3) * 0.02).as_matrix() @ moved[:3, :3]
            moved[:3, 3] += rng.normal(size=3) * 3
        start.append(replace(camera, cam_from_world=moved))
    refined = refine_cameras(start, pixels, refine_focal=refine_focal)
    assert refined.after_px.max() < 0.6
    assert refined.before_px.max() > 5 * refined.after_px.max()
    for camera, truth in zip(refined.cameras, true, strict=True):
        apart = Rotation.from_matrix(camera.cam_from_world[:3, :3] @ truth.cam_from_world[:3, :3].T).magnitude()
        assert np.degrees(apart) < 0.5
    assert max(c.leave_one_out_px for c in check_rig(refined.cameras, pixels).cameras) < 1


def test_refinement_without_common_points_is_refused() -> None:
    cameras = rig(3)
    with pytest.raises(InputError, match="at least 20 are needed"):
        refine_cameras(cameras, np.full((3, 40, 2), np.nan))


def test_the_real_rig_with_a_copied_camera_is_seen_through(real_data: Path) -> None:
    session = real_data / "multiview" / "sleap_anipose_minimal"
    cameras = read_calibration(session / "calibration.toml")
    views = []
    for camera in cameras:
        with h5py.File(next((session / camera.name).glob("*.analysis.h5"))) as file:
            views.append(file["tracks"][0].transpose(2, 1, 0).reshape(-1, 2))
    with h5py.File(session / "points3d.h5") as file:
        points = file["tracks"][:, 0].reshape(-1, 3)
    report = check_rig(cameras, np.stack(views), points)
    assert report.bad_cameras == ("side",)
    assert report.duplicates == (("side", "top"),)
    pair = {frozenset(pair.names): pair for pair in report.pairs}
    assert pair[frozenset({"mid", "top"})].residual_px < 1
    assert all(25 < p.residual_px < 50 for names, p in pair.items() if "side" in names and "top" not in names)
    assert "identical to those of top" in report.lines()[0]
    good = [0, 1, 3]
    refined = refine_cameras([cameras[v] for v in good], np.stack(views)[good])
    assert refined.after_px.max() < 0.5 * refined.before_px.max()
