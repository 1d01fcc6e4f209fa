"""Cameras against OpenCV, the reference vectors and their own inverses."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posecore.cameras import (
    crop_intrinsics,
    distort_pixels,
    fov_to_intrinsics,
    intrinsics_to_fov,
    invert,
    look_at,
    opencv_to_pytorch3d,
    opengl_to_opencv,
    project,
    pytorch3d_fov_to_intrinsics,
    pytorch3d_to_opencv,
    transform,
    undistort_pixels,
    unproject,
)
from posecore.rotations import axis_angle_to_matrix

K = torch.tensor([[500.0, 2.0, 320.0], [0, 480, 240], [0, 0, 1]], dtype=torch.float64)


def rigid(rotation, translation):
    last = torch.tensor([0.0, 0, 0, 1], dtype=rotation.dtype).expand(*rotation.shape[:-2], 1, 4)
    return torch.cat([torch.cat([rotation, translation[..., None]], -1), last], -2)


def close(actual, expected, atol, rtol=0.0):
    expected = torch.as_tensor(np.asarray(expected), dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


@given(depth=st.floats(0.05, 50.0), u=st.floats(-50, 700), v=st.floats(-50, 500))
def test_projecting_an_unprojected_pixel_gives_it_back(depth, u, v):
    pixels = torch.tensor([[u, v]], dtype=torch.float64)
    points_cam = unproject(pixels, torch.tensor([depth], dtype=torch.float64), K)
    assert points_cam[0, 2] == depth
    back, in_front = project(points_cam, K)
    assert in_front.all()
    close(back, pixels, 1e-9)


@pytest.mark.parametrize("depth", [0.0, -1.0, 1e-9, -1e-30])
def test_a_point_that_is_not_in_front_is_masked_and_its_gradient_is_finite(depth):
    points_cam = torch.tensor([[0.1, 0.2, depth], [0.1, 0.2, 2.0]], requires_grad=True)
    pixels, in_front = project(points_cam, K.float())
    assert in_front.tolist() == [False, True]
    assert pixels.isfinite().all()
    (pixels.sum(-1) * in_front).sum().backward()
    assert points_cam.grad.isfinite().all()
    assert not points_cam.grad[0].any()


def test_projection_is_that_of_opencv_and_broadcasts_one_camera_over_a_batch():
    rng = np.random.default_rng(0)
    vector, t = rng.normal(size=3), np.array([0.1, -0.2, 5.0])
    points = rng.normal(size=(2, 30, 3))
    no_skew = K.clone()
    no_skew[0, 1] = 0
    expected = cv2.projectPoints(points.reshape(-1, 3), vector, t, no_skew.numpy(), None)[0].reshape(2, 30, 2)
    cam_from_world = rigid(axis_angle_to_matrix(torch.from_numpy(vector)), torch.from_numpy(t))
    pixels, in_front = project(transform(cam_from_world, torch.from_numpy(points)), no_skew)
    assert in_front.all()
    close(pixels, expected, 1e-9)


def test_the_inverse_of_a_rigid_transform_brings_points_back():
    generator = torch.Generator().manual_seed(0)
    vectors, translations, points = (torch.randn(4, n, 3, dtype=torch.float64, generator=generator) for n in (1, 1, 9))
    b_from_a = rigid(axis_angle_to_matrix(vectors[:, 0]), translations[:, 0])
    close(transform(invert(b_from_a), transform(b_from_a, points)), points, 1e-12)
    close(invert(b_from_a) @ b_from_a, torch.eye(4, dtype=torch.float64).expand(4, 4, 4), 1e-12)


def test_cropping_and_resizing_with_opencv_moves_a_dot_to_where_the_cropped_camera_sees_it():
    image = np.zeros((60, 80), np.float32)
    image[20:24, 30:34] = 1  # centre (31.5, 21.5)
    camera = torch.tensor([[100.0, 0, 31.5], [0, 100, 21.5], [0, 0, 1]])
    box = torch.tensor([16.0, 8, 32, 24])
    small = cv2.resize(image[8:32, 16:48], (64, 72), interpolation=cv2.INTER_LINEAR)
    v, u = np.mgrid[:72, :64]
    centroid = [(small * u).sum() / small.sum(), (small * v).sum() / small.sum()]
    cropped = crop_intrinsics(camera, box, (72, 64))
    close(cropped[:2, 2].double(), centroid, 1e-3)
    close(cropped[:2, :2], [[200.0, 0], [0, 300]], 1e-4)


@given(
    box=st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 500), st.floats(1, 500)),
    u=st.floats(0, 640),
    v=st.floats(0, 480),
)
def test_a_cropped_camera_sees_every_ray_at_the_resized_pixel(box, u, v):
    pixels = torch.tensor([[u, v]], dtype=torch.float64)
    points_cam = unproject(pixels, torch.tensor([2.0], dtype=torch.float64), K)
    cropped = crop_intrinsics(K, torch.tensor(box, dtype=torch.float64), (32, 48))
    seen, _ = project(points_cam, cropped)
    x0, y0, w, h = box
    close(seen[0], [(u - x0 + 0.5) * 48 / w - 0.5, (v - y0 + 0.5) * 32 / h - 0.5], 1e-6, rtol=1e-9)


def test_the_whole_image_as_crop_leaves_the_camera_and_an_empty_box_is_refused():
    close(crop_intrinsics(K, torch.tensor([0.0, 0, 640, 480], dtype=torch.float64), (480, 640)), K, 1e-12)
    boxes = torch.tensor([[0.0, 0, 640, 480], [16, 8, 32, 24]], dtype=torch.float64)
    assert crop_intrinsics(K, boxes, (32, 32)).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="positive widths and heights"):
        crop_intrinsics(K, torch.tensor([0.0, 0, 0, 480], dtype=torch.float64), (480, 640))


@given(fov=st.floats(1, 170), aspect=st.floats(0.2, 5), h=st.integers(1, 2000), w=st.integers(1, 2000))
def test_field_of_view_and_aspect_survive_the_round_trip(fov, aspect, h, w):
    intrinsics = fov_to_intrinsics(torch.tensor(fov, dtype=torch.float64), (h, w), aspect)
    assert intrinsics[:2, 2].tolist() == [(w - 1) / 2, (h - 1) / 2]
    back_fov, back_aspect = intrinsics_to_fov(intrinsics, (h, w))
    assert back_fov.item() == pytest.approx(fov)
    assert back_aspect.item() == pytest.approx(aspect)


def test_a_field_of_view_of_ninety_degrees_has_half_the_height_as_focal_length():
    close(fov_to_intrinsics(90.0, (100, 300)), [[150.0, 0, 149.5], [0, 50, 49.5], [0, 0, 1]], 1e-4)
    close(fov_to_intrinsics(90.0, (100, 300), aspect=3.0), [[50.0, 0, 149.5], [0, 50, 49.5], [0, 0, 1]], 1e-4)
    close(pytorch3d_fov_to_intrinsics(90.0, (300, 100)), [[50.0, 0, 49.5], [0, 50, 149.5], [0, 0, 1]], 1e-4)


def test_looking_along_z_with_y_down_is_the_identity():
    eye, target, up = torch.tensor([[0.0, 0, -2], [0, 0, 0], [0, -1, 0]])
    expected = torch.eye(4)
    expected[2, 3] = 2
    close(look_at(eye, target, up), expected, 1e-6)


@given(eye=st.tuples(*[st.floats(-5, 5)] * 3).filter(lambda e: math.hypot(e[0], e[2]) > 0.1), spin=st.floats(-1, 1))
def test_a_camera_that_looks_at_a_point_sees_it_in_the_middle_and_up_above_it(eye, spin):
    eye = torch.tensor(eye, dtype=torch.float64)
    up = torch.tensor([0.0, 1, 0], dtype=torch.float64)
    target = torch.tensor([0.0, spin, 0], dtype=torch.float64)
    cam_from_world = look_at(eye, target, up)
    close(torch.linalg.det(cam_from_world), 1.0, 1e-9)
    seen = transform(cam_from_world, torch.stack([target, target + 0.01 * up, eye]))
    close(seen[0], [0.0, 0, (target - eye).norm().item()], 1e-9)
    assert seen[1, 1] < 0
    close(seen[2], [0.0, 0, 0], 1e-9)


def test_looking_nowhere_or_along_up_is_refused_with_the_entry_that_is_wrong():
    eye, up = torch.tensor([[0.0, 0, 1], [1, 0, 0]]), torch.tensor([[0.0, 1, 0], [0, 1, 0]])
    with pytest.raises(ValueError, match=r"eye and target coincide \(batch entries \[\[1\]\]\)"):
        look_at(eye, torch.tensor([[0.0, 0, 0], [1, 0, 0]]), up)
    with pytest.raises(ValueError, match="up is along the line of sight"):
        look_at(torch.zeros(3), up[0], up[0])


def test_opengl_cameras_flip_y_and_z_and_back():
    cam_from_world = torch.eye(4)
    cam_from_world[:3, 3] = torch.tensor([1.0, 2, -3])
    turned = opengl_to_opencv(cam_from_world)
    assert turned[:3, 3].tolist() == [1, -2, 3]
    assert turned[:3, :3].diagonal().tolist() == [1, -1, -1]
    assert torch.equal(opengl_to_opencv(turned), cam_from_world)


def test_pytorch3d_cameras_of_the_core_vectors_give_the_same_pixels(reference):
    arrays = reference("core/cameras")
    cam_from_world = rigid(torch.from_numpy(arrays["cv_R"]), torch.from_numpy(arrays["cv_t"]))
    points_cam = transform(cam_from_world, torch.from_numpy(arrays["points_world"]))
    close(points_cam, arrays["points_cam_opencv"], 1e-12)
    close(project(points_cam, torch.from_numpy(arrays["cv_K"]))[0], arrays["pixels"], 1e-9)
    R_p3d, T_p3d = opencv_to_pytorch3d(cam_from_world)
    close(R_p3d, arrays["p3d_R"], 1e-6)
    close(T_p3d, arrays["p3d_T"], 1e-5)
    close(pytorch3d_to_opencv(R_p3d, T_p3d), cam_from_world, 1e-12)


def test_fov_cameras_of_the_core_vectors_give_the_same_pixels(reference):
    arrays = {key: torch.from_numpy(value) for key, value in reference("core/cameras").items()}
    cam_from_world = pytorch3d_to_opencv(arrays["fov_p3d_R"].double(), arrays["fov_p3d_T"].double())
    close(cam_from_world[:, :3, :3], arrays["fov_cv_R"], 1e-6)
    close(cam_from_world[:, :3, 3], arrays["fov_cv_t"], 1e-5)
    close(transform(invert(cam_from_world), torch.zeros(5, 1, 3).double())[:, 0], arrays["fov_camera_center"], 1e-5)
    for i, (fov, size) in enumerate(zip(arrays["fov_deg"], arrays["image_size"].tolist(), strict=True)):
        intrinsics = pytorch3d_fov_to_intrinsics(fov, (size[0], size[1]))
        close(intrinsics, arrays["fov_cv_K"][i], 1e-9)
        close(project(arrays["fov_points_cam_opencv"][i], intrinsics)[0], arrays["fov_pixels"][i], 1e-9)
        close(arrays["fov_pixels"][i] + 0.5, arrays["fov_points_screen"][i, :, :2], 1e-3)


def test_the_original_systems_cameras_convert_both_ways(reference):
    arrays = {key: torch.from_numpy(value) for key, value in reference("smil_regressor/cameras").items()}
    R_p3d, T_p3d = opencv_to_pytorch3d(rigid(arrays["R_cv"], arrays["t_cv"]))
    close(R_p3d, arrays["R_p3d"], 2e-6)
    close(T_p3d, arrays["T_p3d"], 2e-6)
    back = pytorch3d_to_opencv(arrays["R_p3d"], arrays["T_p3d"])
    close(back[:, :3, :3], arrays["R_cv"], 2e-6)
    for i, (width, height) in enumerate(arrays["image_wh"].tolist()):
        fov, aspect = intrinsics_to_fov(arrays["K"][i], (height, width))
        close(fov, arrays["fov_y_deg"][i], 1e-4)
        close(aspect, arrays["aspect"][i], 2e-6)
        intrinsics = fov_to_intrinsics(arrays["fov_y_deg"][i].double(), (height, width), arrays["aspect"][i].double())
        pixels, _ = project(transform(back[i], arrays["points"][i]).double(), intrinsics)
        close(pixels + 0.5, arrays["pixels_opencv"][i], 1e-3, rtol=2e-6)  # the original's centres are at +0.5


POLYNOMIAL = [(-0.3, 0.1, 1e-3, -2e-3, -0.02), (0.1, -0.05, -1e-3, 5e-4, 0.01), (0.0, 0.0, 0.0, 0.0, 0.0)]
FRACTION = (0.3, 0.05, 1e-3, -2e-3, -0.02, 0.5, -0.03, 0.01)
PRISM = (*FRACTION, 2e-3, -1e-3, -3e-3, 2e-3)
POLYNOMIAL += [(-0.3, 0.1, 1e-3, -2e-3), FRACTION, PRISM, (*PRISM, 0.02, -0.05)]
FISHEYE = [(-0.02, 0.01, -0.005, 0.001), (0.1, -0.03, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)]
LENSES = [("polynomial", c) for c in POLYNOMIAL] + [("fisheye", c) for c in FISHEYE]
ARIA = (-0.024, 0.098, -0.065, 0.012, 0.003, -0.001, 3e-4, -2e-4, -8e-4, 1e-4, 5e-4, -2e-4)
PINHOLE = np.array([[400.0, 0, 320], [0, 410, 240], [0, 0, 1]])


def grid_pixels():
    u, v = np.meshgrid(np.linspace(0, 640, 9), np.linspace(0, 480, 9))
    return np.stack([u, v], -1).reshape(-1, 2)


@pytest.mark.parametrize(("model", "coefficients"), LENSES)
def test_lenses_distort_and_undistort_as_in_opencv(model, coefficients):
    pixels, d = grid_pixels(), np.array(coefficients)
    rays = np.concatenate([(pixels - PINHOLE[:2, 2]) / PINHOLE[[0, 1], [0, 1]], np.ones((81, 1))], -1)
    zero = np.zeros(3)
    if model == "polynomial":
        expected = cv2.projectPoints(rays, zero, zero, PINHOLE, d)[0][:, 0]
    else:
        expected = cv2.fisheye.projectPoints(rays[:, None], zero, zero, PINHOLE, d)[0][:, 0]
    camera, distortion = torch.from_numpy(PINHOLE), torch.from_numpy(d)
    seen = distort_pixels(torch.from_numpy(pixels), camera, distortion, model)
    close(seen, expected, 1e-9)
    close(undistort_pixels(seen, camera, distortion, model), pixels, 1e-8)
    close(undistort_pixels(seen.float(), camera.float(), distortion.float(), model), pixels, 5e-3)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 200, 1e-12)
    if model == "polynomial":
        oracle = cv2.undistortPoints(expected[:, None], PINHOLE, d, None, None, PINHOLE, criteria=criteria)[:, 0]
    else:
        oracle = cv2.fisheye.undistortPoints(expected[:, None], PINHOLE, d, None, PINHOLE, criteria=criteria)[:, 0]
    close(undistort_pixels(torch.from_numpy(expected), camera, distortion, model), oracle, 1e-5)


def test_an_aria_lens_distorts_by_the_published_formula_and_is_undone_over_its_whole_field():
    angle, around = np.meshgrid(np.radians(np.linspace(0, 60, 13)), np.linspace(0, 2 * np.pi, 16, endpoint=False))
    rays = (np.tan(angle)[..., None] * np.stack([np.cos(around), np.sin(around)], -1)).reshape(-1, 2)
    (*k, p0, p1, s0, s1, s2, s3), theta = ARIA, angle.ravel()
    bent = theta + sum(k_i * theta ** (2 * i + 3) for i, k_i in enumerate(k))
    xr, yr = bent * np.cos(around.ravel()), bent * np.sin(around.ravel())
    q = xr**2 + yr**2
    u = xr + (2 * xr**2 + q) * p0 + 2 * xr * yr * p1 + s0 * q + s1 * q**2
    v = yr + (2 * yr**2 + q) * p1 + 2 * xr * yr * p0 + s2 * q + s3 * q**2
    camera, distortion = torch.from_numpy(PINHOLE), torch.tensor(ARIA, dtype=torch.float64)
    pixels = torch.from_numpy(rays * PINHOLE[[0, 1], [0, 1]] + PINHOLE[:2, 2])
    seen = distort_pixels(pixels, camera, distortion, "fisheye624")
    close(seen, np.stack([400 * u + 320, 410 * v + 240], -1), 1e-9)
    close(undistort_pixels(seen, camera, distortion, "fisheye624"), pixels, 1e-8)
    assert undistort_pixels(seen + 2000, camera, distortion, "fisheye624").isnan().all()


@pytest.mark.parametrize(("model", "coefficients"), [*LENSES, ("fisheye624", ARIA)])
def test_gradients_of_distortion_and_its_inverse_are_those_of_finite_differences(model, coefficients):
    pixels = torch.tensor([[320.0, 240], [60, 420], [300, 100]], dtype=torch.float64, requires_grad=True)
    camera = torch.from_numpy(PINHOLE)
    distortion = torch.tensor(coefficients, dtype=torch.float64, requires_grad=True)
    for function in (distort_pixels, undistort_pixels):
        assert torch.autograd.gradcheck(
            lambda p, d, function=function: function(p, camera, d, model), (pixels, distortion), eps=1e-5, atol=1e-3
        )


def test_a_pixel_that_no_ray_reaches_is_nan_and_leaves_the_other_gradients_finite():
    pixels = torch.tensor([[3000.0, 240], [330, 250], [float("nan"), 0]], dtype=torch.float64, requires_grad=True)
    camera = torch.from_numpy(PINHOLE)
    for model, coefficients in (("polynomial", POLYNOMIAL[0]), ("fisheye", FISHEYE[0])):
        out = undistort_pixels(pixels, camera, torch.tensor(coefficients, dtype=torch.float64), model)
        assert out.isnan().all(-1).tolist() == [True, False, True]
        (gradient,) = torch.autograd.grad(out[1].sum(), pixels)
        assert gradient[1].isfinite().all()


@pytest.mark.usefixtures("unchecked")
def test_a_wrong_lens_or_count_of_coefficients_is_refused():
    pixels, camera = torch.zeros(1, 2), torch.eye(3)
    with pytest.raises(ValueError, match="polynomial takes 4 or 5 or 8 or 12 or 14 coefficients, got shape \\(6,\\)"):
        distort_pixels(pixels, camera, torch.zeros(6))
    with pytest.raises(ValueError, match="'brown' is none of"):
        undistort_pixels(pixels, camera, torch.zeros(5), "brown")
