"""Patches cut on the device against SciPy, OpenCV and the reference's pictures."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from handvit.data.patches import warp_regions


def warped(picture, patch_from_region, size):
    region = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
    matrix = torch.from_numpy(np.asarray(patch_from_region, np.float32))
    return warp_regions(region[None], matrix[None], size)[0].permute(1, 2, 0).numpy()


def sampled(picture, patch_from_region, size):
    """Bilinear samples with zeros outside, in float64."""
    ys, xs = np.mgrid[:size, :size].astype(np.float64)
    points = np.linalg.inv(patch_from_region) @ np.stack([xs.ravel(), ys.ravel(), np.ones(size * size)])
    x, y = points[:2] / points[2]
    channels = [
        map_coordinates(picture[..., c].astype(np.float64), [y, x], order=1, mode="grid-constant") for c in range(3)
    ]
    return np.stack(channels, -1).reshape(size, size, 3) / 255


def noise(height=60, width=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


@given(st.floats(0.3, 3.0), st.floats(-60, 60), st.floats(-60, 60), st.floats(-3, 3), st.floats(-0.002, 0.002))
def test_a_patch_is_the_bilinear_sample_at_its_pixel_centres(scale, x, y, angle, bend):
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[cosine, -sine, x], [sine, cosine, y], [bend, -bend, 1.0]])
    if (np.linalg.inv(matrix)[2] @ np.array([[0, 32, 0, 32], [0, 0, 32, 32], [1, 1, 1, 1]]) <= 0.05).any():
        return
    ours = warped(noise(), matrix, 32)
    np.testing.assert_allclose(ours, sampled(noise(), matrix, 32), atol=5e-4)  # float32 pixels of noise


def test_a_patch_is_opencvs_up_to_its_rounding_of_coordinates():
    smooth = cv2.GaussianBlur(noise(240, 320), (0, 0), 6)
    matrix = np.array([[0.7, -0.2, 10.3], [0.25, 0.8, -20.6], [1e-4, -2e-4, 1.0]])
    theirs = cv2.warpPerspective(smooth.astype(np.float32) / 255, matrix, (128, 128), flags=cv2.INTER_LINEAR)
    np.testing.assert_allclose(warped(smooth, matrix, 128), theirs, atol=2e-3)


def test_the_identity_gives_the_picture_back_exactly():
    np.testing.assert_allclose(warped(noise(40, 40), np.eye(3), 40), noise(40, 40) / 255.0, atol=2e-6)


def test_what_lies_outside_of_the_region_is_black():
    white = np.full((10, 10, 3), 255, np.uint8)
    shifted = np.array([[1.0, 0, 20], [0, 1, 20], [0, 0, 1]])
    patch = warped(white, shifted, 40)
    assert patch[20:30, 20:30].min() == pytest.approx(1, abs=1e-6)
    patch[19:31, 19:31] = 0
    assert patch.max() == 0


def test_padding_of_a_batch_changes_no_patch():
    matrix = np.array([[0.9, 0.1, 3.0], [-0.1, 0.9, 2.0], [0, 0, 1]])
    padded = np.zeros((90, 130, 3), np.uint8)
    padded[:60, :80] = noise()
    np.testing.assert_allclose(warped(padded, matrix, 64), warped(noise(), matrix, 64), atol=1e-4)


def test_what_lies_behind_the_turned_camera_is_black_and_not_the_picture_upside_down():
    white = np.full((60, 60, 3), 255, np.uint8)
    matrix = np.linalg.inv(np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 20, 0, 1]]))  # the horizon is the column 20
    patch = warped(white, matrix, 40)
    assert patch[:, 21:].max() == 0
    assert patch[5, 5].min() == pytest.approx(1, abs=1e-6)


def test_autocast_does_not_round_the_places_of_pixels():
    region = torch.from_numpy(np.ascontiguousarray(noise().transpose(2, 0, 1)))[None]
    matrix = torch.tensor([[[0.7, 0.2, 3.3], [-0.2, 0.7, 20.7], [0.0, 0.0, 1.0]]])
    plain = warp_regions(region, matrix, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(warp_regions(region, matrix, 32), plain)


@pytest.mark.gpu
def test_patches_of_the_gpu_are_those_of_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    region = torch.from_numpy(np.ascontiguousarray(noise().transpose(2, 0, 1)))[None]
    matrix = torch.tensor([[[0.7, 0.2, 3.3], [-0.2, 0.7, 20.7], [0.0, 0.0, 1.0]]])
    theirs = warp_regions(region.cuda(), matrix.cuda(), 32).cpu()
    np.testing.assert_allclose(theirs.numpy(), warp_regions(region, matrix, 32).numpy(), atol=1e-4)
