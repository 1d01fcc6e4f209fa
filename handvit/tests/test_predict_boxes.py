"""Boxes of hands: their file, keypoints, tracks by overlap, detectors; and what is told where they are wrong."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handvit.detection import MODEL_PAGE, MediaPipeDetector, landmarks_to_boxes
from handvit.hand_boxes import HandBox, check_inside, keypoints_box, match_inputs, parse_box, read_boxes
from handvit.tracking import OverlapTracker, check_tracks, overlap
from posecore.errors import InputError


def hand_box(box, *rest, **more):
    return HandBox(tuple(float(number) for number in box), *rest, **more)


BOX = {"box": [1, 2, 30, 40], "side": "left"}
boxes_of = st.tuples(*[st.floats(-100, 100)] * 2, *[st.floats(0.5, 100)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


def written(folder, content):
    path = folder / "boxes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_file_of_pictures_and_videos_is_read_as_it_says(tmp_path):
    content = {
        "a.jpg": [BOX | {"track": "l", "score": 0.5}, {"box": [0, 0, 1, 1], "side": "right"}],
        "empty.jpg": [],
        "v.mp4": {"0": [BOX], "12": []},
    }
    found = read_boxes(written(tmp_path, content))
    assert found == {
        "a.jpg": [hand_box((1, 2, 30, 40), "left", "l", 0.5), hand_box((0, 0, 1, 1), "right")],
        "empty.jpg": [],
        "v.mp4": {0: [hand_box((1, 2, 30, 40), "left")], 12: []},
    }
    assert read_boxes(written(tmp_path, {"3": [BOX]})) == {"": {3: [hand_box((1, 2, 30, 40), "left")]}}


def test_the_box_of_keypoints_is_their_tight_box_and_those_without_confidence_do_not_count(tmp_path):
    points = np.random.default_rng(0).uniform(5, 90, (21, 3))
    assert keypoints_box(points[:, :2]) == (*points[:, :2].min(0), *points[:, :2].max(0))
    points[4] = [1000, 1000, 0]
    rest = np.delete(points, 4, 0)
    assert keypoints_box(points) == (*rest[:, :2].min(0), *rest[:, :2].max(0))
    file = written(tmp_path, {"a.jpg": [{"keypoints": points.tolist(), "side": "left"}]})
    assert read_boxes(file)["a.jpg"][0].box == keypoints_box(points)


WRONG = {
    "no such field": ({"a.jpg": [BOX | {"hand": "left"}]},
        ": a.jpg: hand 0: hand: no such field; there are box, keypoints, side, track, score"),
    "no side": ({"a.jpg": [BOX, {"box": [1, 2, 3, 4]}]}, ": a.jpg: hand 1: side: is None; right or left is needed"),
    "width and height": ({"a.jpg": [BOX | {"box": [100, 80, 40, 30]}]},
        ": a.jpg: hand 0: box: [100, 80, 40, 30] has no area; x1 < x2 and y1 < y2 are needed (not width and height)"),
    "three numbers": ({"a.jpg": [BOX | {"box": [1, 2, 3]}]},
        ": a.jpg: hand 0: box: is [1, 2, 3]; four numbers x1, y1, x2, y2 are needed"),
    "twenty keypoints": ({"a.jpg": [{"keypoints": [[0, 0]] * 20, "side": "left"}]},
        ": a.jpg: hand 0: keypoints: shape (20, 2); 21 finite x, y or x, y, confidence are needed"),
    "ragged keypoints": ({"a.jpg": [{"keypoints": [[0, 0]] * 20 + [[1]], "side": "left"}]},
        ": a.jpg: hand 0: keypoints: 21 lists x, y or x, y, confidence are needed"),
    "neither": ({"a.jpg": [{"side": "left"}]}, ": a.jpg: hand 0: either box or keypoints is needed"),
    "track": ({"a.jpg": [BOX | {"track": 1.5}]}, ": a.jpg: hand 0: track: is 1.5; a number or a name is needed"),
    "a box for a list": ({"a.jpg": [[1, 2, 3, 4]]},
        ': a.jpg: hand 0: is a list; {"box": [x1, y1, x2, y2], "side": "left"} is needed'),
    "frame name": ({"v.mp4": {"0": [], "one": []}}, ": v.mp4: 'one' is no frame number"),
    "frame": ({"v.mp4": {"7": [BOX | {"side": "Left"}]}},
        ": v.mp4: frame 7: hand 0: side: is 'Left'; right or left is needed"),
    "a list": ([BOX], ': holds a list; an object by file name is needed, such as '
        '{"photo.jpg": [{"box": [120, 80, 260, 230], "side": "left"}]}'),
}  # fmt: skip


@pytest.mark.parametrize("case", list(WRONG))
def test_what_is_wrong_in_a_file_is_told_with_file_key_and_field(case, tmp_path):
    content, message = WRONG[case]
    path = written(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_boxes(path)
    assert caught.value.problems == (f"{path}{message}",)


def test_every_wrong_entry_of_a_file_has_its_line(tmp_path):
    with pytest.raises(InputError) as caught:
        read_boxes(written(tmp_path, {"a.jpg": [{"side": "left"}, BOX | {"side": 1}], "b.jpg": 3}))
    assert len(caught.value.problems) == 3


def test_a_file_that_is_no_json_or_missing_is_told(tmp_path):
    with pytest.raises(InputError, match=r"boxes\.json: is no JSON: "):
        read_boxes(written(tmp_path, "{"))
    with pytest.raises(InputError, match=r"none\.json: cannot be read: No such file"):
        read_boxes(tmp_path / "none.json")


def test_entries_find_their_files_by_name_or_by_more_of_the_path():
    files = [Path("one/a.jpg"), Path("two/a.jpg"), Path("two/b.jpg")]
    source = Path("boxes.json")
    found = match_inputs({"one/a.jpg": [], "two/a.jpg": [], "b.jpg": []}, files, source)
    assert found == {files[0]: "one/a.jpg", files[1]: "two/a.jpg", files[2]: "b.jpg"}
    with pytest.raises(
        InputError, match=r"^boxes\.json: a\.jpg: could be one/a\.jpg, two/a\.jpg; write more of the path"
    ):
        match_inputs({"a.jpg": []}, files, source)
    with pytest.raises(InputError, match=r"^boxes\.json: c\.jpg: is none of the inputs; did you mean"):
        match_inputs({"c.jpg": []}, files, source)
    with pytest.raises(InputError, match=r"^boxes\.json: two/b\.jpg: two/b\.jpg has the entry b\.jpg already"):
        match_inputs({"b.jpg": [], "two/b.jpg": []}, files, source)


@pytest.mark.parametrize("box", [(-20, 5, -0.5, 9), (99.5, 5, 120, 9), (5, -9, 9, -0.5), (5, 49.5, 9, 60)])
def test_a_box_may_reach_beyond_its_picture_but_not_lie_outside_of_it(box):
    with pytest.raises(InputError, match=r"^a\.jpg: box \[.*\] of hand 0 is outside of the picture of 100 x 50 px"):
        check_inside([hand_box(box, "left")], (100, 50), "a.jpg")
    check_inside([hand_box((-20, -20, 120, 70), "left"), hand_box((-20, 5, -0.4, 9), "left")], (100, 50), "a.jpg")


def test_the_box_of_the_command_line_is_four_numbers_with_an_area():
    assert parse_box("1,2.5,3,4") == (1, 2.5, 3, 4)
    for text, message in (("1,2,3", "four numbers"), ("1,2,x,4", "four numbers"), ("5,5,5,9", "has no area")):
        with pytest.raises(InputError, match=f"^--box {text}: .*{message}"):
            parse_box(text)


@given(first=boxes_of, second=boxes_of, shift=st.floats(-50, 50), scale=st.floats(0.1, 10))
def test_the_overlap_of_boxes_is_symmetric_at_most_one_and_knows_no_place_nor_size(first, second, shift, scale):
    value = overlap(first, second)
    assert 0 <= value <= 1
    assert overlap(first, first) == pytest.approx(1)
    assert overlap(second, first) == pytest.approx(value)
    moved = [[scale * x + shift for x in box] for box in (first, second)]
    assert overlap(*moved) == pytest.approx(value, abs=1e-6)


def test_half_of_a_box_overlaps_by_a_third_with_the_next_half():
    assert overlap((0.0, 0.0, 10.0, 10.0), (5.0, 0.0, 15.0, 10.0)) == pytest.approx(1 / 3)


def test_two_hands_keep_their_tracks_while_they_pass_each_other_in_any_order_of_detection():
    tracker = OverlapTracker()
    for frame in range(20):
        x = 5 * frame
        right = hand_box((x, 0, x + 40, 40), "right")
        left = hand_box((100 - x, 5, 140 - x, 45), "left")
        found = tracker([right, left] if frame % 2 else [left, right], 33.0 * frame)
        assert {hand.side: hand.track for hand in found} == {"left": 0, "right": 1}


def test_of_two_hands_of_one_side_each_is_the_one_it_overlaps_most():
    tracker = OverlapTracker()
    tracker([hand_box((0, 0, 40, 40), "right"), hand_box((30, 0, 70, 40), "right")], 0.0)
    found = tracker([hand_box((28, 0, 68, 40), "right"), hand_box((12, 0, 52, 40), "right")], 33.0)
    assert [hand.track for hand in found] == [1, 0]


def test_a_hand_that_was_gone_for_long_or_comes_elsewhere_is_a_new_track():
    tracker = OverlapTracker()
    hand = hand_box((0, 0, 40, 40), "right")
    assert tracker([hand], 0.0)[0].track == 0
    assert tracker([hand], 500.0)[0].track == 0
    assert tracker([], 800.0) == []
    assert tracker([hand], 1001.0)[0].track == 1
    assert tracker([hand_box((80, 0, 120, 40), "right")], 1034.0)[0].track == 2


def test_tracks_of_a_file_are_all_named_or_none_once_a_frame_and_of_one_side():
    def named(track, side="left"):
        return hand_box((0, 0, 1, 1), side, track)

    assert not check_tracks({0: [named(None)], 5: []}, "v")
    assert check_tracks({0: [named("a"), named("b")], 1: [named("a")]}, "v")
    with pytest.raises(InputError, match=r"^v: frame 3: a hand has no track, but others have"):
        check_tracks({0: [named("a")], 3: [named(None)]}, "v")
    with pytest.raises(InputError, match=r"^v: frame 0: track a is there twice"):
        check_tracks({0: [named("a"), named("a")]}, "v")
    with pytest.raises(InputError, match=r"^v: frame 2: track a is a right hand, but not before"):
        check_tracks({2: [named("a", "right")], 0: [named("a")]}, "v")


def test_a_detectors_landmarks_are_pixels_with_centres_at_integers_and_its_labels_are_the_persons_own_sides():
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.2, 0.6, (2, 21, 2))
    landmarks = [[SimpleNamespace(x=x, y=y, z=0.0) for x, y in hand.tolist()] for hand in shares]
    sides = [
        [SimpleNamespace(category_name="Left", score=0.9)],
        [SimpleNamespace(category_name="Left", score=0.3), SimpleNamespace(category_name="Right", score=0.7)],
    ]
    found = landmarks_to_boxes(landmarks, sides, (640, 480))
    assert [(hand.side, hand.score) for hand in found] == [("left", 0.9), ("right", 0.7)]
    # the left edge of the picture is share 0 and pixel -0.5
    expected = shares[0].min(0) * [640, 480] - 0.5
    np.testing.assert_allclose(found[0].box[:2], expected)


def test_a_missing_model_or_package_of_the_detector_is_told_with_where_to_get_it(tmp_path):
    with pytest.raises(InputError) as caught:
        MediaPipeDetector(tmp_path / "hand_landmarker.task")
    assert str(caught.value) == (
        f"--detector {tmp_path}/hand_landmarker.task: no such file; download hand_landmarker.task from {MODEL_PAGE} "
        "and name it here"
    )
    model = tmp_path / "broken.task"
    model.write_bytes(b"no model")
    installed = importlib.util.find_spec("mediapipe") is not None
    message = "is no model of MediaPipe's HandLandmarker" if installed else r"needs the extra handvit\[detector\]"
    with pytest.raises(InputError, match=message):
        MediaPipeDetector(model)
