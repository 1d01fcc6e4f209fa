"""What all converters share: parts, keys, boxes, the report."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handvit.data.converters.clip_writing import MAX_KEY, box_problem, clip_key, part_of, shard_pattern, tight_boxes
from handvit.data.converters.report import ConversionReport
from posecore.data.shard_writer import KEY
from posecore.errors import InputError


@given(count=st.integers(0, 50), parts=st.integers(1, 12))
def test_parts_hold_each_sequence_once_in_order_and_differ_by_at_most_one(count, parts):
    pieces = [part_of(range(count), (part, parts)) for part in range(parts)]
    assert [sequence for piece in pieces for sequence in piece] == list(range(count))
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


@pytest.mark.parametrize("shard", [(2, 2), (-1, 4), (0, 0)])
def test_a_part_that_does_not_exist_is_refused(shard):
    with pytest.raises(InputError, match="counts from 0"):
        part_of([1, 2, 3], shard)


def test_shards_of_parts_have_names_of_their_own():
    assert shard_pattern("train", None) % 3 == "train-000003.tar"
    assert shard_pattern("train", (1, 16)) % 3 == "train-0001-of-0016-000003.tar"


@given(parts=st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_a_key_is_always_one_that_a_shard_can_hold(parts):
    key = clip_key(*parts)
    assert KEY.fullmatch(key)
    assert len(f"{key}.additional_desc.json") <= 100


def test_long_names_keep_different_keys():
    first, second = (clip_key("train", "x" * 100, end) for end in ("right", "left"))
    assert first != second
    assert len(first) == len(second) == MAX_KEY


@given(seed=st.integers(0, 1000))
def test_boxes_hold_the_valid_joints_and_touch_them_on_all_sides(seed):
    rng = np.random.default_rng(seed)
    points, valid = rng.normal(0, 50, (4, 21, 2)), rng.random((4, 21)) < 0.4
    valid[0] = False
    boxes = tight_boxes(points, valid)
    assert not boxes[0].any()
    for box, of_frame, mask in zip(boxes[1:], points[1:], valid[1:], strict=True):
        if mask.any():
            assert box.tolist() == [*of_frame[mask].min(0), *of_frame[mask].max(0)]


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ([10, 10, 50, 40], None),
        ([-20, -20, -0.4, 5], None),
        ([-20, -20, -0.6, 5], "outside"),
        ([10, 79.6, 50, 90], "outside"),
        ([10, 10, 10, 40], "no box"),
        ([0, 0, 0, 0], "no box"),
    ],
)
def test_a_box_must_have_an_area_and_touch_the_picture(box, problem):
    found = box_problem(np.array(box, float), (100, 80))
    assert found is None if problem is None else problem in found


def test_the_report_averages_the_valid_joints_of_each_frame():
    report = ConversionReport("X", "train")
    labelled, posed = np.zeros((3, 21, 3)), np.zeros((3, 21, 3))
    posed[0, :10, 0], posed[1, :, 1] = 4.0, 3.0
    valid = np.ones((3, 21))
    valid[0, 5:], valid[2] = 0, 0
    posed[2] = 1e6
    report.measure_mano(posed, labelled, valid)
    assert report.to_dict()["mano_error_mm"] == {"median": 3.5, "max": 4.0}


def test_a_warning_is_told_once_and_a_reason_keeps_its_first_sample():
    report = ConversionReport("X", "train")
    for sample in ("a", "b"):
        report.warn("careful")
        report.skip("too dark", sample)
    report.skip("too dark", "c", count=5)
    assert report.warnings == ["careful"]
    assert report.skipped == {"too dark": 7}
    assert report.first_skipped == {"too dark": "a"}
