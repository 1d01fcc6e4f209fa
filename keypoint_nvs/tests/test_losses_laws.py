"""What loss terms obey on any input: zero on what they ask for, finite gradients in the bad places."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keypoint_nvs.affine import affine_theta, warp
from keypoint_nvs.gaussians import gaussian_maps
from keypoint_nvs.losses import (
    equivariance,
    foreground,
    multiview_heatmap,
    multiview_point,
    sharpening,
    spread,
    temporal,
)
from keypoint_nvs.losses.autoencoder import autoencoder_terms, normal_divergence
from keypoint_nvs.losses.multiview import positions_of_maps
from keypoint_nvs.losses.spread import spread_3d
from keypoint_nvs.losses.temporal import follows_previous, temporal_errors
from keypoint_nvs.model.records import AutoencoderOutput

seeds = st.integers(0, 2**31)


def double_maps(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(seed=seeds, sigma=st.floats(0.5, 3.0))
def test_sharpening_is_zero_on_gaussians_at_pixels_and_not_beside(seed, sigma):
    cells = torch.randint(0, 16, (4, 2), generator=torch.Generator().manual_seed(seed))
    maps = gaussian_maps((cells + 0.5).double() / 16, 16, sigma)
    assert float(sharpening(maps, sigma)) == pytest.approx(0, abs=1e-15)
    assert float(sharpening(maps, sigma * 1.5)) > 1e-4


@pytest.mark.parametrize(
    "term", ["equivariance", "masked", "sharpening", "two subjects", "heat", "l2", "kl", "weighted"]
)
def test_gradients_of_terms_on_maps_are_those_of_finite_differences(term):
    maps, other = (double_maps(seed, 1, 2, 5, 5).requires_grad_() for seed in (0, 1))
    theta = affine_theta(torch.tensor([9.0]), torch.tensor([0.85]), torch.full((1, 2), 0.1)).double()
    places = torch.tensor([[2.3, 1.2], [-2.0, 9.0]], dtype=torch.float64)[None]
    terms = {
        "equivariance": lambda a, b: equivariance(a, b, theta, mask_outside=False),
        "masked": lambda a, b: equivariance(a, b, theta, mask_outside=True),
        "sharpening": lambda a, b: sharpening(a, 1.5),
        "two subjects": lambda a, b: sharpening(a, 1.0, 2),
        "heat": lambda a, b: multiview_heatmap(a, places, 1.5),
        "l2": lambda a, b: temporal(a, b, "l2"),
        "kl": lambda a, b: temporal(a, b, "kl"),
        "weighted": lambda a, b: temporal(a, b, "weighted"),
    }
    assert torch.autograd.gradcheck(terms[term], (maps, other), fast_mode=True)


def test_a_picture_and_its_warp_with_maps_that_move_along_have_no_equivariance_error_inside():
    rows = torch.linspace(-1, 1, 24, dtype=torch.float64)
    maps = torch.stack([rows[:, None] + 0 * rows, 0 * rows[:, None] + rows])[None]  # linear: bilinear sampling is exact
    theta = affine_theta(torch.tensor([12.0]), torch.tensor([0.9]), torch.tensor([[0.2, -0.1]])).double()
    warped = warp(maps, theta)
    assert float(equivariance(maps, warped, theta, mask_outside=True)) < 1e-12
    assert float(equivariance(maps, warped, theta, mask_outside=False)) > 1e-2


def test_what_happens_to_pixels_that_left_the_frame_matters_only_without_the_mask():
    maps = double_maps(0, 1, 2, 12, 12)
    theta = affine_theta(torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([[0.5, 0.0]])).double()
    warped = warp(maps, theta)
    changed = maps.clone()
    changed[..., :3] += (
        1.0  # the grid is shifted to the right: the three leftmost columns are not in the warped picture
    )
    masked, counted = (
        [float(equivariance(m, warped, theta, mask_outside)) for m in (maps, changed)] for mask_outside in (True, False)
    )
    assert masked[0] == masked[1] == pytest.approx(0, abs=1e-15)
    assert counted[1] > counted[0] > 0


def test_a_picture_that_left_its_frame_altogether_has_no_error_and_no_gradient():
    maps = double_maps(0, 1, 2, 8, 8).requires_grad_()
    theta = affine_theta(torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([[2.5, 0.0]])).double()
    loss = equivariance(maps, maps.detach(), theta)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(maps.grad, torch.zeros_like(maps))


@given(seed=seeds, width=st.floats(0.01, 1.0))
@settings(max_examples=10)
def test_the_points_loss_is_hubers_function_and_its_gradient_that_of_finite_differences(seed, width):
    places = double_maps(seed, 3, 4, 2)
    observed = places + double_maps(seed + 1, 3, 4, 2) * 4 * width
    weights = double_maps(seed + 2, 3, 4)
    lengths = torch.linalg.vector_norm(places - observed, dim=-1)
    errors = torch.nn.functional.huber_loss(lengths, torch.zeros_like(lengths), delta=width, reduction="none") / width
    found = multiview_point(places, observed, weights, width)
    torch.testing.assert_close(found, (weights * errors).sum(-1) / weights.sum(-1))
    is_smooth = ((lengths - width).abs() > 1e-4).all()
    if is_smooth:
        assert torch.autograd.gradcheck(
            lambda a, b: multiview_point(a, b, weights, width), (places.requires_grad_(), observed.requires_grad_())
        )


def test_the_points_loss_where_all_fits_or_no_view_is_left_is_zero_with_finite_gradients():
    places = torch.rand(2, 4, 2, requires_grad=True)
    weights = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0]])
    observed = torch.stack([places[0].detach(), places[1].detach() + 1])
    loss = multiview_point(places, observed, weights, 0.03)
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0]
    assert torch.equal(places.grad, torch.zeros_like(places))


def test_heat_maps_want_the_projected_point_also_where_their_own_peak_is_elsewhere_and_leave_the_point_alone():
    target = torch.tensor([3.2, 8.7], dtype=torch.float64, requires_grad=True)
    at_target = gaussian_maps(torch.tensor([9.2 / 16, 3.7 / 16], dtype=torch.float64), 16, 1.5)
    elsewhere = gaussian_maps(torch.tensor([0.2, 0.9], dtype=torch.float64), 16, 1.5).requires_grad_()
    assert float(multiview_heatmap(at_target, target, 1.5)) == pytest.approx(0, abs=1e-15)
    loss = multiview_heatmap(elsewhere, target, 1.5)
    loss.backward()
    assert float(elsewhere.grad[9, 3]) < 0 < float(elsewhere.grad[3, 14])
    assert target.grad is None


def test_two_tokens_at_the_same_place_have_a_finite_gradient_and_are_told():
    points = torch.tensor([[0.0, 0, 0], [0, 0, 0], [0.05, 0, 0]], requires_grad=True)
    loss = spread(points, 0.1)
    loss.backward()
    assert float(loss.detach()) == pytest.approx((0.01 + 2 * 0.0025) / 3, rel=1e-5)
    assert points.grad.isfinite().all()
    assert float(points.grad[2, 0]) < 0  # descending moves it away
    assert float(spread(points.detach(), 0.1, torch.tensor([True, False, True]))) == pytest.approx(0.0025, rel=1e-5)
    assert float(spread(points.detach(), 0.1, torch.tensor([True, False, False]))) == 0
    assert float(spread(points.detach() * 100, 0.01, torch.tensor([True, False, True]))) == 0


@given(seed=seeds)
@settings(max_examples=10)
def test_spread_has_the_gradient_of_finite_differences(seed):
    points = double_maps(seed, 2, 4, 3) * 0.15
    assert torch.autograd.gradcheck(lambda p: spread(p, 0.1), (points.requires_grad_(),))
    root_mean_square = (points - points.mean(1, keepdim=True)).square().sum(-1).mean(-1).sqrt()
    torch.testing.assert_close(spread_3d(points, torch.ones(2, 4, dtype=torch.bool)), root_mean_square)


@pytest.mark.parametrize("alpha_px", [16, 32, 64])
def test_keypoints_on_the_object_cost_nothing_whatever_the_size_of_alpha(alpha_px):
    alpha = torch.zeros(1, alpha_px, alpha_px)
    alpha[:, :, : alpha_px // 2] = 1.0  # the left half
    places = torch.tensor([[[3.0, 9.0], [15.5, 4.0], [30.0, 20.0], [0.0, 31.0]]], requires_grad=True)
    cost = foreground(places, alpha, 32)
    torch.testing.assert_close(cost[0].detach(), torch.tensor([0.0, 0.5, 1.0, 0.0]))
    cost.sum().backward()
    assert float(places.grad[0, 1, 0]) > 0  # descending moves the one at the edge to the left
    assert torch.equal(places.grad[0, [0, 2, 3]], torch.zeros(3, 2))


def test_foreground_has_the_gradient_of_finite_differences():
    places = torch.tensor([[[3.3, 5.2], [6.8, 1.4]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: foreground(p, double_maps(3, 1, 9, 9), 12), (places,))


@pytest.mark.parametrize("maps", [torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 1 / 64)])
def test_flat_maps_and_maps_of_zeros_have_a_place_and_finite_gradients(maps):
    maps = maps.clone().requires_grad_()
    places = positions_of_maps(maps, 2.0)
    (places.sum() + sharpening(maps, 2.0) + multiview_heatmap(maps, torch.tensor([[[3.0, 3.0]]]), 2.0).sum()).backward()
    assert places.isfinite().all()
    assert maps.grad.isfinite().all()


@given(x=st.floats(3, 28), y=st.floats(3, 28))
def test_the_place_of_a_gaussian_is_its_centre_in_x_y_pixels(x, y):
    maps = gaussian_maps(torch.tensor([(y + 0.5) / 32, (x + 0.5) / 32], dtype=torch.float64), 32, 0.8)
    torch.testing.assert_close(
        positions_of_maps(maps, 3.0), torch.tensor([x, y], dtype=torch.float64), rtol=0, atol=0.01
    )


def test_neighbours_are_compared_over_the_tokens_that_both_chose():
    maps = double_maps(0, 3, 2, 3, 5, 5)
    selected = torch.tensor([[4, 7, 9], [7, 2, 4], [1, 3, 5]])
    follows = torch.tensor([True, True, True])  # the first has nothing before it
    errors = temporal_errors(maps, selected, follows)
    same = [(0, 2), (1, 0)]  # token 4, token 7
    expected = torch.stack([(maps[1, :, b] - maps[0, :, a]).square().mean((1, 2)) for a, b in same]).mean()
    torch.testing.assert_close(errors, torch.stack([expected * 0, expected, expected * 0]))
    assert torch.equal(temporal_errors(maps, selected, torch.tensor([True, False, False])), torch.zeros(3).double())


@pytest.mark.parametrize("kind", ["l2", "kl", "weighted"])
def test_neighbours_with_the_same_tokens_in_another_order_differ_as_their_maps_do(kind):
    maps = double_maps(1, 2, 2, 3, 5, 5)
    order = torch.tensor([2, 0, 1])
    selected = torch.stack([torch.arange(3), order])
    shuffled = torch.stack([maps[0], maps[1][:, order]])
    found = temporal_errors(shuffled, selected, torch.tensor([False, True]), kind)[1]
    torch.testing.assert_close(found, torch.stack([temporal(maps[0, v], maps[1, v], kind) for v in range(2)]).mean())
    still = maps[:1].expand(2, -1, -1, -1, -1)
    assert float(temporal_errors(still, selected[:1].expand(2, 3), torch.tensor([False, True]), kind)[1]) < 1e-12


def test_samples_follow_each_other_within_an_object_only():
    assert follows_previous(["a/0", "a/1", "b/0", "b/c/0", "b/c/7"]) == [False, True, False, False, True]
    assert follows_previous(["one", "two"]) == [False, False]
    clips = ["a/3", "a/4", "a/5", "a/6", "b/0", "b/1"]
    assert follows_previous(clips, 2) == [False, True, False, True, False, True]
    assert follows_previous(clips[:2], 2) + follows_previous(clips[2:], 2) == follows_previous(clips, 2)
    assert follows_previous(clips, 1) == [False] * 6


def test_the_autoencoders_divergence_is_that_of_torch_and_its_terms_count_pictures():
    mean, logvar = double_maps(0, 3, 4, 2, 2).float() * 4 - 2, double_maps(1, 3, 4, 2, 2).float() * 6 - 4
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (logvar / 2).exp()), normal(0.0, 1.0))
    torch.testing.assert_close(normal_divergence(mean, logvar), expected.mean((1, 2, 3)))
    pictures = double_maps(2, 3, 3, 4, 4).float()
    terms = autoencoder_terms(AutoencoderOutput(pictures + 0.5, pictures, mean, logvar))
    assert float(terms["reconstruction"].mean()) == pytest.approx(0.25, rel=1e-5)
    assert {name: float(term.count) for name, term in terms.items()} == {"reconstruction": 3.0, "kl": 3.0}
    zero = autoencoder_terms(AutoencoderOutput(pictures, pictures, mean * 0, logvar * 0))
    assert [float(term.total) for term in zero.values()] == [0.0, 0.0]
