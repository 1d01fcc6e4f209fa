"""Detections in BOP's format and their choice for targets."""

import dataclasses
import json

import numpy as np
import pytest

from posecore.errors import InputError
from vpog.data.detections import Detection, detections_for_targets, read_detections, write_detections
from vpog.data.rle import Rle
from vpog.data.targets import Target


def detection(obj_id, score, *, image_id=3, mask=None):
    return Detection(2, image_id, obj_id, np.array([1.0, 2.0, 30.0, 40.0]), score, 0.25, mask)


def test_detections_survive_writing(tmp_path):
    mask = Rle.of(np.eye(4, dtype=bool))
    written = [detection(1, 0.75, mask=mask), detection(12, 0.1)]
    write_detections(tmp_path / "detections.json", written)
    first, second = read_detections(tmp_path / "detections.json")
    assert (first.mask, second.mask) == (mask, None)
    assert (first.obj_id, second.obj_id, first.score, first.time_s) == (1, 12, 0.75, 0.25)
    assert np.array_equal(second.bbox_xywh, written[1].bbox_xywh)


def test_a_public_file_with_compressed_masks_and_integer_boxes_is_read(tmp_path, reference):
    counts = str(reference("rle")["compressed_0"])
    row = {
        "scene_id": 2,
        "image_id": 3,
        "category_id": 5,
        "bbox": [1, 2, 30, 40],
        "score": 1,
        "time": 0.5,
        "segmentation": {"counts": counts, "size": [96, 128]},
    }
    (tmp_path / "detections.json").write_text(json.dumps([row]))
    (read,) = read_detections(tmp_path / "detections.json")
    assert np.array_equal(read.mask.decode(), reference("rle")["rle_masks"][0])


def test_a_target_gets_its_best_detections_and_no_more_than_its_instances():
    seen = [detection(1, 0.2), detection(1, 0.9), detection(1, 0.5), detection(8, 0.99), detection(1, 1.0, image_id=4)]
    chosen = detections_for_targets(seen, [Target(2, 3, 1, 2)])
    assert [(c.detection.score, c.is_of_other_object) for c in chosen] == [(0.9, False), (0.5, False)]


def test_a_target_whose_object_was_not_seen_gets_the_best_of_other_objects():
    chosen = detections_for_targets([detection(1, 0.2), detection(8, 0.9)], [Target(2, 3, 5, 1), Target(2, 9, 5, 1)])
    assert [(c.target.obj_id, c.detection.obj_id, c.is_of_other_object) for c in chosen] == [(5, 8, True)]


def test_equal_scores_keep_the_order_of_the_file():
    seen = [dataclasses.replace(detection(1, 0.5), time_s=float(place)) for place in range(3)]
    assert [c.detection.time_s for c in detections_for_targets(seen, [Target(2, 3, 1, 2)])] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [1, 2, -3, 4]}, "[0].bbox: is [1.0, 2.0, -3.0, 4.0], expected x, y, width, height"),
        ({"bbox": [1, 2, 3]}, "[0].bbox: has shape (3,)"),
        ({"score": "high"}, "[0].score: is 'high', expected a finite number"),
        ({"segmentation": {"counts": [3], "size": [2, 2]}}, "[0].segmentation: its runs add up to 3"),
        ({"category_id": None}, "[0].category_id: is None, expected a whole number"),
    ],
)
def test_a_wrong_entry_is_told_by_place_and_field(tmp_path, change, message):
    path = tmp_path / "detections.json"
    write_detections(path, [detection(1, 0.5)])
    path.write_text(json.dumps([json.loads(path.read_text())[0] | change]))
    with pytest.raises(InputError) as caught:
        read_detections(path)
    assert message in str(caught.value)
