"""HO3D v3 and v2 to shards, on a miniature of their public layout."""

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from layouts_hand import posed, random_hand
from layouts_ho3d import CAMERA, EVALUATION, TIPS, Truth, make_meta, write_ho3d

from handvit.data.converters.hand_frames import HandFrame, runs
from handvit.data.converters.ho3d import convert_ho3d
from handvit.data.records import ClipRecord
from handvit.data.shards import ClipShards
from posecore.errors import InputError


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    root = tmp_path_factory.mktemp("ho3d")
    return root, write_ho3d(root)


@pytest.fixture
def copy(raw, tmp_path: Path) -> Path:
    """The raw folder, to be damaged."""
    return Path(shutil.copytree(raw[0], tmp_path / "raw"))


def read_all(folder: Path) -> list[ClipRecord]:
    clips = ClipShards(sorted(folder.glob("*.tar")))
    return sorted(map(clips.read, range(len(clips))), key=lambda record: record.key)


def project(points: np.ndarray) -> np.ndarray:
    homogeneous = points @ CAMERA.T
    return homogeneous[..., :2] / homogeneous[..., 2:]


def test_train_clips_are_runs_of_consecutive_labelled_frames_in_order(raw, tmp_path):
    report = convert_ho3d(raw[0], tmp_path, split="train", right=random_hand())
    records = read_all(tmp_path)
    assert [record.key for record in records] == [f"HO3D_v3-train-ABF10-{n:06d}" for n in (0, 3, 7)]
    assert [[index["frame"] for index in record.source_index] for record in records] == [
        ["0000", "0001"],
        ["0003"],
        ["0007"],
    ]
    assert [[index["line"] for index in record.source_index] for record in records] == [[1, 2], [0], [3]]
    assert dict(report.skipped) == {"the frame has no hand label": 1}
    assert report.first_skipped["the frame has no hand label"].endswith("ABF10/meta/0002.pkl")


def test_joints_turn_from_opengl_to_opencv_and_mano_poses_them(raw, tmp_path):
    report = convert_ho3d(raw[0], tmp_path, split="train", right=random_hand())
    for record in read_all(tmp_path):
        lines = [f"{index['sequence']}/{index['frame']}" for index in record.source_index]
        expected = np.stack([raw[1].joints[line] for line in lines])
        np.testing.assert_allclose(record.joint_cam_mm, expected * 1000, atol=1e-3)
        np.testing.assert_allclose(record.joint_img, project(expected), atol=0.01)
        assert record.has_mano.all()
        pose, shape = record.mano_pose.astype(float), record.mano_shape.astype(float)
        joints = posed(random_hand(), TIPS, "kinematic", pose, shape, np.zeros((len(record), 3)))[0] * 1000
        moved = joints - joints[:, :1] + record.joint_cam_mm[:, :1]
        np.testing.assert_allclose(moved, record.joint_cam_mm, atol=0.1)
        assert record.meta["tips"] == list(TIPS)
    assert report.to_dict()["mano_error_mm"]["max"] < 0.1
    assert report.to_dict()["reprojection_error_px"]["max"] < 0.01


def test_without_a_hand_model_the_labels_are_the_same(raw, tmp_path):
    convert_ho3d(raw[0], tmp_path / "with", split="train", right=random_hand())
    report = convert_ho3d(raw[0], tmp_path / "without", split="train")
    assert report.to_dict()["mano_error_mm"] is None
    assert "no hand model: the fit of MANO's labels to the joints was not measured" in report.warnings
    for one, other in zip(read_all(tmp_path / "with"), read_all(tmp_path / "without"), strict=True):
        np.testing.assert_array_equal(one.mano_pose, other.mano_pose)


def test_the_evaluation_truth_gives_all_joints_in_the_order_of_the_list_and_boxes_stay_the_published_ones(
    raw, tmp_path
):
    report = convert_ho3d(raw[0], tmp_path, split="evaluation")
    (record,) = read_all(tmp_path)
    lines = [f"{index['sequence']}/{index['frame']}" for index in record.source_index]
    assert lines == sorted(EVALUATION)
    assert [index["line"] for index in record.source_index] == [1, 0]
    expected = np.stack([raw[1].joints[line] for line in lines])
    np.testing.assert_allclose(record.joint_cam_mm, expected * 1000, atol=1e-3)
    np.testing.assert_allclose(record.hand_bbox, [raw[1].boxes[line] for line in lines], rtol=1e-6)
    assert record.joint_3d_valid.all()
    assert not record.has_mano.any()
    assert report.frames_with_mano == 0


def test_without_the_truth_only_the_wrist_is_known(tmp_path):
    truth = write_ho3d(tmp_path / "raw", with_truth=False)
    report = convert_ho3d(tmp_path / "raw", tmp_path / "shards", split="evaluation")
    (record,) = read_all(tmp_path / "shards")
    assert record.joint_3d_valid.tolist() == [[1.0] + [0.0] * 20] * 2
    assert record.joint_2d_valid.tolist() == record.joint_3d_valid.tolist()
    wrists = [truth.joints[line][0] * 1000 for line in sorted(EVALUATION)]
    np.testing.assert_allclose(record.joint_cam_mm[:, 0], wrists, atol=1e-3)
    assert not record.joint_img[:, 1:].any()
    assert any("has no evaluation_xyz.json: only the wrist" in warning for warning in report.warnings)


def test_a_truth_of_another_version_is_noticed(copy, tmp_path):
    file = copy / "evaluation_xyz.json"
    listed = json.loads(file.read_text())
    file.write_text(json.dumps(listed[::-1]))
    report = convert_ho3d(copy, tmp_path / "shards", split="evaluation")
    assert any("more than 5 mm from those of their labels" in warning for warning in report.warnings)
    file.write_text(json.dumps(listed[:1]))
    with pytest.raises(InputError, match=r"evaluation_xyz\.json: has 1 frames, but evaluation\.txt has 2"):
        convert_ho3d(copy, tmp_path / "again", split="evaluation")


def test_version_2_is_told_by_its_pngs_which_are_stored_as_they_are(tmp_path):
    write_ho3d(tmp_path / "raw", ending="png")
    report = convert_ho3d(tmp_path / "raw", tmp_path / "shards", split="train")
    record = read_all(tmp_path / "shards")[0]
    assert (report.dataset, record.data_source, record.frame_format) == ("HO3D_v2", "HO3D_v2", "png")
    assert record.frames[0] == (tmp_path / "raw" / record.imgs_path[0]).read_bytes()


class Command:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_names_a_command_is_refused_by_its_name_and_does_not_run_it(copy, tmp_path):
    meta, _ = make_meta(0)
    data = pickle.dumps(meta | {"objName": Command(tmp_path / "ran")})
    (copy / "train" / "ABF10" / "meta" / "0001.pkl").write_bytes(data)
    with pytest.raises(InputError, match=r"ABF10/meta/0001\.pkl: posix\.mkdir: not allowed"):
        convert_ho3d(copy, tmp_path / "shards", split="train")
    assert not (tmp_path / "ran").exists()


def _meta_without(key: str) -> bytes:
    meta, _ = make_meta(0)
    del meta[key]
    return pickle.dumps(meta)


def _meta_with(**changes: object) -> bytes:
    return pickle.dumps(make_meta(0)[0] | changes)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train/ABF10/meta/0001.pkl", None, r"0001\.pkl: No such file or directory; expected the labels"),
        ("train/ABF10/meta/0001.pkl", b"\x80\x02}", r"0001\.pkl: not a readable pickle"),
        ("train/ABF10/meta/0001.pkl", _meta_without("camMat"), r"0001\.pkl: has no 'camMat'"),
        (
            "train/ABF10/meta/0001.pkl",
            _meta_with(handJoints3D=np.zeros((20, 3))),
            r"0001\.pkl: handJoints3D: has shape \(20, 3\), expected \(21, 3\)",
        ),
        (
            "train/ABF10/meta/0001.pkl",
            _meta_with(handPose=np.full(48, np.nan)),
            r"0001\.pkl: handPose: has nan, expected finite numbers",
        ),
        ("train/ABF10/rgb/0001.jpg", None, r"rgb/0001\.jpg: .*train\.txt:3 names it"),
        ("train/ABF10/rgb/0003.jpg", None, r"rgb/0003: neither \.jpg \(v3\) nor \.png \(v2\) is there; .*train\.txt:1"),
        ("train.txt", None, r"train\.txt: No such file or directory; expected HO3D's list"),
        ("train.txt", b"", r"train\.txt: is empty"),
        ("train.txt", b"ABF10/0000\n../secret\n", r"train\.txt:2: '\.\./secret'; expected SEQ/ID as in ABF10/0000"),
        ("train.txt", b"ABF10/0000\n../0001\n", r"train\.txt:2: '\.\./0001'; expected SEQ/ID"),
        ("train.txt", b"ABF10/0000\nABF10/0000\n", r"train\.txt:2: ABF10/0000 is listed twice"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong_and_no_shard_is_left(copy, tmp_path, file, content, message):
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_bytes(content)
    with pytest.raises(InputError, match=message):
        convert_ho3d(copy, tmp_path / "shards", split="train")
    assert not list((tmp_path / "shards").glob("*.tar"))


def test_an_evaluation_frame_without_its_box_is_an_error(copy, tmp_path):
    file = copy / "evaluation" / "SM1" / "meta" / "0000.pkl"
    meta = make_meta(100)[0] | {"handJoints3D": np.zeros(3)}
    file.write_bytes(pickle.dumps(meta))
    with pytest.raises(InputError, match=r"0000\.pkl: handBoundingBox: missing"):
        convert_ho3d(copy, tmp_path / "shards", split="evaluation")


def test_a_part_that_holds_no_sequence_writes_nothing_and_says_so(raw, tmp_path):
    with pytest.raises(InputError, match="no clip is left to write"):
        convert_ho3d(raw[0], tmp_path, split="train", shard=(0, 2))
    convert_ho3d(raw[0], tmp_path, split="train", shard=(1, 2))
    assert len(read_all(tmp_path)) == 3


def test_a_run_of_frames_is_cut_before_its_pictures_exceed_the_bound():
    nothing = np.zeros(21)
    labels = {"joint_img": np.zeros((21, 2)), "joint_cam_mm": np.zeros((21, 3)), "timestamp_ms": 0.0}
    labels |= {"joint_2d_valid": nothing, "joint_3d_valid": nothing, "focal": np.ones(2), "princpt": np.zeros(2)}
    frames = [HandFrame(number, b"0123456789", "jpg", "", **labels) for number in (0, 1, 2, 3, 7, 8)]
    assert [[f.number for f in run] for run in runs(frames, max_bytes=25)] == [[0, 1], [2, 3], [7, 8]]
    assert [[f.number for f in run] for run in runs(frames, max_bytes=5)] == [[0], [1], [2], [3], [7], [8]]
    assert list(runs([])) == []
