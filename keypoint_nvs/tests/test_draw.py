"""Pictures show what they are given, where it is; films have their length and colours."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keypoint_nvs.draw import (
    KeypointCase,
    SpacePoints,
    TurntableViews,
    draw_space,
    draw_tokens,
    enlarged,
    enlarged_points,
    equivalent_sheet,
    grid,
    keypoint_cases,
    legend,
    map_overlay,
    map_sheet,
    space_sheet,
    to_picture,
    token_colors,
    token_sheet,
    turntable,
    view_captions,
    view_sheet,
    write_gif,
    write_mp4,
)
from keypoint_nvs.draw.grid import LINE_PX, text_width
from keypoint_nvs.draw.turntable import nearest_view
from posecore.draw import GAP, PAPER
from posecore.errors import InputError

AZIMUTHS = (30.0, 90.0, 150.0, 210.0, 270.0, 330.0)
GREY = np.full((32, 32, 3), 127, np.uint8)


def noise(seed: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def where_is(color: tuple[int, int, int], picture: np.ndarray, tolerance: int = 4) -> np.ndarray:
    """x, y of the middle of the pixels of that colour."""
    mask = (np.abs(picture.astype(int) - color) <= tolerance).all(-1)
    assert mask.any(), f"{color} is nowhere"
    return np.argwhere(mask).mean(0)[::-1]


@settings(max_examples=20)
@given(size=st.integers(8, 40), side=st.integers(64, 200), x=st.integers(2, 5), y=st.integers(2, 5))
def test_an_enlarged_point_is_where_its_pixel_has_gone(size, side, x, y):
    image = np.zeros((size, size, 3), np.uint8)
    image[y, x] = 255
    large = enlarged(image, side).astype(float)[..., 0]
    rows, columns = np.mgrid[: large.shape[0], : large.shape[1]]
    middle = np.array([(columns * large).sum(), (rows * large).sum()]) / large.sum()
    assert large.shape == (side, side)
    np.testing.assert_allclose(
        middle, enlarged_points(np.array([[x, y]], float), image, side)[0], atol=0.05 * side / size
    )


def test_small_views_stay_sharp():
    image = noise(0)
    np.testing.assert_array_equal(enlarged(image, 160)[2::5, 2::5], image)


def test_a_drawn_view_may_leave_0_to_1():
    image = np.array([-0.2, 0.5, 1.3])[:, None, None] * np.ones((3, 2, 2))
    np.testing.assert_array_equal(to_picture(image)[0, 0], [0, 128, 255])


def test_colours_of_keypoints_are_all_different_and_do_not_depend_on_their_number():
    assert len(set(token_colors(60))) == 60
    assert token_colors(60)[:5] == token_colors(5)


@settings(max_examples=20)
@given(x=st.floats(3, 28), y=st.floats(3, 28), side=st.sampled_from([64, 128, 192, 230]))
def test_a_dot_is_centred_on_its_point(x, y, side):
    point = np.array([[x, y]])
    drawn = draw_tokens(GREY, point, side=side)
    found = where_is(token_colors(1)[0], drawn)
    np.testing.assert_allclose(found, enlarged_points(point, GREY, side)[0], atol=0.6)
    assert (GREY == 127).all()


def test_a_point_that_is_not_finite_is_not_drawn_and_a_doubtful_one_is_small_and_pale():
    points = np.array([[8.0, 16.0], [24.0, 16.0], [np.nan, 3.0]])
    drawn = draw_tokens(GREY, points, np.array([0.08, 0.02, 0.08]), side=160, colors=[(255, 0, 0)] * 3)
    redness = drawn[..., 0].astype(int) - drawn[..., 1]
    sure, doubtful = redness[:, :80], redness[:, 80:]
    assert sure.max() > 250
    assert 80 < doubtful.max() < 180
    assert (sure > 20).sum() > 1.5 * (doubtful > 20).sum()
    np.testing.assert_array_equal(draw_tokens(GREY, points[2:], side=160), enlarged(GREY, 160))


def test_the_truth_is_a_cross_joined_to_its_point():
    drawn = draw_tokens(
        GREY, np.array([[8.0, 16.0]]), side=320, colors=[(255, 0, 0)], truth_px=np.array([[24.0, 16.0]])
    )
    row = drawn[165, 100:250].astype(int)
    assert (row[:, 0] - row[:, 1] > 60).all()
    untold = draw_tokens(GREY, np.array([[8.0, 16.0]]), side=320, truth_px=np.array([[np.nan, 16.0]]))
    np.testing.assert_array_equal(untold, draw_tokens(GREY, np.array([[8.0, 16.0]]), side=320))


def test_a_token_sheet_measures_confidence_by_each_keypoints_best_picture():
    points = np.full((2, 1, 2), 16.0)
    sheet = token_sheet(
        [GREY, GREY], points, np.array([[0.02], [0.01]]), captions=["a", "b"], names=["token 3"], side=96
    )
    top, second = GAP + LINE_PX, GAP + 96 + GAP
    cells = (sheet[top : top + 96, start : start + 96] for start in (GAP, second))
    left, right = (int(np.abs(cell.astype(int) - 127).sum()) for cell in cells)
    assert left > right
    where_is(token_colors(1)[0], sheet[GAP + LINE_PX + 96 :])  # the legend's swatch


def test_a_map_is_bright_at_its_peak_and_lets_the_picture_through_at_its_floor():
    heat = np.full((16, 16), 0.01)
    heat[4, 11] = 0.09
    drawn = map_overlay(GREY, heat, 0.01, 0.09, 128).astype(int)
    y, x = np.unravel_index(drawn.sum(-1).argmax(), (128, 128))
    np.testing.assert_allclose([x, y], [(11 + 0.5) * 8 - 0.5, (4 + 0.5) * 8 - 0.5], atol=1)
    assert np.ptp(drawn[100, 20]) == 0
    with pytest.raises(ValueError, match="full is 0"):
        map_overlay(GREY, heat, 0.0, 0.0)


def test_a_sheet_of_maps_has_a_row_a_token_and_takes_flat_maps():
    maps = np.full((2, 3, 8, 8), 1 / 64)
    sheet = map_sheet([GREY, GREY], maps, captions=["a", "b"], side=64)
    assert sheet.shape[0] == GAP + LINE_PX + 4 * (64 + GAP)


def test_cells_stand_in_rows_and_columns_and_none_stays_empty():
    cells = [np.full((10, 20, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = grid([[cells[0], cells[1]], [None, cells[2]]], row_labels=["a", "b"], column_labels=["left", "right"])
    x0, y0 = where_is((10, 10, 10), sheet, 0)
    x1, y1 = where_is((20, 20, 20), sheet, 0)
    x2, y2 = where_is((30, 30, 30), sheet, 0)
    assert (x1 - x0, y1 - y0) == (20 + GAP, 0)
    assert (x2 - x1, y2 - y1) == (0, 10 + GAP)
    empty = sheet[int(y2 - 4) : int(y2 + 5), int(x0 - 9) : int(x0 + 10)]
    assert (empty == PAPER).all()
    with pytest.raises(ValueError, match="no pictures"):
        grid([[None]])


@settings(max_examples=20)
@given(count=st.integers(1, 24), width=st.integers(200, 700))
def test_a_legend_breaks_lines_before_they_leave_it(count, width):
    names = [f"token {37 * k}" for k in range(count)]
    strip = legend(names, token_colors(count), width)
    assert strip.shape[1] == width
    assert (strip[:, -2:] == PAPER).all()
    needed = sum(text_width(name) + 15 + 2 * GAP for name in names)
    assert strip.shape[0] >= LINE_PX * needed / width


def test_views_stand_below_each_other_with_the_input_once():
    views = [noise(i) for i in range(6)]
    captions = view_captions(list(AZIMUTHS), [20.0, -10.0] * 3)
    sheet = view_sheet(noise(9), {"ours": views, "truth": views}, captions, side=64)
    assert captions[1] == "az 90, el -10"
    upper, lower = sheet[GAP + LINE_PX :][:64], sheet[GAP + LINE_PX + 64 + GAP :][:64]
    left = sheet.shape[1] - 6 * (64 + GAP)
    np.testing.assert_array_equal(upper[:, left:], lower[:, left:])
    np.testing.assert_array_equal(upper[:, left - 64 - GAP : left - GAP], enlarged(noise(9), 64))
    assert (lower[:, left - 64 - GAP : left - GAP] == PAPER).all()


def test_a_keypoints_surroundings_are_centred_on_it():
    image = GREY.copy()
    image[20, 6] = (250, 250, 0)
    sheet = equivalent_sheet([image, image], np.array([[[6.0, 20.0]], [[np.nan, 1.0]]]), crop=0.4, side=80)
    cell = sheet[GAP : GAP + 80, -2 * (80 + GAP) : -80 - 2 * GAP]
    np.testing.assert_allclose(where_is((250, 250, 0), cell, 2), [39.5, 39.5], atol=0.6)
    assert (sheet[GAP : GAP + 80, -80 - GAP : -GAP] == 225).mean() > 0.6


@pytest.mark.parametrize(("azimuth_deg", "side_of_picture"), [(0.0, 0), (90.0, -1), (180.0, 0), (270.0, 1)])
def test_what_is_at_the_input_camera_is_seen_from_its_azimuths(azimuth_deg, side_of_picture):
    """The point on the x axis is in the middle from 0 and 180, and at the left for who has gone 90 degrees to the right."""
    points = SpacePoints(np.array([[0.4, 0.0, 0.0]]))
    x, _ = where_is(token_colors(1)[0], draw_space(points, azimuth_deg, 10.0, side=256))
    offset = x - 127.5
    assert abs(offset) < 2 if side_of_picture == 0 else np.sign(offset) == side_of_picture
    assert abs(offset) < 128


def test_points_that_do_not_count_are_rings_and_do_not_set_the_scale():
    world = np.array([[0.0, 0.3, 0.2], [0.0, -0.3, 0.2], [np.nan, 0, 0], [500.0, 0, 0]])
    points = SpacePoints(world, np.array([True, False, True, False]), truth_world=world[:1])
    assert points.radius() == 0.5
    drawn = draw_space(points, 0.0, 0.0, side=256)
    full, ring = ((np.abs(drawn.astype(int) - color) <= 40).all(-1).sum() for color in token_colors(2))
    assert full > 1.5 * ring > 0
    alone = SpacePoints(world[:2], points.counted[:2] if points.counted is not None else None, world[:1])
    np.testing.assert_array_equal(drawn, draw_space(alone, 0.0, 0.0, side=256))
    assert space_sheet(points, side=64).shape[1] > 4 * 64
    from_rig = space_sheet(points, azimuths_deg=AZIMUTHS, elevations_deg=(20.0, -10.0) * 3, side=64)
    np.testing.assert_array_equal(
        from_rig[GAP + LINE_PX :][:64, GAP : GAP + 64], draw_space(points, 30.0, 20.0, side=64)
    )


@given(azimuth=st.floats(0, 359.9), turns=st.integers(-2, 2))
def test_the_nearest_view_is_nearest_on_the_circle(azimuth, turns):
    rig = np.array(AZIMUTHS)
    chosen = nearest_view(rig, azimuth + 360 * turns)
    direction = np.cos(np.deg2rad(rig - azimuth))
    assert direction[chosen] == pytest.approx(direction.max(), abs=1e-6)


def test_a_turntable_turns_once_and_frames_the_view_that_it_looks_from():
    points = SpacePoints(np.random.default_rng(0).uniform(-0.3, 0.3, (4, 3)))
    rig = list(AZIMUTHS)
    views = TurntableViews([GREY] * 6, rig, np.full((6, 4, 2), 16.0), np.ones((6, 4)))
    frames = turntable(points, views, num_frames=6, side=128)
    assert len({frame.shape for frame in frames}) == 1
    assert len(frames) == 6
    frame_ink = [
        [(frame[y : y + 40, x : x + 40].max(-1) < 60).mean() for y in (2, 44, 84) for x in (130, 168)]
        for frame in frames
    ]
    assert [int(np.argmax(inks)) for inks in frame_ink] == [0, 0, 1, 2, 3, 4]
    np.testing.assert_array_equal(
        turntable(points, num_frames=4, side=128)[1], draw_space(points, 90.0, 20.0, side=128)
    )


def test_cases_are_sheets_of_all_that_they_have():
    case = KeypointCase("a/0 23 px", GREY, np.full((2, 2), 8.0), np.full((2, 2), 20.0))
    assert keypoint_cases([case] * 7, ["head", "tail"], columns=5, side=64).shape[1] == GAP + 5 * (64 + GAP)
    with pytest.raises(ValueError, match="no cases"):
        keypoint_cases([])


def film(num_frames: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """A disc that moves over a gradient."""
    frames = []
    for number in range(num_frames):
        frame = np.linspace(60, 200, width).astype(np.uint8)[None, :, None].repeat(height, 0).repeat(3, 2)
        frames.append(cv2.circle(frame.copy(), (8 + 3 * number, 20), 7, (230, 60, 50), -1))
    return frames


@pytest.mark.parametrize("fps", [7.0, 12.0, 30.0])
def test_a_gif_has_the_length_and_the_colours_of_its_frames(tmp_path: Path, fps):
    frames = film(9)
    frames[4] = frames[3]  # equal neighbours become one frame that lasts twice as long
    write_gif(tmp_path / "film.gif", frames, fps)
    with Image.open(tmp_path / "film.gif") as gif:
        total_ms = 0
        assert gif.info["loop"] == 0
        for number in range(gif.n_frames):
            gif.seek(number)
            total_ms += gif.info["duration"]
        assert total_ms == pytest.approx(1000 * 9 / fps, abs=5)
        gif.seek(0)
        assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frames[0]).mean() < 3
        gif.seek(gif.n_frames - 1)
        assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frames[-1]).mean() < 3
    assert [p.name for p in tmp_path.iterdir()] == ["film.gif"]


def test_an_mp4_plays_the_frames_at_their_rate_also_of_odd_size(tmp_path: Path):
    frames = film(8, 47, 63)
    write_mp4(tmp_path / "film.mp4", frames, 12.5)
    with av.open(str(tmp_path / "film.mp4")) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 12.5
        assert stream.codec_context.pix_fmt == "yuv420p"
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [frame.shape for frame in decoded] == [(48, 64, 3)] * 8
    for ours, wanted in zip(decoded, frames, strict=True):
        assert np.abs(ours[:47, :63].astype(int) - wanted).mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_films_that_cannot_be_are_told_and_leave_nothing(tmp_path: Path):
    with pytest.raises(InputError, match="60 frames a second; a GIF has above 0 and at most 50"):
        write_gif(tmp_path / "a.gif", film(2), 60.0)
    with pytest.raises(InputError, match="0 frames a second"):
        write_mp4(tmp_path / "a.mp4", film(2), 0.0)
    for write, name in ((write_gif, "a.gif"), (write_mp4, "a.mp4")):
        with pytest.raises(ValueError, match="frames have sizes"):
            write(tmp_path / name, [*film(1), *film(1, 20, 20)], 10.0)
        with pytest.raises(ValueError, match="no frames"):
            write(tmp_path / name, [], 10.0)
    assert not list(tmp_path.iterdir())
