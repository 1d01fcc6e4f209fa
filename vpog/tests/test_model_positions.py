"""Laws of the rotary positions and of the windows."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vpog.model.rope import Rotary, rope2d_angles
from vpog.model.s2rope import ChannelSplit, s2rope, sphere_angles, sphere_faces
from vpog.model.windows import from_windows, to_windows

SPLIT = ChannelSplit(6, 6, 2)
COORDINATE = st.floats(-1.0, 1.0, allow_subnormal=False)


def unit(*numbers: float) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(numbers), dim=-1)


@given(rows=st.tuples(*[st.integers(0, 20)] * 2), columns=st.tuples(*[st.integers(0, 20)] * 2), by=st.integers(-9, 9))
def test_attention_under_rope2d_knows_only_how_far_apart_patches_are(
    rows: tuple[int, int], columns: tuple[int, int], by: int
) -> None:
    query, key = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0))

    def product(shift: int) -> torch.Tensor:
        places = torch.tensor([[rows[i] + shift, columns[i] + 2 * shift] for i in (0, 1)]).float()
        turns = [Rotary.of_angles(rope2d_angles(place[None], 16), "halves") for place in places]
        return (turns[0](query) * turns[1](key)).sum()

    torch.testing.assert_close(product(0), product(by), rtol=0, atol=1e-4)


@given(direction=st.tuples(COORDINATE, COORDINATE, COORDINATE), reference=st.tuples(COORDINATE, COORDINATE, COORDINATE))
def test_s2rope_keeps_the_length_of_tokens_wherever_templates_look_from(
    direction: tuple[float, float, float], reference: tuple[float, float, float]
) -> None:
    looks, d_ref = unit(*direction), unit(*reference)
    if min(looks.norm(), d_ref.norm()) < 0.5:
        return
    tokens = torch.randn(1, 2, 4, SPLIT.head_dim, generator=torch.Generator().manual_seed(1))
    turned = s2rope(looks[None, None], d_ref[None], (2, 2), SPLIT)(tokens)
    torch.testing.assert_close(turned.norm(dim=-1), tokens.norm(dim=-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("azimuth", "jump"), [("integer", 0.0), ("reference", 0.29)])
def test_only_the_integer_azimuth_is_continuous_where_it_passes_pi(azimuth: str, jump: float) -> None:
    d_ref = torch.tensor([[0.0, 0.0, 1.0]])  # its face has the axes y and -x
    near = [unit(side * 1e-4, -1.0, 0.2) for side in (-1, 1)]
    before, after = (sphere_angles(look[None, None], d_ref, 6, azimuth)[0, 0, 0] for look in near)
    assert abs(abs(before[3]) - math.pi) < 1e-3
    apart = torch.stack(((before.cos() - after.cos()), (before.sin() - after.sin()))).norm(dim=0).max()
    assert abs(float(apart) - jump) < 0.01


def test_a_template_that_looks_along_a_face_has_no_azimuth_there_and_no_angle_from_it() -> None:
    d_ref = unit(0.3, -0.2, 0.9)[None]
    angles = sphere_angles(sphere_faces(d_ref), d_ref, 4, "integer")[0]
    own = angles[torch.arange(6), torch.arange(6)]
    torch.testing.assert_close(own, torch.zeros_like(own), rtol=0, atol=1e-6)
    torch.testing.assert_close(angles[0, 1, :1], torch.tensor([math.pi]), rtol=0, atol=1e-6)
    assert angles.isfinite().all()


def test_two_pairs_a_face_tell_the_distance_from_it_and_one_pair_does_not() -> None:
    d_ref = torch.tensor([[0.0, 0.0, 1.0]])
    looks = torch.stack([unit(0.0, math.sin(angle), math.cos(angle)) for angle in (0.3, 0.9)])[None]
    with_one, with_two = (sphere_angles(looks, d_ref, num, "integer")[0, :, 0] for num in (1, 2))
    torch.testing.assert_close(with_one[0], with_one[1])
    assert float((with_two[0] - with_two[1]).abs().max()) > 0.5


def test_special_tokens_do_not_turn_and_padding_turns_by_place_alone() -> None:
    looks, d_ref = torch.stack([unit(1.0, 2.0, 3.0), unit(-1.0, 0.5, 1.0)])[None], unit(0.0, 1.0, 1.0)[None]
    tokens = torch.ones(1, 1, 10, SPLIT.head_dim)
    is_valid = torch.tensor([[True, False]])
    turned = s2rope(looks, d_ref, (2, 2), SPLIT, "integer", is_valid, num_special=1)(tokens)[0, 0].unflatten(0, (2, 5))
    torch.testing.assert_close(turned[:, 4], torch.ones(2, SPLIT.head_dim), rtol=0, atol=0)
    sphere = turned[:, :4, 2 * (SPLIT.px + SPLIT.py) :]
    torch.testing.assert_close(sphere[1], torch.ones_like(sphere[1]), rtol=0, atol=0)
    assert float((sphere[0] - 1).abs().max()) > 0.1
    plane = turned[:, :4, : 2 * (SPLIT.px + SPLIT.py)]
    torch.testing.assert_close(plane[0], plane[1])


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), window=st.integers(1, 4))
def test_windows_put_together_again_are_the_picture(rows: int, columns: int, window: int) -> None:
    grid = rows * window, columns * window
    tokens = torch.arange(2 * grid[0] * grid[1] * 3).float().reshape(2, -1, 3)
    windows = to_windows(tokens, grid, window)
    assert windows.shape == (2, rows * columns, window * window, 3)
    assert torch.equal(from_windows(windows, grid, window), tokens)


def test_the_second_window_of_a_row_begins_at_its_own_column() -> None:
    tokens = torch.arange(16.0)[None, :, None]
    assert to_windows(tokens, (4, 4), 2)[0, 1, :, 0].tolist() == [2.0, 3.0, 6.0, 7.0]


def test_windows_that_do_not_fill_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="5 x 4 patches is not made of windows of 2 x 2"):
        to_windows(torch.zeros(1, 20, 3), (5, 4), 2)
