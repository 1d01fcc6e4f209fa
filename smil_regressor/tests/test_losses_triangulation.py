from dataclasses import replace

import pytest
import torch

from posecore.cameras import project
from posecore.rotations import axis_angle_to_matrix, geodesic_distance
from smil_regressor.losses import LossSettings, Triangulation, loss_terms, triangulate_keypoints
from smil_regressor.model.backbone import create_backbone
from smil_regressor.model.body import Body
from smil_regressor.model.build import BodySpec, HeadSpec, build_multi_view

SOUND = Triangulation(regulariser=1e-9, relative=True, reweight_passes=2, double=True, in_front=True, min_angle_deg=2.0)


def points_of(batch, cameras, options, pixels=None, weights=None):
    pixels = batch.keypoints_px if pixels is None else pixels
    weights = batch.view_mask[..., None].expand(pixels.shape[:-1]).float() if weights is None else weights
    size_wh = torch.full((2,), float(batch.images.shape[2]))
    return triangulate_keypoints(pixels, cameras.K, cameras.cam_from_world, weights, size_wh, options)


@pytest.mark.parametrize("options", [Triangulation(double=True), SOUND])
def test_exact_keypoints_give_the_joints_back(truth, options):
    batch, prediction = truth(v=4)
    points, valid = points_of(batch, prediction, options)
    assert valid.all()
    torch.testing.assert_close(points.float(), batch.keypoints_world, rtol=0, atol=2e-4 if options != SOUND else 1e-5)


def test_a_joint_of_fewer_than_two_views_is_not_valid_and_nan_there_is_harmless(truth):
    batch, prediction = truth(v=4)
    weights = batch.view_mask[..., None].repeat(1, 1, batch.visibility.shape[2]).float()
    weights[0, 1:, 0] = 0
    pixels = torch.where(weights[..., None] > 0, batch.keypoints_px, float("nan"))
    points, valid = points_of(batch, prediction, SOUND, pixels, weights)
    assert not valid[0, 0]
    assert valid.sum() == valid.numel() - 1
    assert points.isfinite().all()


def test_nearly_parallel_rays_are_refused_by_the_angle_gate(truth):
    batch, prediction = truth(v=2)
    near = prediction.cam_from_world[:, :1].repeat(1, 2, 1, 1)
    near[:, 1, 0, 3] += 0.05
    cameras = replace(prediction, cam_from_world=near)
    points_cam = batch.keypoints_world[:, None] @ near[..., :3, :3].transpose(-1, -2) + near[..., None, :3, 3]
    pixels, _ = project(points_cam, cameras.K)
    assert not points_of(batch, cameras, SOUND, pixels)[1].any()
    assert points_of(batch, cameras, replace(SOUND, min_angle_deg=None), pixels)[1].all()


def test_reweighting_makes_errors_in_pixels_count_equally(truth):
    """Two cameras are five times as far: plain equations listen to them too much."""
    batch, prediction = truth(b=1, v=4)
    far = prediction.cam_from_world.clone()
    far[:, :2, 2, 3] = 30.0
    cameras = replace(prediction, cam_from_world=far)
    points_cam = batch.keypoints_world[:, None] @ far[..., :3, :3].transpose(-1, -2) + far[..., None, :3, 3]
    exact, _ = project(points_cam, cameras.K)
    pixels = exact + 0.2 * torch.randn(exact.shape, generator=torch.Generator().manual_seed(0))
    errors = []
    for passes in (0, 2):
        points, _ = points_of(batch, cameras, replace(SOUND, reweight_passes=passes), pixels)
        errors.append((points - batch.keypoints_world).square().mean().sqrt().item())
    assert errors[1] < errors[0]


@pytest.mark.parametrize("options", [Triangulation(), SOUND])
def test_the_gradient_is_the_derivative(truth, options):
    batch, prediction = truth(b=1, v=2)
    pixels, K = batch.keypoints_px[:, :, :2].double().requires_grad_(), prediction.K.double().requires_grad_()
    cameras = prediction.cam_from_world.double().requires_grad_()
    weights, size_wh = torch.ones(1, 2, 2), torch.tensor([32.0, 32.0], dtype=torch.float64)
    plain = replace(options, reweight_passes=0)  # the weights of a pass are constants, as meant

    def points(pixels, K, cameras):
        return triangulate_keypoints(pixels, K, cameras, weights, size_wh, plain)[0]

    if not options.relative:  # the midpoint is a constant too, but with a regulariser of 1e-9 that cannot be seen
        assert torch.autograd.gradcheck(points, (pixels, K, cameras), atol=1e-4)
    assert torch.autograd.gradcheck(points, (pixels, K, cameras), atol=1e-4, rtol=1e-3)


def test_points_and_gradients_are_those_of_the_published_loss(reference):
    arrays = {k: torch.from_numpy(v) for k, v in reference("triangulation").items() if k != "image_size"}
    z180 = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    fov, R, T = (arrays[k].clone().requires_grad_() for k in ("fov", "R_p3d", "T_p3d"))

    size = 224.0
    half = torch.tan(torch.deg2rad(fov[..., 0]) / 2)
    fx, fy = size / (2 * arrays["aspect"][..., 0] * half), size / (2 * half)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    centre = one * (size - 1) / 2
    K = torch.stack([fx, zero, centre, zero, fy, centre, zero, zero, one], dim=-1).unflatten(-1, (3, 3))
    top = torch.cat([z180 @ R.transpose(-1, -2), (T @ z180)[..., None]], dim=-1)
    cam_from_world = torch.cat([top, torch.tensor([0.0, 0, 0, 1]).expand(2, 4, 1, 4)], dim=-2)

    def triangulate(name, used):
        pixels = arrays[name].flip(-1) * size - 0.5
        weights = used.float()
        return triangulate_keypoints(pixels, K, cam_from_world, weights, torch.tensor([size, size]), Triangulation())

    points, valid = triangulate("keypoints_exact_yx01", arrays["in_bounds"])
    assert torch.equal(valid, arrays["exact_valid"])
    torch.testing.assert_close(points[valid], arrays["exact_points"][valid], rtol=0, atol=5e-6)
    points, valid = triangulate(
        "keypoints_noisy_yx01", (arrays["visibility"] > 0) & arrays["in_bounds"] & arrays["view_mask"][..., None]
    )
    assert torch.equal(valid, arrays["noisy_valid"])
    torch.testing.assert_close(points[valid], arrays["noisy_points"][valid], rtol=0, atol=5e-6)
    mse = (points - arrays["true_points"])[valid].square().mean()
    assert mse.item() == pytest.approx(arrays["noisy_mse"].item(), rel=1e-4)
    mse.backward()
    for value, name in ((fov, "fov"), (R, "R"), (T, "t")):
        expected = arrays[f"noisy_grad_{name}"]
        torch.testing.assert_close(value.grad, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_the_loss_brings_cameras_that_are_five_degrees_off_back(truth, insect):
    batch, prediction = truth(b=1, v=4, seed=3)
    settings = LossSettings(triangulation=SOUND)
    axes = torch.nn.functional.normalize(torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    turn = (axes * torch.deg2rad(torch.tensor(5.0))).requires_grad_()
    optimiser = torch.optim.LBFGS([turn], max_iter=40, tolerance_grad=0, line_search_fn="strong_wolfe")
    used = batch.view_mask[0]

    def cameras():
        off = torch.eye(4).repeat(1, 4, 1, 1)
        off[..., :3, :3] = axis_angle_to_matrix(turn)
        return prediction.cam_from_world @ off

    def loss():
        optimiser.zero_grad()
        predicted = replace(prediction, cam_from_world=cameras())
        name = "triangulation_consistency"
        value = 1e4 * loss_terms(predicted, batch, Body(insect), [name], settings)[name].mean()
        value.backward()
        return value

    optimiser.step(loss)
    rotation = cameras().detach()[0, used, :3, :3]
    error = torch.rad2deg(geodesic_distance(rotation, prediction.cam_from_world[0, used, :3, :3]))
    assert error.max() < 0.5


def test_the_gradient_reaches_the_camera_heads_and_not_the_body(truth, insect):
    torch.manual_seed(0)
    batch, prediction = truth(v=3, size=64)
    spec = BodySpec(insect.num_joints, insect.num_betas)
    head = HeadSpec(hidden_dim=32, depth=1, num_heads=2, dim_head=8, mlp_dim=32)
    model = build_multi_view(create_backbone("tiny_vit", 64), spec, head, num_slots=3)
    # The body is taken from the truth, for that of a fresh network lies far from what the cameras see.
    predicted = replace(prediction, cam_from_world=model(batch).cam_from_world)
    name = "triangulation_consistency"
    loss_terms(predicted, batch, Body(insect), [name], LossSettings())[name].mean().backward()
    last = model.camera_heads.layers[-1].weight.grad
    assert (last[:2].abs().amax((1, 2)) > 0).all()
    assert last[2].abs().max() == 0  # the view of this slot is masked
    assert all(p.grad is None for p in model.head.parameters())
