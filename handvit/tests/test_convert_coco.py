"""Hands of COCO-WholeBody to shards, on a miniature of its public layout."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from layouts_coco import write_coco

from handvit.data.converters.coco_wholebody import convert_coco_wholebody
from handvit.data.records import ClipRecord
from handvit.data.shards import ClipShards
from posecore.errors import InputError


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("coco")
    return root, write_coco(root)


@pytest.fixture(scope="module")
def converted(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("shards")
    return output, convert_coco_wholebody(raw[0], output, split="val")


@pytest.fixture
def copy(raw, tmp_path) -> Path:
    return Path(shutil.copytree(raw[0], tmp_path / "raw"))


def read_all(folder: Path) -> dict[str, ClipRecord]:
    clips = ClipShards(sorted(folder.glob("*.tar")))
    records = [clips.read(index) for index in range(len(clips))]
    return {record.key: record for record in records}


def test_labelled_hands_keep_their_points_and_nothing_in_three_dimensions(raw, converted):
    records = read_all(converted[0])
    assert set(records) == {"val-1-right", "val-1-left", "val-2-left"}
    for record in records.values():
        truth = raw[1][record.source_index[0]["annotation"], record.handedness]
        np.testing.assert_allclose(record.joint_img[0], truth[:, :2], rtol=1e-6)
        assert record.joint_2d_valid[0].tolist() == (truth[:, 2] > 0).tolist()
        assert not record.joint_3d_valid.any()
        assert not record.has_mano.any()
        assert bytes(record.frames[0]) == (raw[0] / record.imgs_path[0]).read_bytes()


def test_the_camera_is_virtual_and_says_so(converted):
    record = read_all(converted[0])["val-2-left"]
    assert record.intr_type == "fixed_virtual"
    np.testing.assert_allclose(record.focal, 1.2 * 128)
    np.testing.assert_allclose(record.princpt, [[47.5, 63.5]])


def test_the_report_counts_what_has_no_label_or_lies_outside(converted):
    report = json.loads((converted[0] / "conversion.json").read_text())
    assert report["skipped"] == {
        "the hand is marked as not labelled": 2,
        "the hand is outside of the picture": 1,
    }
    assert report["first_skipped"]["the hand is outside of the picture"] == "annotation 3, right hand"
    assert report["frames_with_3d"] == 0
    assert report["reprojection_error_px"] is None


DAMAGES = {
    "no picture": (lambda root: (root / "val2017/000000000009.jpg").unlink(), None, r"000000000009\.jpg: No such file"),
    "no annotations": (
        lambda root: (root / "annotations/coco_wholebody_val_v1.0.json").unlink(),
        None,
        r"coco_wholebody_val_v1\.0\.json: No such file",
    ),
    "a joint less": (
        None,
        lambda content: content["annotations"][0].update(righthand_kpts=[1.0] * 60),
        r"annotation 1\.righthand_kpts: has shape \(60,\), expected \(63,\)",
    ),
    "body key points only": (
        None,
        lambda content: content["annotations"][0].pop("righthand_valid"),
        r"annotation 1: has no 'righthand_valid'",
    ),
    "unknown picture": (
        None,
        lambda content: content["images"].pop(0),
        r"annotation 1: image 9 is not among the images",
    ),
    "a picture twice": (
        None,
        lambda content: content["images"].append(content["images"][0]),
        r"images\[2\]: id 9 is there twice",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_input_is_named_by_file_and_entry(copy, tmp_path, damage):
    spoil, edit, message = DAMAGES[damage]
    if spoil is not None:
        spoil(copy)
    if edit is not None:
        file = copy / "annotations" / "coco_wholebody_val_v1.0.json"
        content = json.loads(file.read_text())
        edit(content)
        file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        convert_coco_wholebody(copy, tmp_path / "out", split="val")


def test_a_part_without_any_hand_says_why_nothing_was_written(raw, tmp_path):
    with pytest.raises(InputError) as told:
        convert_coco_wholebody(raw[0], tmp_path, split="val", shard=(2, 3))
    assert told.value.problems[0].endswith("COCO-WholeBody val: no clip is left to write")
    assert any("skipped 1: the hand is outside of the picture" in line for line in told.value.problems)
