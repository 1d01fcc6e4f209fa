"""Pictures decode to RGB as they are, crops are exact, and what is wrong with a file is told in one line."""

import struct

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from posecore.data.headers import read_header
from posecore.data.images import (
    crop_and_resize,
    crop_points,
    decode_depth,
    decode_image,
    decode_mask,
    encode_jpeg,
    encode_png,
)
from posecore.errors import InputError


def smooth_picture(height=48, width=64):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    channels = [120 + 100 * np.sin(x / 9 + c) * np.cos(y / 7 - c) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def encode(extension, pixels, *options):
    return cv2.imencode(extension, pixels, options)[1].tobytes()


PICTURE = smooth_picture()
BGR = np.ascontiguousarray(PICTURE[..., ::-1])
GREY_16 = (PICTURE[..., 0].astype(np.uint16)) * 200
BGRA = np.dstack([BGR, np.full(BGR.shape[:2], 51, np.uint8)])
FILES = {
    "JPEG": encode(".jpg", BGR),
    "PNG": encode(".png", BGR),
    "WebP": encode(".webp", BGR, cv2.IMWRITE_WEBP_QUALITY, 95),
    "lossless WebP": encode(".webp", BGR, cv2.IMWRITE_WEBP_QUALITY, 101),
    "TIFF": encode(".tif", BGR),
}


def problem(data, decode=decode_image, **options):
    with pytest.raises(InputError) as caught:
        decode(data, "shard.tar: 7.jpg", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("shard.tar: 7.jpg: ")


@pytest.mark.parametrize("kind", FILES)
def test_every_format_decodes_to_the_rgb_that_was_encoded(kind):
    decoded = decode_image(FILES[kind])
    assert decoded.dtype == np.uint8
    error = np.abs(decoded.astype(int) - PICTURE)
    assert error.max() == 0 if kind in ("PNG", "TIFF", "lossless WebP") else error.mean() < 4


def test_our_encodings_decode_to_what_went_in(tmp_path):
    np.testing.assert_array_equal(decode_image(encode_png(PICTURE)), PICTURE)
    assert np.abs(decode_image(encode_jpeg(PICTURE, 98)).astype(int) - PICTURE).mean() < 3
    np.testing.assert_array_equal(decode_depth(encode_png(GREY_16)), GREY_16)
    np.testing.assert_array_equal(decode_mask(encode_png(PICTURE[..., 0] > 99)), PICTURE[..., 0] > 99)
    (tmp_path / "a.png").write_bytes(encode_png(PICTURE[..., 1]))
    grey = decode_image(tmp_path / "a.png")
    np.testing.assert_array_equal(grey, np.repeat(PICTURE[..., 1:2], 3, axis=2))


@pytest.mark.parametrize("kind", FILES)
def test_the_header_says_size_depth_and_transparency(kind):
    header = read_header(FILES[kind])
    assert (header.height, header.width, header.bits, header.has_alpha) == (48, 64, 8, False)
    assert header.format == kind.removeprefix("lossless ")
    assert read_header(FILES[kind][:10]) is None


@pytest.mark.parametrize("extension", [".png", ".webp", ".tif"])
def test_transparency_is_refused_or_blended_with_the_colour_that_was_asked_for(extension):
    data = encode(extension, BGRA, *([cv2.IMWRITE_WEBP_QUALITY, 101] if extension == ".webp" else []))
    assert "transparent" in problem(data)
    mixed = decode_image(data, background=(255, 0, 0))
    expected = PICTURE * 0.2 + np.array([255, 0, 0]) * 0.8
    assert np.abs(mixed - expected).max() <= 1.01


def test_sixteen_bits_are_refused_or_reduced_when_asked():
    data = encode(".png", BGR.astype(np.uint16) * 257)
    assert problem(data) == "has 16 bits a channel; save it with 8, or pass reduce_16_bit"
    np.testing.assert_array_equal(decode_image(data, reduce_16_bit=True), PICTURE)
    assert "a depth map has one of 16" in problem(FILES["PNG"], decode_depth)


def test_a_mask_of_colours_needs_a_channel_and_a_jpeg_is_no_mask():
    assert "has 3 channels; a mask has one" in problem(FILES["PNG"], decode_mask)
    red = np.zeros((4, 5, 3), np.uint8)
    red[1, 2, 0] = 3
    assert decode_mask(encode_png(red), channel=0).sum() == 1
    assert decode_mask(encode_png(red), channel=2).sum() == 0
    assert "there is no channel 3" in problem(encode_png(red), decode_mask, channel=3)
    assert "save masks as PNG" in problem(FILES["JPEG"], decode_mask)


def test_the_exif_orientation_turns_the_picture_unless_told_not_to():
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # 6: turn clockwise
    data = FILES["JPEG"][:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + FILES["JPEG"][2:]
    upright = decode_image(FILES["JPEG"])
    np.testing.assert_array_equal(decode_image(data), np.rot90(upright, -1))
    np.testing.assert_array_equal(decode_image(data, apply_orientation=False), upright)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_cut_off_is_told(kind):
    data = FILES[kind]
    for kept in (len(data) * 2 // 3, len(data) // 3):
        assert "cut off" in (said := problem(data[:kept])) or "cannot be decoded" in said or "not a picture" in said


def test_what_is_no_picture_is_told(tmp_path):
    assert problem(b"").startswith("is empty")
    assert problem(b"<html>404</html>") == (
        "is not a picture that is read here (JPEG, PNG, WebP and TIFF are); it begins with b'<html>404</h'"
    )
    broken = bytearray(FILES["PNG"])
    broken[len(broken) // 2 : len(broken) // 2 + 30] = bytes(30)
    assert problem(bytes(broken)) == "is damaged and cannot be decoded; copy it again"
    with pytest.raises(InputError, match=r"none\.jpg: cannot be read: No such file or directory"):
        decode_image(tmp_path / "none.jpg")


def test_a_small_file_that_claims_a_huge_picture_is_refused_before_it_is_decoded():
    bomb = bytearray(FILES["PNG"])
    bomb[16:24] = struct.pack(">II", 100_000, 100_000)
    assert problem(bytes(bomb)) == "claims to be 100000 x 100000, above the bound of 268435456 pixels"
    assert "above the bound of 100 pixels" in problem(FILES["JPEG"], max_pixels=100)


@given(data=st.binary(max_size=80), start=st.sampled_from([b"", *(f[:30] for f in FILES.values())]))
def test_any_bytes_give_a_picture_or_an_input_error(data, start):
    with pytest.raises(InputError):
        decode_image(start + data, max_pixels=10_000)


@pytest.mark.parametrize("pixels", [PICTURE.astype(float), PICTURE[..., :2], PICTURE[None]])
def test_only_pictures_are_encoded(pixels):
    for function in (encode_png, encode_jpeg):
        with pytest.raises(ValueError, match="expected uint8"):
            function(pixels)


@pytest.mark.parametrize("out_size", [(96, 128), (100, 90), (24, 32), (13, 60), (7, 9)])
def test_a_crop_of_the_whole_picture_is_a_resize(out_size):
    ours = crop_and_resize(PICTURE, (0, 0, 64, 48), out_size, border="replicate")
    way = cv2.INTER_LINEAR if out_size[0] > 48 else cv2.INTER_AREA
    theirs = cv2.resize(PICTURE, out_size[::-1], interpolation=way)
    assert ours.shape == (*out_size, 3)
    assert np.abs(ours.astype(int) - theirs).mean() < 2.5


def test_a_crop_at_whole_pixels_copies_them_and_fills_what_lies_beyond():
    crop = crop_and_resize(PICTURE, (-3, 40, 20, 12), (12, 20), border=77)
    assert (crop[8:] == 77).all()
    assert (crop[:, :3] == 77).all()
    np.testing.assert_array_equal(crop[:8, 3:], PICTURE[40:, :17])


@given(x=st.floats(-30, 50), y=st.floats(-30, 40), w=st.floats(20, 300), h=st.floats(20, 300), by=st.floats(0.1, 3))
def test_a_crop_shows_a_linear_picture_where_its_points_say(x, y, w, h, by):
    rows, columns = np.mgrid[:60, :80].astype(np.float64)
    ramp = (20 + 1.5 * columns + rows).astype(np.uint8)
    out_size = (max(2, round(h * by)), max(2, round(w * by)))
    crop = crop_and_resize(ramp, (x, y, w, h), out_size)
    oy, ox = np.mgrid[: out_size[0], : out_size[1]].reshape(2, -1)
    kx, ky = out_size[1] / w, out_size[0] / h
    inside = np.stack([(ox + 0.5) / kx + x - 0.5, (oy + 0.5) / ky + y - 0.5], axis=-1)
    np.testing.assert_allclose(crop_points(inside, (x, y, w, h), out_size), np.stack([ox, oy], -1), atol=1e-9)
    margin = 3 * max(1, 1 / kx, 1 / ky)
    far_inside = (inside > margin).all(-1) & (inside < np.array([79, 59]) - margin).all(-1)
    expected = 20 + 1.5 * inside[:, 0] + inside[:, 1]
    assert np.abs(crop[oy, ox] - expected)[far_inside].max(initial=0) < 2.1


def test_a_shrinking_crop_does_not_alias():
    y, x = np.mgrid[:256, :256]
    stripes = (((x + y) % 2) * 255).astype(np.uint8)
    small = crop_and_resize(stripes, (10.3, 20.1, 200, 180), (48, 50))
    assert small.std() < 4


def test_labels_crop_without_new_values():
    labels = np.kron(np.array([[1, 9], [200, 7]], np.uint8), np.ones((16, 16), np.uint8))
    crop = crop_and_resize(labels, (3.7, 2.2, 25, 27), (9, 11), interpolation="nearest")
    assert set(np.unique(crop)) == {1, 7, 9, 200}


def test_points_and_intrinsics_move_as_the_picture_does():
    torch = pytest.importorskip("torch")
    cameras = pytest.importorskip("posecore.cameras")
    K = torch.tensor([[600.0, 0, 33.0], [0, 580.0, 21.0], [0, 0, 1]], dtype=torch.float64)
    box, out_size = (5.25, -3.5, 30.0, 41.0), (64, 48)
    points_cam = torch.tensor([[0.01, -0.02, 1.0], [0.2, 0.1, 3.0]], dtype=torch.float64)
    pixels, _ = cameras.project(points_cam, K)
    cropped, _ = cameras.project(
        points_cam, cameras.crop_intrinsics(K, torch.tensor(box, dtype=torch.float64), out_size)
    )
    np.testing.assert_allclose(crop_points(pixels.numpy(), box, out_size), cropped.numpy(), atol=1e-9)


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (0, 0, 5, -1), (float("nan"), 0, 5, 5)])
def test_a_box_without_a_size_is_refused(box):
    with pytest.raises(ValueError, match="finite box with a positive size"):
        crop_and_resize(PICTURE, box, (8, 8))
