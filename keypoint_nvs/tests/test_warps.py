"""Affine warps, and where their points go."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from keypoint_nvs.affine import affine_theta, inverse_theta, random_theta, unwarp_points_xy, warp, warp_points_xy
from keypoint_nvs.coordinates import rc_unit_from_xy_px, xy_px_from_rc_unit
from keypoint_nvs.gaussians import gaussian_maps
from keypoint_nvs.peaks import centre_of_mass


def test_warps_are_the_references(reference):
    data = {name: torch.from_numpy(values) for name, values in reference("sk_losses").items() if values.ndim}
    theta = affine_theta(data["angle_deg"], data["scale"], data["translate"]).float()
    torch.testing.assert_close(theta, data["theta"], rtol=0, atol=1e-6)
    warped = warp(data["image"], theta)
    torch.testing.assert_close(warped, data["warped"], rtol=0, atol=1e-5)
    back = inverse_theta(theta)
    torch.testing.assert_close(warp(warped, back), data["warped_back"], rtol=0, atol=1e-5)
    torch.testing.assert_close(warp(torch.ones_like(data["image"]), back), data["ones_back"], rtol=0, atol=1e-5)


@given(angle=st.floats(-180, 180), scale=st.floats(0.2, 3), x=st.floats(-1, 1), y=st.floats(-1, 1))
def test_the_inverse_is_that_of_the_matrix(angle, scale, x, y):
    theta = affine_theta(*torch.tensor([angle, scale]).double(), torch.tensor([x, y]).double())
    square = torch.cat((theta, torch.tensor([[0.0, 0, 1]]).double()))
    torch.testing.assert_close(inverse_theta(theta), torch.linalg.inv(square)[:2], rtol=0, atol=1e-9)


def test_points_go_where_the_pictures_go():
    points = torch.tensor([[20.0, 14.0], [27.0, 33.0], [33.0, 24.0]])
    size = (48, 56)
    maps = gaussian_maps(rc_unit_from_xy_px(points, size), size, 2.5)
    theta = random_theta(torch.arange(8), 3, translate=0.1)[:, 0]
    moved = xy_px_from_rc_unit(centre_of_mass(warp(maps.expand(8, *maps.shape), theta), 7), size)
    expected = warp_points_xy(points, theta, size)
    torch.testing.assert_close(moved, expected, rtol=0, atol=0.15)
    back = unwarp_points_xy(expected, theta, size)
    torch.testing.assert_close(back, points.expand_as(back), rtol=0, atol=1e-4)
    assert (expected - points).norm(dim=-1).max() > 2


def test_the_documented_example_of_a_moved_point():
    theta = torch.tensor([[1.0, 0, 0.5], [0, 1, 0]])
    torch.testing.assert_close(warp_points_xy(torch.tensor([[5.0, 2.0]]), theta, 8), torch.tensor([[3.0, 2.0]]))
    pixel = torch.arange(8.0).expand(1, 1, 8, 8)
    assert warp(pixel, theta[None])[0, 0, 2, 3] == 5


def test_random_warps_lie_in_their_ranges_and_fill_them():
    theta = random_theta(torch.arange(400), 5, 15.0, (0.8, 1.0), 0.25, copies=3)
    assert theta.shape == (400, 3, 2, 3)
    scale = torch.linalg.det(theta[..., :2]).sqrt()
    angle = torch.rad2deg(torch.atan2(theta[..., 0, 1], theta[..., 0, 0]))
    for values, low, high in ((scale, 0.8, 1.0), (angle, -15, 15), (theta[..., 2], -0.25, 0.25)):
        assert low - 1e-5 <= values.min() < low + 0.05 * (high - low)
        assert high + 1e-5 >= values.max() > high - 0.05 * (high - low)
        np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=0.05 * (high - low))


def test_a_samples_warps_depend_on_its_seed_alone():
    seeds = torch.tensor([11, 7, 2**40])
    whole = random_theta(seeds, 6, copies=4)
    assert torch.equal(random_theta(seeds[1:2], 6, copies=2)[0], whole[1, :2])
    assert not torch.equal(random_theta(seeds, 7, copies=4), whole)


@given(row=st.integers(0, 5), col=st.integers(0, 8))
def test_pixel_centres_are_integers_and_units_go_from_edge_to_edge(row, col):
    unit = torch.tensor([(row + 0.5) / 6, (col + 0.5) / 9], dtype=torch.float64)
    pixel = xy_px_from_rc_unit(unit, (6, 9))
    torch.testing.assert_close(pixel, torch.tensor([col, row]).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(rc_unit_from_xy_px(pixel, (6, 9)), unit, rtol=0, atol=1e-9)
