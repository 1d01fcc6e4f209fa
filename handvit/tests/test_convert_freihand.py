"""FreiHAND v2 to shards, on a miniature of its public layout."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from layouts_freihand import TIPS, Truth, write_freihand
from layouts_hand import posed, random_hand

from handvit.data.converters.freihand import convert_freihand
from handvit.data.records import ClipRecord
from handvit.data.shards import ClipShards
from posecore.errors import InputError

HAND = random_hand("right")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    root = tmp_path_factory.mktemp("FreiHAND_pub_v2")
    return root, write_freihand(root)


@pytest.fixture(scope="module")
def converted(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("shards")
    return output, convert_freihand(raw[0], output, split="training", right=HAND)


@pytest.fixture
def copy(raw, tmp_path) -> Path:
    return Path(shutil.copytree(raw[0], tmp_path / "raw"))


def read_all(folder: Path) -> dict[str, ClipRecord]:
    clips = ClipShards(sorted(folder.glob("*.tar")))
    records = [clips.read(index) for index in range(len(clips))]
    return {record.key: record for record in records}


def test_each_label_is_there_with_its_four_backgrounds(raw, converted):
    records = read_all(converted[0])
    assert set(records) == {f"training-{number:08d}" for number in range(12)}
    for number, version in ((1, "gs"), (4, "hom"), (7, "sample"), (10, "auto")):
        record = records[f"training-{number:08d}"]
        assert record.source_index[0] == {"label": 1, "picture": number}
        assert record.additional_desc[0]["version"] == version
        assert bytes(record.frames[0]) == (raw[0] / f"training/rgb/{number:08d}.jpg").read_bytes()
        assert record.handedness == "right"


def test_joints_are_the_labelled_ones_and_project_with_the_stored_camera(raw, converted):
    for record in read_all(converted[0]).values():
        label = record.source_index[0]["label"]
        joints = raw[1].joints[label]
        np.testing.assert_allclose(record.joint_cam_mm[0], joints * 1000, atol=1e-3)
        pixels = joints @ raw[1].K[label].T
        assert np.abs(pixels[:, :2] / pixels[:, 2:] - record.joint_img[0]).max() < 0.01


def test_mano_labels_posed_at_the_solved_root_give_the_joints(converted):
    for record in read_all(converted[0]).values():
        pose, shape = record.mano_pose.astype(np.float64), record.mano_shape.astype(np.float64)
        at_origin, _ = posed(HAND, TIPS, "kinematic", pose, shape, np.zeros((1, 3)))
        root_m = np.array(record.additional_desc[0]["mano_root_mm"]) / 1000
        joints_m, _ = posed(HAND, TIPS, "regressed", pose, shape, root_m - at_origin[:, 0])
        assert record.has_mano.tolist() == [1]
        assert np.abs(joints_m * 1000 - record.joint_cam_mm).max() < 0.01


def test_the_scale_is_the_length_of_the_bone_that_the_protocol_names(converted):
    for record in read_all(converted[0]).values():
        bone_mm = np.linalg.norm(record.joint_cam_mm[0, 9] - record.joint_cam_mm[0, 10])
        assert record.additional_desc[0]["scale_mm"] == pytest.approx(bone_mm, rel=1e-5)


def test_the_report_tells_how_well_the_labels_fit(converted):
    report = json.loads((converted[0] / "conversion.json").read_text())
    assert (report["clips"], report["frames_with_mano"], report["sequences"]) == (12, 12, 3)
    assert report["mano_error_mm"]["max"] < 1e-3
    assert report["mano_vertex_error_mm"]["max"] < 1e-3
    assert report["reprojection_error_px"]["max"] < 1e-3


def test_one_background_and_the_evaluation_split(raw, copy, tmp_path):
    convert_freihand(raw[0], tmp_path / "hom", split="training", right=HAND, versions=["hom"])
    assert set(read_all(tmp_path / "hom")) == {"training-00000003", "training-00000004", "training-00000005"}
    write_freihand(copy, "evaluation")
    report = convert_freihand(copy, tmp_path / "evaluation", split="evaluation")
    assert set(read_all(tmp_path / "evaluation")) == {"evaluation-00000000", "evaluation-00000001"}
    assert report.frames_with_mano == 0
    assert "MANO_RIGHT.pkl" in report.warnings[0]


def test_parts_together_are_the_whole(raw, converted, tmp_path):
    for part in range(2):
        convert_freihand(raw[0], tmp_path, split="training", right=HAND, shard=(part, 2))
    assert set(read_all(tmp_path)) == set(read_all(converted[0]))


def test_an_unknown_background_is_refused(raw, tmp_path):
    with pytest.raises(InputError, match="versions: green; one or several of gs, hom, sample, auto"):
        convert_freihand(raw[0], tmp_path, split="training", versions=["green"])


def test_labels_of_evaluation_that_are_not_there_are_asked_for(raw, tmp_path):
    with pytest.raises(InputError, match=r"evaluation_K\.json: No such file.*FreiHAND_pub_v2_eval"):
        convert_freihand(raw[0], tmp_path, split="evaluation")


def _edit(name: str, edit):
    def damage(root: Path) -> None:
        path = root / f"training_{name}.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return damage


DAMAGES = {
    "broken JSON": (lambda root: (root / "training_xyz.json").write_text("[[1, 2"), r"training_xyz\.json: is not JSON"),
    "a label less": (
        _edit("verts", lambda table: table.pop()),
        r"training_verts\.json: has 2 entries, training_K\.json has 3",
    ),
    "a joint less": (
        _edit("xyz", lambda table: table[1].pop()),
        r"training_xyz\.json\[1\]: has shape \(20, 3\), expected \(21, 3\)",
    ),
    "not a number": (_edit("xyz", lambda table: table[1][2].__setitem__(0, float("nan"))), r"training_xyz\.json\[1\]"),
    "behind the camera": (
        _edit("xyz", lambda table: table[2][5].__setitem__(2, -0.5)),
        r"training_xyz\.json\[2\]: a joint lies behind the camera",
    ),
    "a camera with skew": (
        _edit("K", lambda table: table[0][0].__setitem__(1, 3.0)),
        r"training_K\.json\[0\]: is no camera without skew",
    ),
    "short MANO label": (
        _edit("mano", lambda table: table[2][0].pop()),
        r"training_mano\.json\[2\]: has shape \(1, 60\)|training_mano\.json\[2\]: has shape \(60,\), expected \(61,\)",
    ),
    "no picture": (
        lambda root: (root / "training/rgb/00000004.jpg").unlink(),
        r"00000004\.jpg: No such file.*training_K\.json\[1\], version hom",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_input_is_named_by_file_and_entry(copy, tmp_path, damage):
    spoil, message = DAMAGES[damage]
    spoil(copy)
    with pytest.raises(InputError, match=message):
        convert_freihand(copy, tmp_path / "out", split="training", right=HAND)
