"""Boxes, crops and intrinsics through them, against reference vectors, OpenCV-free closed forms and projection."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecore.errors import InputError
from vpog.data.crop import (
    K_of_crop,
    box_of_bop,
    box_of_mask,
    crop_depth,
    crop_gigapose,
    crop_mask,
    crop_matrix,
    crop_rgb,
    deepim_box,
    jitter_box,
    megapose_crop_K,
    points_in_image,
    square_box,
)

SEEDS = st.integers(0, 2**31)


def box_strategy():
    return st.tuples(st.floats(-50, 300), st.floats(-50, 300), st.floats(1, 300), st.floats(1, 300)).map(
        lambda b: np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]])
    )


def moved(matrix, points):
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def test_the_exact_crop_takes_the_documented_pixel_to_the_documented_place():
    matrix = crop_matrix(np.array([10.0, 0.0, 20.0, 10.0]), 20)
    np.testing.assert_allclose(moved(matrix, np.array([10.0, 0.0])), [0.5, 0.5])
    gigapose = crop_matrix(np.array([10.0, 0.0, 20.0, 10.0]), 20, "gigapose")
    np.testing.assert_allclose(moved(gigapose, np.array([10.0, 0.0])), [0.0, 0.0])


@given(box=box_strategy(), size=st.integers(8, 300))
def test_the_edges_of_the_longer_side_come_to_the_crops_edges_and_the_centre_to_its_centre(box, size):
    matrix = crop_matrix(box, size)
    low, high = moved(matrix, box[:2] - 0.5), moved(matrix, box[2:] - 0.5)
    longer = int(np.argmax(box[2:] - box[:2]))
    np.testing.assert_allclose([low[longer], high[longer]], [-0.5, size - 0.5], atol=1e-8)
    np.testing.assert_allclose((low + high) / 2, (size - 1) / 2, atol=1e-8)
    assert matrix[0, 0] == matrix[1, 1]


@given(box=box_strategy(), seed=SEEDS)
def test_points_project_into_the_crop_with_its_intrinsics_and_back_into_the_picture(box, seed):
    rng = np.random.default_rng(seed)
    K = np.array([[600.0, 0.3, 320.0], [0.0, 580.0, 240.0], [0.0, 0.0, 1.0]])
    points_cam = rng.normal(size=(10, 3)) * 50 + [0, 0, 600]
    crop_from_image = crop_matrix(box, 224)
    pixels, in_crop = (points_cam @ matrix.T for matrix in (K, K_of_crop(K, crop_from_image)))
    pixels, in_crop = pixels[:, :2] / pixels[:, 2:], in_crop[:, :2] / in_crop[:, 2:]
    np.testing.assert_allclose(in_crop, moved(crop_from_image, pixels), rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(points_in_image(in_crop, crop_from_image), pixels, rtol=1e-9, atol=1e-7)


def test_a_crop_of_the_boxes_own_size_is_the_picture_itself_and_black_beyond_it():
    rng = np.random.default_rng(0)
    picture = rng.integers(1, 256, (40, 50, 3), dtype=np.uint8)
    depth = rng.uniform(100, 900, (40, 50)).astype(np.float32)
    matrix = crop_matrix(np.array([30.0, -5.0, 62.0, 27.0]), 32)
    rgb, cut = crop_rgb(picture, matrix, 32), crop_depth(depth, matrix, 32)
    np.testing.assert_array_equal(rgb[5:, :20], picture[:27, 30:])
    np.testing.assert_array_equal(cut[5:, :20], depth[:27, 30:])
    assert not rgb[:5].any()
    assert not cut[:, 20:].any()


def test_a_gradient_is_sampled_at_the_very_place_that_the_matrix_says():
    columns, rows = np.meshgrid(np.arange(64), np.arange(64))
    picture = np.stack([columns * 3, rows * 3, columns + rows], axis=-1).astype(np.uint8)
    matrix = crop_matrix(np.array([10.0, 12.0, 42.0, 40.0]), 48)
    grid = np.stack(np.meshgrid(np.arange(48), np.arange(48)), axis=-1).reshape(-1, 2).astype(float)
    source = points_in_image(grid, matrix)
    expected = np.stack([source[:, 0] * 3, source[:, 1] * 3, source.sum(1)], axis=-1)
    # OpenCV rounds places to 1/32 pixel, here 3/32 of a level, and values to whole levels
    assert np.abs(crop_rgb(picture, matrix, 48).reshape(-1, 3) - expected).max() < 0.7


@given(box=box_strategy(), seed=SEEDS)
def test_depth_and_masks_hold_values_of_the_nearest_pixel_only(box, seed):
    rng = np.random.default_rng(seed)
    depth = (rng.integers(1, 50, (60, 80)) * (rng.random((60, 80)) > 0.5)).astype(np.float32)
    matrix = crop_matrix(box, 40)
    cut = crop_depth(depth, matrix, 40)
    grid = np.stack(np.meshgrid(np.arange(40), np.arange(40)), axis=-1).reshape(-1, 2).astype(float)
    columns, rows = np.floor(points_in_image(grid, matrix) + 0.5).astype(int).T
    is_inside = (rows >= 0) & (rows < 60) & (columns >= 0) & (columns < 80)
    expected = np.where(is_inside, depth[rows.clip(0, 59), columns.clip(0, 79)], 0)
    assert (cut.reshape(-1) == expected).mean() > 0.98  # ties of rounding between the two ways to invert the map
    np.testing.assert_array_equal(crop_mask(depth > 0, matrix, 40), cut > 0)


def test_shrinking_averages_colours_and_keeps_their_mean():
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[:, ::2] = 200
    small = crop_rgb(picture, crop_matrix(np.array([0.0, 0.0, 128.0, 128.0]), 16), 16)
    assert np.abs(small[2:-2, 2:-2].astype(int) - 100).max() < 10


def test_turned_or_stretched_maps_are_no_crops_of_colours():
    picture = np.zeros((8, 8, 3), np.uint8)
    for wrong in (
        np.diag([1.0, 2.0, 1.0]),
        np.diag([-1.0, -1.0, 1.0]),
        np.array([[1, 0.1, 0], [-0.1, 1, 0], [0, 0, 1.0]]),
    ):
        with pytest.raises(InputError, match="shifts and scales alike"):
            crop_rgb(picture, wrong, 8)


def test_the_public_crop_is_reproduced_pixel_for_pixel(reference):
    arrays = reference("crop_camera")
    for i, box in enumerate(arrays["crop_boxes_xyxy"][: len(arrays["crop_images_u8"])].astype(float)):
        np.testing.assert_allclose(crop_matrix(box, 56, "gigapose"), arrays["crop_M"][i], atol=2e-5)
        cut = crop_gigapose(arrays["crop_images_u8"][i].transpose(1, 2, 0), box, 56).transpose(2, 0, 1)
        num_different = (cut != arrays["crop_out_u8"][i]).mean()
        assert num_different == 0 or (i == 4 and num_different < 0.02)  # box 4 is scaled up most: whole pixels tie
    np.testing.assert_array_equal(
        square_box(arrays["crop_boxes_xyxy"].astype(float), "gigapose"), arrays["square_boxes"]
    )
    np.testing.assert_allclose(K_of_crop(arrays["K"], arrays["crop_M"]), arrays["K_crop_gigapose"], atol=1e-3)
    np.testing.assert_allclose(np.linalg.inv(arrays["crop_M"]), arrays["gp_M_inv"], atol=1e-4)


def test_the_public_crop_leaves_out_half_a_pixel_of_its_own_size_and_of_the_sources():
    box = np.array([8.0, 4.0, 40.0, 36.0])
    for size in (16, 64):
        exact, gigapose = crop_matrix(box, size), crop_matrix(box, size, "gigapose")
        scale = size / 32
        np.testing.assert_allclose(exact[:2, 2] - gigapose[:2, 2], (scale - 1) / 2)


def test_megaposes_intrinsics_and_deepims_boxes_are_those_of_the_reference(reference):
    arrays = reference("crop_camera")
    K, pose, points = (arrays[name].astype(np.float64) for name in ("K", "TCO", "pts"))
    np.testing.assert_allclose(
        megapose_crop_K(K, arrays["mp_boxes"], (240, 320)), arrays["mp_K_crop_240x320"], atol=2e-3
    )
    projected = (points @ pose[:, :3, :3].swapaxes(1, 2) + pose[:, None, :3, 3]) @ K.swapaxes(1, 2)
    pixels = projected[..., :2] / projected[..., 2:]
    np.testing.assert_allclose(pixels, arrays["proj_uv"], atol=1e-3)
    rendered = np.concatenate([pixels.min(1), pixels.max(1)], axis=1)
    np.testing.assert_allclose(rendered, arrays["uv_boxes"], atol=1e-3)
    centre = (K @ pose[:, :3, 3:])[..., 0]
    centre = centre[:, :2] / centre[:, 2:]
    for name, aspect, enlarge in (
        ("deepim_boxes_240x320_l1.4", 320 / 240, 1.4),
        ("deepim_boxes_square_l1.2", 1.0, 1.2),
    ):
        boxes = deepim_box(centre, arrays["deepim_obs_boxes"], rendered, aspect, enlarge)
        np.testing.assert_allclose(boxes, arrays[name], atol=1e-3)
    with pytest.raises(InputError, match=r"aspect: is 0\.75"):
        deepim_box(centre, rendered, rendered, 0.75)


@given(box=box_strategy(), seed=SEEDS)
def test_jittered_boxes_stay_within_what_was_asked_and_never_get_too_small(box, seed):
    jittered = jitter_box(box, np.random.default_rng(seed))
    side, new_side = (box[2:] - box[:2]).max(), (jittered[2:] - jittered[:2]).max()
    assert new_side >= 20 - 1e-9
    assert max(0.9 * side, 20) - 1e-9 <= new_side <= max(1.2 * side, 20) + 1e-9
    assert np.abs((jittered[:2] + jittered[2:] - box[:2] - box[2:]) / 2).max() <= 0.05 * side + 1e-9
    ratio, new_ratio = (np.divide(*(b[2:] - b[:2])) for b in (box, jittered))
    np.testing.assert_allclose(ratio, new_ratio)


def test_boxes_of_masks_and_of_bop_hold_the_last_pixel():
    mask = np.zeros((30, 40), bool)
    mask[5:9, 7:20] = True
    np.testing.assert_array_equal(box_of_mask(mask), [7, 5, 20, 9])
    np.testing.assert_array_equal(box_of_bop(np.array([7.0, 5.0, 12.0, 3.0])), [7, 5, 20, 9])  # BOP's w is xmax - xmin
    with pytest.raises(InputError, match="no pixel of 30 x 40 is set"):
        box_of_mask(np.zeros((30, 40), bool))


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [5, 9, 9, 5], [0, 0, np.inf, 3], [np.nan, 0, 2, 3]])
def test_boxes_without_a_size_are_told(box):
    box = np.array(box, dtype=float)
    for use in (
        lambda: crop_matrix(box, 8),
        lambda: square_box(box),
        lambda: jitter_box(box, np.random.default_rng(0)),
    ):
        with pytest.raises(InputError, match="expected finite x0, y0, x1, y1"):
            use()


def test_the_public_crop_takes_whole_boxes_only():
    with pytest.raises(InputError, match="takes whole numbers"):
        crop_matrix(np.array([0.5, 0, 10, 10]), 8, "gigapose")
