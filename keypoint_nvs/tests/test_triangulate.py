"""Points from rays, and what views that disagree do to them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from keypoint_nvs.poses import orbit_cameras
from keypoint_nvs.rig import zero123plus_rig
from keypoint_nvs.triangulate import robust_points, triangulate_rays, view_weights
from posecore.cameras import project, transform, triangulate

RIG = zero123plus_rig("v1.2")
CAMERAS = torch.from_numpy(RIG.cam_from_world())
K = torch.from_numpy(RIG.K(320))[None]


def seen(points: Tensor) -> Tensor:
    """Pixels (v k 2) of points."""
    return project(transform(CAMERAS, points), K)[0]


def random_points(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.6 - 0.3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_weighted_rays_are_the_references(reference, dtype, tolerance):
    data = reference("geometry")
    cameras = np.tile(np.eye(4), (7, 1, 1))
    cameras[:, :3] = data["world_to_camera_opencv"]
    uv, intrinsics, cameras, weights = (
        torch.from_numpy(value).to(dtype) for value in (data["observed_uv"], data["K"][None], cameras, data["weights"])
    )
    expected = torch.from_numpy(data["rays_weighted"]).to(dtype)
    torch.testing.assert_close(
        triangulate_rays(uv, intrinsics, cameras, weights, ridge=0), expected, rtol=0, atol=tolerance
    )
    with_ridge = triangulate_rays(uv, intrinsics, cameras, weights)
    torch.testing.assert_close(with_ridge, expected, rtol=0, atol=max(tolerance, 1e-6))


@given(seed=st.integers(0, 10**6))
def test_clean_points_are_found_as_the_core_finds_them(seed):
    points = random_points(seed, 5)
    weights = torch.rand(6, 5, dtype=torch.float64) + 0.1
    found = triangulate_rays(seen(points), K, CAMERAS, weights, ridge=0)
    torch.testing.assert_close(found, points, rtol=0, atol=1e-9)
    of_core, valid = triangulate(seen(points), K @ CAMERAS[:, :3], weights)
    assert valid.all()
    torch.testing.assert_close(found, of_core, rtol=0, atol=1e-8)
    robust = robust_points(seen(points), K, CAMERAS, weights, 320)
    torch.testing.assert_close(robust.points, points, rtol=0, atol=3e-6)
    assert robust.counted.all()
    assert robust.errors_px.max() < 1e-2


def test_objects_are_triangulated_as_if_each_were_alone():
    points = random_points(0, 3, 4)
    uv = torch.stack([seen(each) for each in points]) + torch.randn(3, 6, 4, 2, dtype=torch.float64)
    weights = torch.rand(3, 6, 4, dtype=torch.float64)
    cameras, intrinsics = CAMERAS.expand(3, 6, 4, 4), K.expand(3, 6, 3, 3)
    together = robust_points(uv, intrinsics, cameras, weights, 320)
    assert together.points.shape == (3, 4, 3)
    for i in range(3):
        alone = robust_points(uv[i], K, CAMERAS, weights[i], 320)
        torch.testing.assert_close(together.points[i], alone.points)
        torch.testing.assert_close(together.weights[i], alone.weights)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_mirrored_view_drops_out_and_the_point_stays(dtype):
    points = random_points(1, 6)
    uv = seen(points)
    uv[2] = 319 - uv[2] + 40
    args = (uv.to(dtype), K.to(dtype), CAMERAS.to(dtype), torch.ones(6, 6, dtype=dtype), 320)
    plain, robust = robust_points(*args, rounds=0), robust_points(*args)
    far = (plain.points - points).norm(dim=-1)
    near = (robust.points - points).norm(dim=-1)
    assert (near < 0.3 * far).all()
    assert robust.counted.all()
    assert (robust.weights[2] < 0.2).all()
    assert (robust.weights[torch.arange(6) != 2] > 0.5).all()


def test_a_point_that_too_few_views_agree_about_is_not_counted():
    points = random_points(2, 3)
    weights = torch.zeros(6, 3, dtype=torch.float64)
    weights[:3, 0] = weights[:2, 1] = 1
    result = robust_points(seen(points), K, CAMERAS, weights, 320)
    assert result.counted.tolist() == [True, False, False]
    torch.testing.assert_close(result.points[:2], points[:2], rtol=0, atol=1e-5)
    assert torch.equal(result.points[2], torch.zeros(3).double())


def test_rays_that_are_almost_parallel_do_not_count():
    same = CAMERAS[:1].expand(6, 4, 4)
    uv = project(transform(same, random_points(3, 4)), K)[0]
    result = robust_points(uv, K, same, torch.ones(6, 4, dtype=torch.float64), 320)
    assert not result.counted.any()
    assert result.points.isfinite().all()


@given(angle=st.floats(2, 90))
def test_the_least_angle_is_that_between_rays(angle):
    turn = torch.tensor([0.0, angle, angle / 2])
    cameras = torch.from_numpy(orbit_cameras(turn.double().numpy(), np.zeros(3), 2.0))
    uv = torch.full((3, 1, 2), 159.5, dtype=torch.float64)
    weights = torch.tensor([[1.0], [1.0], [1e-9]]).double()
    threshold = (1 - np.cos(np.radians(angle))) / 2
    counts = [
        bool(robust_points(uv, K, cameras, weights, 320, min_angle=threshold * factor).counted)
        for factor in (0.99, 1.01)
    ]
    assert counts == [True, False]


def test_a_point_behind_a_camera_has_no_weight_there():
    facing_away = CAMERAS.clone()
    facing_away[0, :3] = torch.diag(torch.tensor([1.0, -1, -1])).double() @ CAMERAS[0, :3]
    uv = seen(random_points(4, 2))
    result = robust_points(uv, K, facing_away, torch.ones(6, 2, dtype=torch.float64), 320)
    assert (result.weights[0] == 0).all()
    assert result.counted.all()


def test_only_the_ratio_of_weights_moves_a_robust_point():
    uv = seen(random_points(5, 4)) + 3 * torch.randn(6, 4, 2, dtype=torch.float64)
    weights = torch.rand(6, 4, dtype=torch.float64)
    large, small = (robust_points(uv, K, CAMERAS, weights * factor, 320) for factor in (1.0, 1e-3))
    torch.testing.assert_close(small.points, large.points, rtol=0, atol=1e-9)
    torch.testing.assert_close(small.weights * 1e3, large.weights)


def test_the_gradient_of_rays_is_right_also_where_they_are_parallel():
    uv = (seen(random_points(6, 2)) + 1).requires_grad_()
    weights = torch.rand(6, 2, dtype=torch.float64) + 0.1
    assert torch.autograd.gradcheck(lambda at: triangulate_rays(at, K, CAMERAS, weights), uv)
    same = CAMERAS[:1].expand(6, 4, 4)
    at = torch.full((6, 2, 2), 100.0, dtype=torch.float64, requires_grad=True)
    triangulate_rays(at, K, same, weights).sum().backward()
    assert at.grad.isfinite().all()


def test_the_gradient_of_the_error_pulls_views_together():
    points = random_points(7, 3)
    uv = (seen(points) + 2 * torch.randn(6, 3, 2, dtype=torch.float64)).requires_grad_()
    result = robust_points(uv, K, CAMERAS, torch.ones(6, 3, dtype=torch.float64), 320)
    assert not result.weights.requires_grad
    before = (result.weights * result.errors_px**2).sum()
    (gradient,) = torch.autograd.grad(before, uv)
    moved = robust_points((uv - 0.1 * gradient).detach(), K, CAMERAS, torch.ones(6, 3, dtype=torch.float64), 320)
    assert (moved.weights * moved.errors_px**2).sum() < before


def test_views_much_fainter_than_the_best_do_not_count():
    height = torch.tensor([[0.5, 0.01], [0.04, 0.002], [0.06, 0.0005]], requires_grad=True)
    weights = view_weights(height, 0.1)
    expected = torch.tensor([[0.5, 0.01], [0.0, 0.002], [0.06, 0.0]])
    assert torch.equal(weights, expected)
    assert not weights.requires_grad
