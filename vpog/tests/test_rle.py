"""Run-length masks against the reference vectors and strings of pycocotools 2.0.11 (data/rle.npz)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from posecore.errors import InputError
from vpog.data.rle import Rle

MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@pytest.mark.parametrize("number", range(5))
def test_runs_are_those_of_the_toolkit(reference, number):
    arrays = reference("rle")
    mask = arrays["rle_masks"][number]
    assert Rle.of(mask).counts == tuple(arrays[f"rle_counts_{number}"].tolist())
    assert np.array_equal(Rle.of(mask).decode(), mask)


@pytest.mark.parametrize("number", range(5))
def test_compressed_text_of_pycocotools_is_the_same_mask(reference, number):
    arrays = reference("rle")
    value = {"counts": str(arrays[f"compressed_{number}"]), "size": [96, 128]}
    assert Rle.from_json(value, "mask") == Rle.of(arrays["rle_masks"][number])


def test_long_compressed_runs_are_the_same_mask(reference):
    arrays = reference("rle")
    value = {"counts": str(arrays["big_compressed"]), "size": [480, 640]}
    assert np.array_equal(Rle.from_json(value, "mask").decode(), arrays["big_mask"])


@given(mask=MASKS)
def test_decoding_gives_the_mask_back_and_the_area_is_its_pixels(mask):
    run_lengths = Rle.from_json(Rle.of(mask).to_json(), "mask")
    assert np.array_equal(run_lengths.decode(), mask)
    assert run_lengths.area_px == mask.sum()


def test_an_empty_mask_has_one_run():
    assert Rle.of(np.zeros((3, 4), dtype=bool)).counts == (12,)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "is no run-length mask"),
        ({"counts": [3], "size": [2, 2]}, "its runs add up to 3 pixels, its size says 2 x 2"),
        ({"counts": [5, -1], "size": [2, 2]}, "its runs add up to 4"),
        ({"counts": [4.0], "size": [2, 2]}, "counts: is no list of whole numbers"),
        ({"counts": [4], "size": [4]}, "size: has 1 numbers, expected height and width"),
        ({"counts": "\x01", "size": [2, 2]}, "are no compressed run lengths"),
    ],
)
def test_what_is_no_mask_is_refused_by_name(value, message):
    with pytest.raises(InputError, match=r"0000\.mask\.json") as caught:
        Rle.from_json(value, "0000.mask.json")
    assert message in str(caught.value)
