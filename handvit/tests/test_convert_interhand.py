"""InterHand2.6M to shards, on a miniature of its public layout."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from layouts_hand import posed, random_hand
from layouts_interhand import FOCAL, PRINCPT, SIZE_WH, TIPS, Truth, write_interhand, write_json

from handvit.data.converters.interhand import convert_interhand
from handvit.data.converters.report import ConversionReport
from handvit.data.records import ClipRecord
from handvit.data.shards import ClipShards
from handvit.data.storage import CropStorage
from posecore.errors import InputError

HANDS = {"right": random_hand("right"), "left": random_hand("left")}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    root = tmp_path_factory.mktemp("raw") / "InterHand2.6M_5fps_batch1"
    return root, write_interhand(root)


@pytest.fixture(scope="module")
def converted(raw: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ConversionReport]:
    output = tmp_path_factory.mktemp("shards")
    return output, convert_interhand(raw[0], output, split="train", **HANDS)


@pytest.fixture
def copy(raw: tuple[Path, Truth], tmp_path: Path) -> Path:
    """The raw folder, to be damaged."""
    return Path(shutil.copytree(raw[0], tmp_path / raw[0].name))


def read_all(folder: Path) -> dict[str, ClipRecord]:
    clips = ClipShards(sorted(folder.glob("*.tar")))
    records = [clips.read(index) for index in range(len(clips))]
    return {record.key: record for record in records}


def project(points_mm: np.ndarray) -> np.ndarray:
    return points_mm[..., :2] / points_mm[..., 2:] * FOCAL + PRINCPT


def test_both_interacting_hands_give_a_clip_in_each_camera_and_a_missing_frame_cuts_it(converted):
    records = read_all(converted[0])
    rom = {f"train-Capture0-ROM-cam{camera}-{side}-{first}"
           for camera in (400262, 400263) for side in ("right", "left") for first in (1000, 1036)}  # fmt: skip
    solo = {f"train-Capture7-solo_1-cam{camera}-right-12" for camera in (400262, 400263)}
    assert set(records) == rom | solo
    assert [len(records[f"train-Capture0-ROM-cam400262-left-{first}"]) for first in (1000, 1036)] == [4, 1]


def test_joints_are_those_of_the_world_seen_from_the_camera(raw, converted):
    for record in read_all(converted[0]).values():
        for row, index in enumerate(record.source_index):
            truth_mm = raw[1].joints_cam_mm(index["frame"], record.handedness, index["camera"])
            valid = record.joint_3d_valid[row] > 0
            assert valid.sum() == (20 if record.handedness == "right" else 21)
            np.testing.assert_allclose(record.joint_cam_mm[row, valid], truth_mm[valid], atol=1e-3)
            assert not record.joint_cam_mm[row, ~valid].any()
            assert np.abs(project(truth_mm[valid]) - record.joint_img[row, valid]).max() < 0.01


def test_converted_mano_labels_posed_in_the_camera_give_the_joints(converted):
    errors_mm = []
    for record in read_all(converted[0]).values():
        hand = HANDS[record.handedness]
        for row in np.flatnonzero(record.has_mano):
            pose, shape = (values[row].astype(np.float64) for values in (record.mano_pose, record.mano_shape))
            at_origin, _ = posed(hand, TIPS, "kinematic", pose, shape, np.zeros(3))
            trans_m = np.array(record.additional_desc[row]["mano_root_mm"]) / 1000 - at_origin[0]
            joints_m, _ = posed(hand, TIPS, "regressed", pose, shape, trans_m)
            valid = record.joint_3d_valid[row] > 0
            errors_mm.append(np.abs(joints_m[valid] * 1000 - record.joint_cam_mm[row, valid]).max())
    assert len(errors_mm) == 2 * (5 + 4 + 2)
    assert max(errors_mm) < 0.01


def test_a_hand_that_was_not_fitted_keeps_its_joints(converted):
    record = read_all(converted[0])["train-Capture0-ROM-cam400262-left-1000"]
    assert record.has_mano.tolist() == [1, 0, 1, 1]
    assert not record.mano_pose[1].any()
    assert not record.mano_shape[1].any()
    assert record.joint_3d_valid.all()


def test_pictures_are_stored_as_they_were(raw, converted):
    record = read_all(converted[0])["train-Capture7-solo_1-cam400263-right-12"]
    assert record.imgs_path == [f"images/train/Capture7/solo_1/cam400263/image{frame:05d}.jpg" for frame in (12, 18)]
    assert [bytes(frame) for frame in record.frames] == [(raw[0] / path).read_bytes() for path in record.imgs_path]


def test_boxes_are_tight_around_valid_joints(converted):
    for record in read_all(converted[0]).values():
        for row, valid in enumerate(record.joint_2d_valid > 0):
            points = record.joint_img[row, valid]
            np.testing.assert_allclose(record.hand_bbox[row], [*points.min(0), *points.max(0)], atol=1e-4)


def test_time_counts_the_steps_of_the_release(raw, converted, tmp_path):
    slow = read_all(converted[0])
    assert slow["train-Capture0-ROM-cam400262-right-1000"].timestamp_ms.tolist() == [0, 200, 400, 600]
    assert slow["train-Capture0-ROM-cam400262-right-1036"].timestamp_ms.tolist() == [1200]
    convert_interhand(raw[0], tmp_path, split="train", fps=30)
    fast = read_all(tmp_path)["train-Capture0-ROM-cam400262-right-1000"]
    np.testing.assert_allclose(fast.timestamp_ms, [0, 100 / 3, 200 / 3, 100], rtol=1e-6)


def test_a_folder_that_does_not_tell_its_release_needs_the_frame_rate(copy, tmp_path):
    unnamed = copy.rename(tmp_path / "InterHand")
    with pytest.raises(InputError, match="5 or the 30 fps release"):
        convert_interhand(unnamed, tmp_path / "out", split="train")


def test_the_report_counts_clips_skips_and_errors_and_lies_beside_the_shards(converted):
    output, report = converted
    written = json.loads((output / "conversion.json").read_text())
    assert written == json.loads(json.dumps(report.to_dict()))
    assert (written["sequences"], written["clips"], written["frames"]) == (2, 10, 24)
    assert written["hands"] == {"right": 14, "left": 10}
    assert written["frames_with_mano"] == 22
    assert written["skipped"] == {"the wrist has no valid label": 2}
    assert "image00024.jpg, right hand" in written["first_skipped"]["the wrist has no valid label"]
    assert written["reprojection_error_px"]["max"] < 1e-3
    assert written["mano_error_mm"]["max"] < 1e-3
    assert written["files"] == ["train-000000.tar"]
    assert written["warnings"] == []


def test_without_hand_models_joints_are_converted_and_the_report_says_what_is_missing(copy, tmp_path):
    (copy / "annotations/train/InterHand2.6M_train_MANO_NeuralAnnot.json").unlink()
    report = convert_interhand(copy, tmp_path / "out", split="train")
    assert report.frames_with_mano == 0
    assert [("MANO_RIGHT.pkl" in line, "MANO_LEFT.pkl" in line) for line in report.warnings] == [
        (True, False),
        (False, True),
    ]
    assert all(record.joint_3d_valid.any() for record in read_all(tmp_path / "out").values())


def test_the_stand_in_is_refused_unless_asked_for(raw, tmp_path):
    standin = random_hand("right", label="stand-in")
    with pytest.raises(InputError, match=r"right hand: is the stand-in.*MANO_RIGHT\.pkl"):
        convert_interhand(raw[0], tmp_path / "a", split="train", right=standin)
    report = convert_interhand(raw[0], tmp_path / "b", split="train", right=standin, allow_standin=True)
    assert any("stand-in" in line for line in report.warnings)


def test_parts_together_are_the_whole(raw, converted, tmp_path):
    for part in range(2):
        convert_interhand(raw[0], tmp_path, split="train", shard=(part, 2), **HANDS)
    assert set(read_all(tmp_path)) == set(read_all(converted[0]))
    assert sorted(path.name for path in tmp_path.glob("conversion*")) == [
        "conversion-0000-of-0002.json",
        "conversion-0001-of-0002.json",
    ]


def test_a_limit_ends_the_conversion_and_is_told(raw, tmp_path):
    report = convert_interhand(raw[0], tmp_path, split="train", limit=2)
    assert len(read_all(tmp_path)) == 2
    assert any("first 2 clips" in line for line in report.warnings)


def test_margin_crops_keep_points_on_the_picture(raw, tmp_path):
    convert_interhand(raw[0], tmp_path, split="train", crop=CropStorage(96, 2.0))
    for record in read_all(tmp_path).values():
        valid = record.joint_2d_valid > 0
        points = record.joint_cam_mm
        depth = np.where(valid, points[..., 2], 1)[..., None]
        projected = points[..., :2] / depth * record.focal[:, None] + record.princpt[:, None]
        assert np.abs(projected - record.joint_img)[valid].max() < 0.01
        assert (np.abs(record.hand_bbox - 47.5) < 48).all()


def _edit(name: str, edit):
    def damage(root: Path) -> None:
        path = root / "annotations" / "train" / f"InterHand2.6M_train_{name}.json"
        content = json.loads(path.read_text())
        edit(content)
        write_json(path, content)

    return damage


def _cut(root: Path) -> None:
    path = root / "annotations/train/InterHand2.6M_train_camera.json"
    path.write_bytes(path.read_bytes()[:-20])


IMAGE = "images/train/Capture0/ROM/cam400262/image01006.jpg"

DAMAGES = {
    "no data file": (
        lambda root: (root / "annotations/train/InterHand2.6M_train_data.json").unlink(),
        r"InterHand2\.6M_train_data\.json: No such file",
    ),
    "no MANO file": (
        lambda root: (root / "annotations/train/InterHand2.6M_train_MANO_NeuralAnnot.json").unlink(),
        r"MANO_NeuralAnnot\.json: No such file.*without hand models not needed",
    ),
    "broken JSON": (_cut, r"train_camera\.json: is not JSON"),
    "no picture": (
        lambda root: (root / IMAGE).unlink(),
        r"image01006\.jpg: No such file.*data\.json: annotation of image 2",
    ),
    "cut picture": (
        lambda root: (root / IMAGE).write_bytes((root / IMAGE).read_bytes()[:-30]),
        r"image01006\.jpg: the file is cut off",
    ),
    "picture of another size": (
        _edit("data", lambda data: data["images"][2].update(width=161)),
        rf"image01006\.jpg: is {SIZE_WH[0]} x {SIZE_WH[1]}; .* says 161 x {SIZE_WH[1]}",
    ),
    "too few joints": (
        _edit("joint_3d", lambda joints: joints["0"]["1006"]["world_coord"].pop()),
        r"joint_3d\.json: 0\.1006\.world_coord: has shape \(41, 3\), expected \(42, 3\)",
    ),
    "frame without joints": (
        _edit("joint_3d", lambda joints: joints["0"].pop("1006")),
        r"joint_3d\.json: 0: has no '1006'",
    ),
    "unknown camera": (
        _edit("camera", lambda cameras: cameras["7"]["focal"].pop("400263")),
        r"camera\.json: 7\.focal: has no '400263'",
    ),
    "camera that is no rotation": (
        _edit("camera", lambda cameras: cameras["0"]["camrot"].update({"400262": np.zeros((3, 3)).tolist()})),
        r"camera\.json: 0\.camrot\.400262: is no rotation",
    ),
    "unknown hand type": (
        _edit("data", lambda data: data["annotations"][1].update(hand_type="both")),
        r"data\.json: annotation of image 1\.hand_type: 'both', expected right, left or interacting",
    ),
    "picture without annotation": (
        _edit("data", lambda data: data["annotations"].pop()),
        r"data\.json: images\[15\]: image 15 has no annotation",
    ),
    "short pose": (
        _edit("MANO_NeuralAnnot", lambda mano: mano["0"]["1000"]["left"]["pose"].pop()),
        r"MANO_NeuralAnnot\.json: 0\.1000\.left\.pose: has shape \(47,\), expected \(48,\)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_input_is_named_by_file_and_entry(copy, tmp_path, damage):
    spoil, message = DAMAGES[damage]
    spoil(copy)
    with pytest.raises(InputError, match=message):
        convert_interhand(copy, tmp_path / "out", split="train", **HANDS)
    assert not (tmp_path / "out" / "conversion.json").exists()
