"""DexYCB to shards, on a miniature of its public layout."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from layouts_dexycb import (
    BETAS,
    NUM_FRAMES,
    SEQUENCES,
    SERIALS,
    SUBJECT,
    TIPS,
    K,
    Truth,
    hand_of,
    make_label,
    released_left,
    write_calibration,
    write_dexycb,
    write_frame,
    write_meta,
)
from layouts_hand import posed, random_hand

from handvit.data.converters.dexycb import convert_dexycb
from handvit.data.converters.dexycb_splits import SPLITS, in_split
from handvit.data.converters.report import ConversionReport
from handvit.data.records import ClipRecord
from handvit.data.shards import ClipShards
from posecore.errors import InputError

RIGHT_NAME, LEFT_NAME = SEQUENCES
HANDS = {"right": random_hand("right"), "left": released_left()}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    root = tmp_path_factory.mktemp("dexycb")
    return root, write_dexycb(root)


@pytest.fixture(scope="module")
def converted(raw, tmp_path_factory) -> tuple[Path, ConversionReport]:
    output = tmp_path_factory.mktemp("shards")
    return output, convert_dexycb(raw[0], output, split="all", **HANDS)


@pytest.fixture
def copy(raw, tmp_path: Path) -> Path:
    """The raw folder, to be damaged."""
    return Path(shutil.copytree(raw[0], tmp_path / "raw"))


def read_all(folder: Path) -> dict[str, ClipRecord]:
    clips = ClipShards(sorted(folder.glob("*.tar")))
    return {record.key: record for record in map(clips.read, range(len(clips)))}


def key_of(side: str, serial: str) -> str:
    name = next(name for name, of in SEQUENCES.items() if of == side)
    return f"{SUBJECT}_{name}-{serial}-000001"


def test_each_sequence_gives_a_clip_in_each_camera_without_the_frames_before_the_hand_comes(converted):
    output, report = converted
    records = read_all(output)
    assert set(records) == {key_of(side, serial) for side in TIPS for serial in SERIALS}
    assert {len(record) for record in records.values()} == {NUM_FRAMES - 1}
    assert (report.sequences, report.clips, dict(report.hands)) == (2, 4, {"right": 6, "left": 6})
    assert dict(report.skipped) == {"the hand is not there (joint_3d is -1)": 4}


@pytest.mark.parametrize("side", ["right", "left"])
def test_joints_project_onto_their_2d_labels_and_are_those_that_were_posed(raw, converted, side):
    for serial in SERIALS:
        record = read_all(converted[0])[key_of(side, serial)]
        expected = np.stack([raw[1][side, serial, frame] for frame in range(1, NUM_FRAMES)]) * 1000
        np.testing.assert_allclose(record.joint_cam_mm, expected, atol=1e-3)
        fx, fy, cx, cy = K[serial]
        pixels = expected[..., :2] / expected[..., 2:] * [fx, fy] + [cx, cy]
        np.testing.assert_allclose(record.joint_img, pixels, atol=0.01)
        np.testing.assert_allclose(record.focal, np.tile([fx, fy], (3, 1)), rtol=1e-6)
        np.testing.assert_allclose(record.hand_bbox[:, :2], pixels.min(1), atol=0.01)
        assert record.handedness == side
        np.testing.assert_allclose(record.timestamp_ms, [1000 / 30, 2000 / 30, 100], rtol=1e-6)
    assert converted[1].to_dict()["reprojection_error_px"]["max"] < 0.01
    assert converted[1].to_dict()["mano_error_mm"]["max"] < 0.1


def test_mano_of_a_right_hand_poses_the_joints_and_a_left_hand_has_none(raw, converted):
    records = read_all(converted[0])
    for serial in SERIALS:
        record = records[key_of("right", serial)]
        assert record.has_mano.all()
        pose, shape = record.mano_pose.astype(float), record.mano_shape.astype(float)
        np.testing.assert_allclose(shape, np.tile(BETAS["right"], (3, 1)), atol=1e-6)
        joints = posed(hand_of("right"), TIPS["right"], "kinematic", pose, shape, np.zeros((3, 3)))[0] * 1000
        moved = joints - joints[:, :1] + record.joint_cam_mm[:, :1]
        np.testing.assert_allclose(moved, record.joint_cam_mm, atol=0.1)
        left = records[key_of("left", serial)]
        assert not left.has_mano.any()
        assert not left.mano_pose.any()
        assert left.joint_3d_valid.all()
    assert any("MANO labels of left hands were left out" in warning for warning in converted[1].warnings)


def test_pictures_are_stored_as_they_are(raw, converted):
    record = read_all(converted[0])[key_of("right", SERIALS[0])]
    source = raw[0] / record.imgs_path[0]
    assert source.name == "color_000001.jpg"
    assert record.frames[0] == source.read_bytes()


def test_without_hand_models_joints_alone_are_converted_and_the_report_says_so(raw, tmp_path):
    report = convert_dexycb(raw[0], tmp_path, split="all")
    assert report.frames_with_mano == 0
    assert report.frames_with_3d == 12
    assert any("MANO_RIGHT.pkl, not given" in warning for warning in report.warnings)


def test_hands_that_would_give_wrong_labels_are_refused(raw, tmp_path):
    with pytest.raises(InputError, match="right hand: is the stand-in"):
        convert_dexycb(raw[0], tmp_path, split="all", right=random_hand("right", "stand-in"))
    with pytest.raises(InputError, match="left hand: its shape directions are mirrored"):
        convert_dexycb(raw[0], tmp_path, split="all", right=random_hand("right"), left=random_hand("left"))
    standins = {side: random_hand(side, "stand-in") for side in ("right", "left")}
    report = convert_dexycb(raw[0], tmp_path, split="all", **standins, allow_standin=True)
    assert any("stand-in" in warning for warning in report.warnings)


def test_every_picture_is_in_one_part_of_each_setup_and_the_parts_have_the_toolkits_sizes():
    places = [(s, q, c) for s in range(10) for q in range(100) for c in range(8)]
    count = {split: sum(in_split(split, *place) for place in places) for split in SPLITS}
    for setup in ("s0", "s1", "s2", "s3"):
        assert sum(count[f"{setup}_{part}"] for part in ("train", "val", "test")) == len(places)
    assert [count[f"s0_{part}"] for part in ("train", "val", "test")] == [6400, 320, 1280]
    assert [count[f"s1_{part}"] for part in ("train", "val", "test")] == [5600, 800, 1600]
    assert [count[f"s2_{part}"] for part in ("train", "val", "test")] == [6000, 1000, 1000]
    assert [count[f"s3_{part}"] for part in ("train", "val", "test")] == [6000, 800, 1200]
    assert in_split("s0_test", 2, 4, 0)
    assert in_split("s3_val", 0, 99, 0)
    assert not in_split("s2_val", 0, 0, 7)


def test_ids_count_the_pictures_of_the_split_also_in_a_part_of_it(tmp_path):
    """As the benchmark's submissions do: by subject, sequence, camera, frame, absent hands included."""
    root = tmp_path / "raw"
    serials = tuple(f"{camera:012d}" for camera in range(8))
    write_calibration(root, serials)
    subjects = [root / SUBJECT, root / "20200813-subject-02"]  # of s0_val, with sequences 4, 9, 14, ...
    for subject in subjects:
        for number in range(100):
            folder = subject / f"seq_{number:03d}"
            write_meta(folder, "right", num_frames=3)
            for serial in serials:
                (folder / serial).mkdir()
    second = subjects[1] / "seq_009"
    for serial in serials:
        for frame in range(3):
            write_frame(second / serial, frame, make_label("right", serial, seed=frame, is_there=frame != 1)[0])
    convert_dexycb(root, tmp_path / "shards", split="s0_val", shard=(21, 40))
    records = read_all(tmp_path / "shards")
    ids = sorted(index["id"] for record in records.values() for index in record.source_index)
    assert ids == [21 * 24 + camera * 3 + frame for camera in range(8) for frame in (0, 2)]
    assert len(records) == 16  # the absent hand cuts each camera's clip in two
    (subjects[1] / "seq_050").rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"subject-02: has 99 sequences; the split s0_val counts all 100"):
        convert_dexycb(root, tmp_path / "again", split="s0_val")
    with pytest.raises(InputError, match=r"raw: has no folder of subject-07; s1_val has them"):
        convert_dexycb(root, tmp_path / "again", split="s1_val")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda serial: (serial / "labels_000002.npz").unlink(), r"labels_000002\.npz: cannot be read"),
        (lambda serial: (serial / "labels_000002.npz").write_bytes(b"no zip"), r"labels_000002\.npz: is no \.npz"),
        (
            lambda serial: np.savez(serial / "labels_000002.npz", pose_m=np.zeros((1, 51))),
            r"labels_000002\.npz: has no joint_2d, joint_3d; it has pose_m",
        ),
        (
            lambda serial: np.savez(
                serial / "labels_000002.npz",
                pose_m=np.zeros((1, 51)),
                joint_3d=np.zeros((1, 20, 3)),
                joint_2d=np.zeros((1, 21, 2)),
            ),
            r"labels_000002\.npz: joint_3d: has shape \(1, 20, 3\), expected \(1, 21, 3\)",
        ),
        (
            lambda serial: np.savez(
                serial / "labels_000002.npz", pose_m=np.array([{"a": 1}], dtype=object), joint_3d=0, joint_2d=0
            ),
            r"labels_000002\.npz: is no \.npz of plain arrays",
        ),
        (lambda serial: (serial / "color_000002.jpg").unlink(), r"color_000002\.jpg: .*meta\.yml: num_frames names it"),
        (
            lambda serial: (serial / "color_000002.jpg").write_bytes((serial / "color_000002.jpg").read_bytes()[:-900]),
            r"color_000002\.jpg: the file is cut off",
        ),
        (lambda serial: (serial.parent / "meta.yml").write_text("num_frames: [1"), r"meta\.yml: is no YAML"),
        (
            lambda serial: (serial.parent / "meta.yml").write_text("!!python/object/apply:os.getcwd []"),
            r"meta\.yml: is no YAML of plain values",
        ),
        (
            lambda serial: (serial.parent / "meta.yml").write_text("mano_sides: [right]\nmano_calib: [x]"),
            r"meta\.yml: has no 'num_frames'; it has mano_sides, mano_calib",
        ),
        (
            lambda serial: (serial.parents[2] / "calibration" / "intrinsics" / f"{serial.name}_640x480.yml").unlink(),
            r"836212060125_640x480\.yml: cannot be read",
        ),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong_and_no_shard_is_left(copy, tmp_path, damage, message):
    damage(copy / SUBJECT / RIGHT_NAME / SERIALS[0])
    with pytest.raises(InputError, match=message):
        convert_dexycb(copy, tmp_path / "shards", split="all", right=random_hand("right"))
    assert not list((tmp_path / "shards").glob("*.tar"))


def test_a_split_that_does_not_exist_and_a_folder_of_something_else_are_told(raw, tmp_path):
    with pytest.raises(InputError, match="split: 's4_train'; expected one of all, s0_train"):
        convert_dexycb(raw[0], tmp_path, split="s4_train")
    with pytest.raises(InputError, match="has no folder DATE-subject-XX"):
        convert_dexycb(tmp_path, tmp_path / "shards", split="all")
