"""Pictures of which only the upper rows are decoded are those of the whole file, to the last bit."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from handvit.data.jpeg_rows import first_rows
from handvit.data.region import cut_regions, open_pictures

WIDTH, HEIGHT = 120, 203
SMOOTH = cv2.resize(np.random.default_rng(0).integers(0, 255, (40, 24, 3), np.uint8), (WIDTH, HEIGHT))


def jpeg(pixels=SMOOTH, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def restarted() -> bytes:
    return cv2.imencode(".jpg", SMOOTH, [cv2.IMWRITE_JPEG_RST_INTERVAL, 3])[1].tobytes()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(exif=exif)


PLAIN = {
    "4:4:4": jpeg(subsampling=0),
    "4:2:2": jpeg(subsampling=1),
    "4:2:0": jpeg(subsampling=2),
    "optimised codes": jpeg(optimize=True),
    "grey": jpeg(SMOOTH[..., 0]),
    "with a thumbnail behind it": jpeg() + jpeg(SMOOTH[:16, :16]),
    "with a comment": jpeg(comment=b"\xff\xd9 is no end mark here"),
}
WHOLE = {
    "progressive": jpeg(progressive=True),
    "restart marks": restarted(),
    "turned": turned(6),
    "upside down": turned(3),
    "padded": jpeg()[:2] + b"\xff" + jpeg()[2:],
}


def decoded(content) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


@pytest.mark.parametrize("kind", PLAIN)
def test_the_rows_above_are_those_of_the_whole_file_and_nothing_is_said(kind, capfd):
    whole = decoded(PLAIN[kind])
    for rows in (0, 1, 15, 16, 17, 100, 160, 180, HEIGHT):
        part, height = first_rows(PLAIN[kind], rows)
        pixels = decoded(part)
        assert len(pixels) == (height or HEIGHT)
        np.testing.assert_array_equal(pixels[:rows], whole[:rows])
    assert first_rows(PLAIN[kind], 20)[1] in (32, 40, 48)
    assert first_rows(PLAIN[kind], HEIGHT)[1] is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", WHOLE)
def test_other_files_stay_whole(kind):
    part, height = first_rows(WHOLE[kind], 8)
    assert height is None
    assert part.tobytes() == WHOLE[kind]


@given(at=st.integers(0, 700), end=st.integers(0, 1000), value=st.integers(0, 255))
def test_any_bytes_are_taken(at, end, value):
    data = bytearray(PLAIN["4:2:0"])
    data[at] = value
    first_rows(bytes(data[:end]), 8)
    first_rows(bytes(data), 8)


def test_a_part_is_never_a_square_that_hides_a_turn():
    square = jpeg(SMOOTH[:, :48])
    assert first_rows(square, 16)[1] == 64


@given(
    kind=st.sampled_from(sorted(PLAIN)),
    scale=st.floats(0.06, 1.5),
    x=st.floats(-20, WIDTH),
    y=st.floats(-20, HEIGHT),
    sample=st.booleans(),
)
def test_regions_are_those_of_the_whole_picture(kind, scale, x, y, sample):
    patch_from_image = np.array([[[scale, 0, -scale * x], [0, scale, -scale * y], [0, 0, 1.0]]])
    data = PLAIN[kind]
    ours, maps = cut_regions(open_pictures([data], "a"), patch_from_image, 24, sample=sample)
    padded = data[:2] + b"\xff" + data[2:]  # the same picture, of which no rows are left out
    theirs, others = cut_regions(open_pictures([padded], "a"), patch_from_image, 24, sample=sample)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(maps, others)
