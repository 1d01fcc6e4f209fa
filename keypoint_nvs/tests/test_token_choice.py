"""Gaussians, peaks of maps, and the choice of tokens."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keypoint_nvs.gaussians import gaussian_maps
from keypoint_nvs.peaks import argmax_peaks, centre_of_mass, local_soft_argmax, peak_indices, top_peaks
from keypoint_nvs.selection import (
    farthest_points,
    gaussian_kl,
    map_entropy,
    select_tokens,
    select_tokens_of_views,
    vote,
)


@pytest.fixture(scope="module")
def tensors(reference):
    return lambda name: {key: torch.from_numpy(np.asarray(value)) for key, value in reference(name).items()}


def attention(seed: int, *shape: int) -> torch.Tensor:
    """Smooth maps that add up to one over the last but two axis."""
    scores = 4 * torch.randn(*shape[:-2], 5, 5, generator=torch.Generator().manual_seed(seed))
    flat = scores.reshape(-1, 1, 5, 5)
    return torch.nn.functional.interpolate(flat, shape[-2:], mode="bicubic").reshape(shape).softmax(-3)


def test_gaussians_are_the_references(tensors):
    data = tensors("sk_gaussian")
    maps = gaussian_maps(data["pos"], int(data["size"]), float(data["sigma"]))
    torch.testing.assert_close(maps[0], data["single"], rtol=0, atol=1e-6)
    torch.testing.assert_close(maps.mean(0), data["mean_over_subjects"], rtol=0, atol=1e-6)


def test_a_gaussian_moves_with_its_point_by_the_right_derivative():
    points = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: gaussian_maps(p, (5, 7), 1.3), points)


def test_peaks_are_the_references(tensors):
    data = tensors("sk_peaks")
    maps = data["maps"]
    side = maps.shape[-1]
    close = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(argmax_peaks(maps) * side, data["argmax_rc"], **close)
    torch.testing.assert_close(top_peaks(maps, 3).transpose(0, 1) * side, data["k3_rc"], **close)
    torch.testing.assert_close(centre_of_mass(maps, 5) * side, data["wavg_d5"], **close)
    torch.testing.assert_close(centre_of_mass(maps) * side, data["wavg_all"], **close)
    torch.testing.assert_close(centre_of_mass(maps) * side - 0.5, data["soft_argmax"], **close)


@given(seed=st.integers(0, 10**6), height=st.integers(1, 9), width=st.integers(1, 9))
def test_the_peak_is_the_first_highest_pixel(seed, height, width):
    maps = torch.randint(0, 4, (6, height, width), generator=torch.Generator().manual_seed(seed)).float()
    row, col = peak_indices(maps).unbind(-1)
    assert torch.equal(row * width + col, maps.flatten(1).argmax(1))


@given(row=st.floats(0, 1), col=st.floats(0, 1), power=st.floats(1, 3), radius=st.floats(1, 6))
def test_the_local_centre_is_within_the_window_and_in_the_picture(row, col, power, radius):
    maps = gaussian_maps(torch.tensor([row, col]), (12, 20), 2.0) + 0.01
    place, peak = local_soft_argmax(maps, radius, power), argmax_peaks(maps)
    assert (place > 0).all()
    assert (place < 1).all()
    assert ((place - peak) * torch.tensor([12, 20])).norm() <= radius


def test_the_local_centre_finds_places_between_pixels_and_the_flat_map_gives_none_in_the_middle():
    point = torch.tensor([0.4219, 0.6094])
    found = local_soft_argmax(gaussian_maps(point, 32, 1.5), 5.0)
    torch.testing.assert_close(found, point, rtol=0, atol=1e-3)
    flat = local_soft_argmax(torch.full((32, 32), 1 / 64), 3.0)
    assert flat.max() < 0.1  # at the first pixel; over the whole map it would be the middle, in every view


def test_the_local_centres_gradient_is_right_and_stays_in_the_window():
    maps = attention(0, 3, 9, 9).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda m: local_soft_argmax(m, 2.5), maps)
    local_soft_argmax(maps, 2.5).sum().backward()
    index = torch.stack(torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij"), -1)
    far = (index - peak_indices(maps)[:, None, None]).double().norm(dim=-1) > 2.5
    assert maps.grad[far].abs().max() == 0
    assert maps.grad[~far].abs().max() > 0


def test_maps_too_faint_to_be_squared_still_have_a_local_centre():
    maps = gaussian_maps(torch.tensor([[0.3, 0.6]]), 32, 1.5)
    torch.testing.assert_close(local_soft_argmax(maps * 1e-25), local_soft_argmax(maps))


def test_rankings_and_choices_are_the_references(tensors):
    data = tensors("sk_selection")
    maps, transformed, sigma = data["maps"], data["maps_transformed"], float(data["sigma"])
    k, candidates = int(data["k"]), int(data["top0"])
    close = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(gaussian_kl(maps, sigma), data["kl"], **close)
    torch.testing.assert_close(gaussian_kl(maps, sigma, subjects=2), data["kl_two_subjects"], **close)
    torch.testing.assert_close(map_entropy(maps), data["entropy"], **close)
    assert torch.equal(gaussian_kl(maps, sigma).argsort()[:candidates], data["gaussian_candidates"])
    assert torch.equal(map_entropy(maps).argsort()[:candidates], data["entropy_candidates"])
    assert torch.equal(select_tokens(maps, k, candidates, sigma), data["fps_on_maps"])
    on_transformed = select_tokens(maps, k, candidates, sigma, distance_maps=transformed)
    assert torch.equal(on_transformed, data["fps_on_transformed"])
    both = select_tokens_of_views(torch.stack((maps, transformed)), k, k, sigma, ranking="entropy")
    assert sorted(both.tolist()) == sorted(data["corresponding_indices"].tolist())


def test_votes_are_the_references(tensors):
    data = tensors("sk_voting")
    k, candidates = int(data["k"]), int(data["initial_candidates"])
    chosen = select_tokens(data["maps"].float(), k, candidates, float(data["sigma"]))
    assert torch.equal(chosen, data["per_image_selected"])
    assert torch.equal(torch.bincount(chosen.flatten(), minlength=16), data["votes"])
    assert torch.equal(vote(chosen, 16, k), data["chosen"])


@pytest.mark.parametrize("subjects", [1, 2, 3])
@pytest.mark.parametrize(("height", "width", "sigma"), [(24, 31, 2.0), (70, 66, 1.5), (6, 5, 2.0)])
def test_the_divergence_in_windows_is_that_of_the_whole_gaussians(subjects, height, width, sigma):
    maps = attention(1, 2, 9, height, width).double()
    peaks = top_peaks(maps, subjects)
    target = gaussian_maps(peaks, (height, width), sigma).mean(-3).flatten(-2) + 1e-5
    target = target / target.sum(-1, keepdim=True)
    log_softmax = maps.flatten(-2).log_softmax(-1)
    expected = (target * (target.log() - log_softmax)).sum(-1)
    torch.testing.assert_close(gaussian_kl(maps, sigma, subjects), expected, rtol=0, atol=1e-6)  # cut off at six sigma


def test_of_equal_distances_the_earliest_wins():
    square = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1], [0.5, 0.5]])
    assert farthest_points(square, 5).tolist() == [0, 3, 1, 2, 4]


@given(seed=st.integers(0, 10**6), num=st.integers(2, 12), dims=st.integers(1, 4), data=st.data())
def test_farthest_points_are_those_of_nested_loops(seed, num, dims, data):
    k = data.draw(st.integers(1, num))
    points = torch.rand(3, num, dims, generator=torch.Generator().manual_seed(seed))
    found = farthest_points(points, k)
    for each, indices in zip(points, found.tolist(), strict=True):
        apart = ((each[:, None] - each) ** 2).sum(-1)
        taken = list(divmod(int(apart.argmax()), num))[:k]
        while len(taken) < k:
            left = [i for i in range(num) if i not in taken]
            taken.append(max(left, key=lambda i: float(apart[i, taken].min())))
        assert indices == taken


def test_each_object_is_chosen_for_as_if_it_were_alone():
    maps = attention(2, 3, 2, 20, 16, 16)
    together = select_tokens_of_views(maps, 4, 9, 2.0)
    assert together.shape == (3, 4)
    for each, chosen in zip(maps, together, strict=True):
        assert torch.equal(select_tokens_of_views(each, 4, 9, 2.0), chosen)
        assert len(set(chosen.tolist())) == 4


def test_a_token_that_is_sharp_in_one_view_only_loses_to_one_that_is_sharp_in_both():
    blob = gaussian_maps(torch.tensor([[0.2, 0.2], [0.8, 0.8], [0.2, 0.8]]), 24, 2.0)
    faint = torch.full((24, 24), 0.02)
    views = torch.stack((torch.stack((blob[0], faint, blob[2])), torch.stack((blob[0], blob[1], blob[2]))))
    assert sorted(select_tokens_of_views(views, 2, 2, 2.0).tolist()) == [0, 2]


def test_first_takes_the_first_candidates():
    chosen = select_tokens(attention(3, 4, 20, 16, 16), 5, 6, 2.0, ranking="first")
    assert chosen.max() < 6


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="5 of 3 candidates of 9 tokens is impossible"):
        select_tokens(attention(4, 9, 8, 8), 5, 3, 2.0)
    with pytest.raises(ValueError, match="cannot take 4 of 3 points"):
        farthest_points(torch.zeros(3, 2), 4)
    with pytest.raises(ValueError, match="cannot keep 5 of 4 tokens"):
        vote(torch.tensor([0, 1]), 4, 5)


def test_of_equal_votes_the_lowest_token_is_kept():
    assert vote(torch.tensor([[5, 2], [2, 7], [7, 1]]), 9, 3).tolist() == [2, 7, 1]
