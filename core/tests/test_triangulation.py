"""Triangulation: exact on exact pixels, weighted, and finite where rays do not fix a point."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posecore.cameras import look_at, project, transform, triangulate

K = torch.tensor([[500.0, 0, 320], [0, 480, 240], [0, 0, 1]], dtype=torch.float64)


def rig(views, radius=3.0):
    """Projections (v 3 4) of cameras on a circle around the origin, and their cam_from_world."""
    angle = torch.arange(views, dtype=torch.float64) * 2 * math.pi / views / 1.3
    eye = radius * torch.stack([torch.cos(angle), 0.3 * torch.sin(3 * angle), torch.sin(angle)], -1)
    up = torch.tensor([0.0, 1, 0], dtype=torch.float64).expand(views, 3)
    cam_from_world = look_at(eye, torch.zeros(views, 3, dtype=torch.float64), up)
    return K @ cam_from_world[:, :3], cam_from_world


def observe(points, cam_from_world):
    return project(transform(cam_from_world, points.expand(len(cam_from_world), -1, 3)), K)[0]


def scene(views=4, n=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = 0.5 * torch.randn(n, 3, dtype=torch.float64, generator=generator)
    projections, cam_from_world = rig(views)
    pixels = observe(points, cam_from_world)
    return points, pixels, projections, torch.ones(views, n, dtype=torch.float64), generator


@given(views=st.integers(2, 6), scale=st.sampled_from([1e-3, 1.0, 1e3]), shift=st.floats(-100, 100))
def test_exact_pixels_give_their_points_in_any_unit_and_at_any_origin(views, scale, shift):
    points, pixels, projections, weights, _ = scene(views)
    moved = projections.clone()
    moved[..., 3] = scale * projections[..., 3] - projections[..., :3].sum(-1) * shift * scale
    found, valid = triangulate(pixels, moved, weights)
    assert valid.all()
    torch.testing.assert_close(found / scale, points + shift, rtol=0, atol=1e-7)


def test_projections_mean_the_same_at_any_scale_and_sign():
    _, pixels, projections, weights, generator = scene()
    pixels = pixels + torch.randn(pixels.shape, dtype=torch.float64, generator=generator)
    expected, _ = triangulate(pixels, projections, weights)
    found, valid = triangulate(pixels, projections * torch.tensor([1.0, -2, 0.1, -30])[:, None, None], weights)
    assert valid.all()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_an_observation_without_weight_is_ignored_even_where_it_or_its_camera_is_nan():
    _, pixels, projections, weights, generator = scene()
    pixels = pixels + torch.randn(pixels.shape, dtype=torch.float64, generator=generator)
    expected, _ = triangulate(pixels[:3], projections[:3], weights[:3])
    weights[3], pixels[3], projections[3] = 0, math.nan, math.nan
    found, valid = triangulate(pixels, projections, weights)
    assert valid.all()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_view_counts_as_often_as_its_weight_says():
    _, pixels, projections, weights, generator = scene()
    pixels = pixels + torch.randn(pixels.shape, dtype=torch.float64, generator=generator)
    weights[1] = 2
    found, _ = triangulate(pixels, projections, weights)
    twice = [0, 1, 1, 2, 3]
    expected, _ = triangulate(pixels[twice], projections[twice], torch.ones(5, 10, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_further_passes_bring_the_reprojection_error_down_to_the_best_there_is():
    points, pixels, projections, weights, generator = scene(n=200)
    # Near and far cameras: residuals measured at the point trust the far ones too little.
    far = look_at(
        torch.tensor([[9.0, 3, 0], [0.0, 2, 12]], dtype=torch.float64),
        torch.zeros(2, 3, dtype=torch.float64),
        torch.tensor([[0.0, 1, 0]] * 2, dtype=torch.float64),
    )
    projections = torch.cat([projections, K @ far[:, :3]])
    pixels = torch.cat([pixels, observe(points, far)])
    pixels = pixels + 3 * torch.randn(pixels.shape, dtype=torch.float64, generator=generator)
    weights = torch.ones(6, 200, dtype=torch.float64)

    def error(passes):
        found, valid = triangulate(pixels, projections, weights, passes=passes)
        assert valid.all()
        homogeneous = torch.cat([found, torch.ones_like(found[:, :1])], -1)
        rows = homogeneous @ projections.mT
        return (rows[..., :2] / rows[..., 2:] - pixels).square().sum(-1).mean()

    assert error(2) < 0.98 * error(1)
    assert abs(error(3) / error(2) - 1) < 1e-3


def batch_of_degenerate_scenes():
    """One view, no view, the same camera twice, parallel rays from two cameras."""
    _, pixels, projections, weights, _ = scene(views=2, n=3)
    one_view, no_view = weights.clone(), torch.zeros_like(weights)
    one_view[1] = 0
    shifted = projections[:1] - K @ torch.tensor([[0.0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
    cases = [
        (pixels, projections, one_view),
        (pixels, projections, no_view),
        (pixels[[0, 0]], projections[[0, 0]], weights),
        (pixels[[0, 0]], torch.cat([projections[:1], shifted]), weights),
    ]
    return tuple(torch.stack(parts) for parts in zip(*cases, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rays_that_fix_no_point_are_invalid_with_finite_points_and_zero_gradients(dtype):
    pixels, projections, weights = (x.to(dtype).requires_grad_() for x in batch_of_degenerate_scenes())
    found, valid = triangulate(pixels, projections, weights)
    assert not valid.any()
    assert found.isfinite().all()
    found.sum().backward()
    for x in (pixels, projections, weights):
        assert torch.equal(x.grad, torch.zeros_like(x))


def test_a_point_behind_a_camera_that_saw_it_is_invalid():
    _, _, projections, weights, _ = scene(n=2)
    behind = torch.tensor([[0.0, 0, 0], [6.0, 0, 0]], dtype=torch.float64)
    homogeneous = torch.cat([behind, torch.ones(2, 1, dtype=torch.float64)], -1)
    rows = homogeneous @ projections.mT
    found, valid = triangulate(rows[..., :2] / rows[..., 2:], projections, weights)
    torch.testing.assert_close(found, behind, rtol=0, atol=1e-7)
    assert valid.tolist() == [True, False]


@pytest.mark.parametrize(("angle_deg", "expected"), [(1.9, False), (2.1, True)])
def test_the_angle_gate_opens_at_two_degrees(angle_deg, expected):
    half = math.radians(angle_deg) / 2
    eye = 3 * torch.tensor([[math.sin(-half), 0, -math.cos(half)], [math.sin(half), 0, -math.cos(half)]]).double()
    up = torch.tensor([[0.0, -1, 0]] * 2).double()
    cam_from_world = look_at(eye, torch.zeros(2, 3).double(), up)
    pixels = observe(torch.zeros(1, 3).double(), cam_from_world)
    _, valid = triangulate(pixels, K @ cam_from_world[:, :3], torch.ones(2, 1).double())
    assert valid.item() is expected


def test_gradients_are_those_of_finite_differences():
    _, pixels, projections, weights, generator = scene(views=3, n=2)
    pixels = pixels + torch.randn(pixels.shape, dtype=torch.float64, generator=generator)
    weights = torch.rand(weights.shape, dtype=torch.float64, generator=generator) + 0.5
    inputs = (pixels.requires_grad_(), projections.requires_grad_(), weights.requires_grad_())
    assert torch.autograd.gradcheck(lambda *x: triangulate(*x)[0], inputs, rtol=1e-4)


def test_negative_weights_and_zero_passes_are_refused():
    _, pixels, projections, weights, _ = scene()
    with pytest.raises(ValueError, match="negative or NaN"):
        triangulate(pixels, projections, -weights)
    with pytest.raises(ValueError, match="passes: 0"):
        triangulate(pixels, projections, weights, passes=0)


def test_the_exact_reference_points_are_met(reference):
    arrays = {key: torch.from_numpy(value) for key, value in reference("smil_regressor/triangulation").items()}
    projections = arrays["K"] @ torch.cat([arrays["R_cv"], arrays["t_cv"][..., None]], -1)
    pixels = arrays["keypoints_exact_yx01"].flip(-1) * float(arrays["image_size"])
    weights = (arrays["in_bounds"] & arrays["view_mask"][..., None]).float()
    found, valid = triangulate(pixels, projections, weights)
    assert torch.equal(valid, arrays["exact_valid"])
    torch.testing.assert_close(found[valid], arrays["true_points"][valid], rtol=0, atol=2e-5)  # float32 pixels
    torch.testing.assert_close(found[valid], arrays["exact_points"][valid], rtol=0, atol=2e-5)
