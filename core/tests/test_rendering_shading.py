"""Shaded pictures: light, colours, textures, backgrounds."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posecore.rendering import Light, Texture, rasterize, shade, shade_raster

K = torch.tensor([[[40.0, 0, 15.5], [0, 40.0, 11.5], [0, 0, 1]]])
SIZE = (24, 32)
WALL = torch.tensor([[[-0.3, -0.2, 1.0], [0.3, -0.2, 1.0], [0.3, 0.2, 1.0], [-0.3, 0.2, 1.0]]])
FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])
WHITE = torch.ones(1, 4, 3)
UNLIT = Light(ambient=1.0, diffuse=0.0)


@pytest.mark.parametrize("smooth", [True, False])
@given(angle=st.floats(-3.1, 3.1))
def test_a_walls_brightness_follows_lamberts_cosine(smooth, angle):
    light = Light(0.2, 0.7, torch.tensor([[math.sin(angle), 0.0, -math.cos(angle)]]))
    rgb = shade(WALL, FACES, K, SIZE, WHITE, light, smooth=smooth)
    assert rgb[0, 11, 15, 0].item() == pytest.approx(0.2 + 0.7 * max(0.0, math.cos(angle)), abs=1e-5)


def test_the_lamp_at_the_camera_lights_what_faces_it_fully_and_either_winding_alike():
    rgb, flipped = (shade(WALL, faces, K, SIZE, WHITE) for faces in (FACES, FACES[:, [0, 2, 1]]))
    ray = torch.tensor([0.0, 0.0, 1.0])
    towards = torch.tensor([(5 - 15.5) / 40, (5 - 11.5) / 40, 1.0])
    cosine = torch.dot(ray, towards) / towards.norm()
    assert rgb[0, 5, 5, 1].item() == pytest.approx(0.4 + 0.6 * cosine.item(), abs=1e-4)
    torch.testing.assert_close(rgb, flipped)


def test_vertex_colours_are_interpolated_in_perspective():
    tilted = WALL * torch.tensor([[1.0], [2.0], [2.0], [1.0]])  # the same outline, its right side twice as far
    red = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]]])
    rgb = shade(tilted, FACES, K, SIZE, red, UNLIT)
    s = (15 - (15.5 - 12)) / 24  # of the way on the screen; on the wall it is s / (2 - s)
    assert rgb[0, 11, 15, 0].item() == pytest.approx(s / (2 - s), abs=1e-4)


def test_a_texture_is_upright_and_not_mirrored():
    quarters = torch.tensor([[[1.0, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 1, 0]]])[None]  # red green / blue yellow
    uv = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    rgb = shade(WALL, FACES, K, SIZE, Texture(quarters, uv, FACES), UNLIT)[0]
    corners = {(5, 5): [1, 0, 0], (5, 26): [0, 1, 0], (18, 5): [0, 0, 1], (18, 26): [1, 1, 0]}
    for (row, column), color in corners.items():
        assert rgb[row, column].tolist() == pytest.approx(color, abs=1e-4)


def test_backgrounds_are_a_colour_or_a_picture_and_stay_untouched_outside_the_mesh():
    raster = rasterize(WALL, FACES, K, SIZE)
    outside = raster.face_ids[0] < 0
    picture = torch.rand(*SIZE, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(shade(WALL, FACES, K, SIZE, WHITE, background=picture)[0, outside], picture[outside])
    grey = shade_raster(raster, WALL, FACES, WHITE, background=torch.tensor([0.5, 0.5, 0.5]))
    assert (grey[0, outside] == 0.5).all()
    assert (shade(WALL, FACES, K, SIZE, WHITE)[0, outside] == 0).all()


def test_gradients_reach_colours_texture_light_and_vertices():
    vertices = (WALL * torch.tensor([[1.0], [1.3], [1.4], [1.1]])).double().requires_grad_()
    colors = torch.rand(1, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    direction = torch.tensor([[0.3, -0.4, -1.0]], dtype=torch.float64, requires_grad=True)
    camera = torch.tensor([[[10.0, 0, 3.6], [0, 10.0, 2.8], [0, 0, 1]]], dtype=torch.float64)

    def picture(vertices, colors, direction):
        return shade(vertices, FACES, camera, (6, 8), colors, Light(direction_cam=direction), backend="torch")

    assert torch.autograd.gradcheck(picture, (vertices, colors, direction))
    image = torch.rand(1, 4, 4, 3, requires_grad=True)
    shade(WALL, FACES, K, SIZE, Texture(image, torch.rand(4, 2), FACES)).sum().backward()
    assert image.grad.abs().sum() > 0


def test_a_picture_without_faces_is_its_background():
    rgb = shade(WALL, FACES[:0], K, SIZE, WHITE, background=torch.tensor([0.1, 0.2, 0.3]), smooth=False)
    assert torch.equal(rgb, torch.tensor([0.1, 0.2, 0.3]).expand(1, *SIZE, 3))


def test_a_broken_vertex_shows():
    broken = WALL.clone()
    broken[0, 0, 2] = float("nan")
    assert shade(broken, FACES, K, SIZE, WHITE).isnan().all()
