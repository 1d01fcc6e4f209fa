"""HOT3D-Clips to shards, on a miniature of their public layout."""

import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from layouts_dexycb import released_left
from layouts_hand import posed, random_hand
from layouts_hot3d import (
    BETAS,
    CENTRE,
    FOCAL,
    FRAMES,
    INDEX_TIP,
    LENS,
    SIZE,
    STREAMS,
    TIPS,
    Truth,
    dump,
    fisheye624,
    read_tar,
    write_hot3d,
    write_tar,
)

from handvit.data.converters.fisheye_view import (
    FisheyeCamera,
    HandCentred,
    PinholeView,
    field_limit,
    look,
    same_view,
    source_map,
    view_of_box,
)
from handvit.data.converters.hot3d import convert_hot3d
from handvit.data.converters.report import ConversionReport
from handvit.data.records import ClipRecord
from handvit.data.shards import ClipShards
from handvit.data.storage import CropStorage
from posecore.data.headers import read_header
from posecore.data.images import decode_image
from posecore.errors import InputError

HANDS = {"right": random_hand("right"), "left": random_hand("left")}
CLIP = "train_aria/clip-000007.tar"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    root = tmp_path_factory.mktemp("hot3d")
    return root, write_hot3d(root)


@pytest.fixture(scope="module")
def converted(raw, tmp_path_factory) -> tuple[Path, ConversionReport]:
    output = tmp_path_factory.mktemp("shards")
    return output, convert_hot3d(raw[0], output, split="train", quality=98, **HANDS)


@pytest.fixture(scope="module")
def centred(raw, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("centred")
    view = HandCentred(fov_deg=70.0, size=256)
    convert_hot3d(raw[0], output, split="train", view=view, picture_format="webp", quality=95, **HANDS)
    return output


def read_all(folder: Path) -> dict[str, ClipRecord]:
    clips = ClipShards(sorted(folder.glob("*.tar")))
    return {record.key: record for record in map(clips.read, range(len(clips)))}


def stream_and_side(record: ClipRecord) -> tuple[str, str]:
    return record.source_index[0]["stream"], record.handedness


def test_each_hand_in_each_stream_gives_clips_cut_where_it_is_hardly_visible_or_not_fitted(converted):
    output, report = converted
    expected = {
        f"train_aria-clip-000007-{stream}-{side}-{first}"
        for stream in STREAMS
        for side, first in (("right", "000000"), ("right", "000003"), ("left", "000002"))
    }
    assert set(read_all(output)) == expected
    assert dict(report.skipped) == {
        "the hand has no label": 2,
        "the hand has no MANO label": 2,
        "the hand's visibility is below 0.1": 2,
    }
    assert (report.frames, report.frames_with_mano) == (14, 14)
    assert not report.warnings


def test_joints_are_those_of_the_world_in_the_cameras_frame_and_project_as_a_pinhole(raw, converted):
    for record in read_all(converted[0]).values():
        stream, side = stream_and_side(record)
        frames = [index["frame"] for index in record.source_index]
        expected = np.stack([raw[1].joints_cam(frame, stream, side) for frame in frames])
        np.testing.assert_allclose(record.joint_cam_mm, expected * 1000, atol=1e-3)
        pixels = expected[..., :2] / expected[..., 2:] * FOCAL[stream] + CENTRE[stream]
        np.testing.assert_allclose(record.joint_img, pixels, atol=0.01)
        np.testing.assert_allclose(record.timestamp_ms, [int(frame) * 1000 / 30 for frame in frames], atol=1e-3)
    assert converted[1].to_dict()["reprojection_error_px"]["max"] < 0.01


@pytest.mark.parametrize("centre_on_hand", [False, True])
def test_mano_of_either_hand_poses_the_joints(converted, centred, centre_on_hand):
    for record in read_all(centred if centre_on_hand else converted[0]).values():
        pose, shape = record.mano_pose.astype(float), record.mano_shape.astype(float)
        np.testing.assert_allclose(shape, np.tile(BETAS, (len(record), 1)), atol=1e-6)
        hand = HANDS[record.handedness]
        joints = posed(hand, TIPS, "kinematic", pose, shape, np.zeros((len(record), 3)))[0] * 1000
        moved = joints - joints[:, :1] + record.joint_cam_mm[:, :1]
        np.testing.assert_allclose(moved, record.joint_cam_mm, atol=0.1)


@pytest.mark.parametrize("centre_on_hand", [False, True])
def test_what_the_lens_saw_of_a_joint_lies_at_the_joint_in_the_stored_picture(converted, centred, centre_on_hand):
    for record in read_all(centred if centre_on_hand else converted[0]).values():
        if record.handedness == "left":
            continue
        for data, joints in zip(record.frames, record.joint_img, strict=True):
            weight = decode_image(data)[..., 0].astype(float)
            weight[weight < 40] = 0
            y, x = np.mgrid[: weight.shape[0], : weight.shape[1]]
            centroid = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
            np.testing.assert_allclose(centroid, joints[INDEX_TIP], atol=0.5)


def test_a_view_centred_on_the_hand_turns_the_camera_and_keeps_distances(raw, centred):
    for record in read_all(centred).values():
        stream, side = stream_and_side(record)
        for row, index in enumerate(record.source_index):
            unturned = raw[1].joints_cam(index["frame"], stream, side) * 1000
            turn = np.array(record.additional_desc[row]["view_from_cam_rot"])
            np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
            np.testing.assert_allclose(record.joint_cam_mm[row], unturned @ turn.T, atol=1e-3)
        middle = (record.hand_bbox[:, :2] + record.hand_bbox[:, 2:]) / 2
        np.testing.assert_allclose(middle, 127.5, atol=10)  # of the fisheye's box, which the lens bends
        np.testing.assert_allclose(record.focal, 128 / np.tan(np.radians(35)), rtol=1e-6)
        assert record.frame_format == "webp"


def test_grey_streams_are_stored_grey_and_read_with_three_channels(converted):
    channels = {}
    for record in read_all(converted[0]).values():
        channels[stream_and_side(record)[0]] = read_header(record.frames[0]).channels
        assert decode_image(record.frames[0]).shape == (SIZE, SIZE, 3)
    assert channels == {"214-1": 3, "1201-1": 1}


def test_streams_can_be_chosen_and_crops_are_cut_from_undistorted_pictures(raw, tmp_path):
    crop = CropStorage(size_px=64, margin=2.0)
    convert_hot3d(raw[0], tmp_path, split="train", streams=["214-1"], crop=crop, **HANDS)
    records = read_all(tmp_path).values()
    assert {stream_and_side(record)[0] for record in records} == {"214-1"}
    for record in records:
        header = read_header(record.frames[0])
        assert (header.format, header.width, header.height) == ("JPEG", 64, 64)
        points = record.joint_cam_mm
        pixels = points[..., :2] / points[..., 2:] * record.focal[:, None] + record.princpt[:, None]
        np.testing.assert_allclose(record.joint_img, pixels, atol=0.01)


def test_clips_without_public_hands_are_counted(raw, tmp_path):
    with pytest.raises(InputError, match="skipped 1: the clip has no public hand labels") as caught:
        convert_hot3d(raw[0], tmp_path, split="test", **HANDS)
    assert "clip-001849.tar" in str(caught.value)


def test_without_both_licensed_hands_there_are_no_joints(raw, tmp_path):
    with pytest.raises(InputError, match=r"HOT3D: MANO_RIGHT\.pkl: not given; its joints are made from MANO"):
        convert_hot3d(raw[0], tmp_path, split="train", right=None, left=HANDS["left"])
    with pytest.raises(InputError, match=r"HOT3D: MANO_LEFT\.pkl: not given"):
        convert_hot3d(raw[0], tmp_path, split="train", right=HANDS["right"], left=None)
    with pytest.raises(InputError, match="left hand: is the stand-in"):
        convert_hot3d(raw[0], tmp_path, split="train", right=HANDS["right"], left=random_hand("left", "stand-in"))
    with pytest.raises(InputError, match="left hand: has the right hand's shape directions"):
        convert_hot3d(raw[0], tmp_path, split="train", right=HANDS["right"], left=released_left())


def test_joints_that_miss_the_labelled_boxes_are_told(raw, tmp_path):
    members = read_tar(raw[0] / CLIP)
    for frame in FRAMES:
        content = json.loads(members[f"{frame}.hands.json"])
        boxes = content["right"]["boxes_amodal"]
        boxes["214-1"] = [value + 60 for value in boxes["214-1"]]
        members[f"{frame}.hands.json"] = dump(content)
    write_tar(tmp_path / "raw" / CLIP, members)
    report = convert_hot3d(tmp_path / "raw", tmp_path / "shards", split="train", **HANDS)
    (warning,) = report.warnings
    assert warning.startswith("joints of 4 of 14 hands lie outside of their boxes_amodal")


def test_nothing_is_unpacked_whatever_a_member_is_called(raw, tmp_path):
    members = read_tar(raw[0] / CLIP)
    path = tmp_path / "raw" / CLIP
    write_tar(path, members | {"../../evil.txt": b"x", "/tmp/handvit-evil.txt": b"x"})
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("000009.cameras.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link, io.BytesIO())
    before = {file.relative_to(tmp_path) for file in tmp_path.rglob("*")}
    convert_hot3d(tmp_path / "raw", tmp_path / "shards", split="train", streams=["1201-1"], **HANDS)
    after = {file.relative_to(tmp_path) for file in tmp_path.rglob("*")}
    assert {path.parts[0] for path in after - before} == {"shards"}
    assert not Path("/tmp/handvit-evil.txt").exists()


def _changed(name: str, change: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    def damage(members: dict[str, bytes]) -> None:
        content = json.loads(members[name])
        change(content)
        members[name] = dump(content)

    return damage


def _calibration(**values: object) -> Callable[[dict[str, bytes]], None]:
    return _changed("000003.cameras.json", lambda content: content["214-1"]["calibration"].update(values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda members: members.pop("000003.image_214-1.jpg"), r"has no member 000003\.image_214-1\.jpg"),
        (lambda members: members.pop("000003.info.json"), r"has no member 000003\.info\.json"),
        (
            lambda members: members.update({"000003.image_214-1.jpg": members["000003.image_214-1.jpg"][:-300]}),
            r"000003\.image_214-1\.jpg: JPEG file is cut off",
        ),
        (
            lambda members: members.update({"000003.hands.json": b"{"}),
            r"clip-000007\.tar: 000003\.hands\.json: is not JSON",
        ),
        (
            _changed("000003.hands.json", lambda content: content["right"]["mano_pose"].update(thetas=[0.0] * 14)),
            r"000003\.hands\.json: right\.mano_pose\.thetas: has shape \(14,\), expected \(15,\)",
        ),
        (
            _changed("__hand_shapes.json__", lambda content: content.pop("mano")),
            r"__hand_shapes\.json__: has no 'mano'",
        ),
        (
            _changed("000003.cameras.json", lambda content: content.pop("214-1")),
            r"has no stream 214-1, unlike the first",
        ),
        (_calibration(projection_params=[1.0] * 14), r"projection_params: has 14 numbers; FISHEYE624 has 15 or 16"),
        (_calibration(projection_model_type="LINEAR"), r"000003\.cameras\.json: 214-1.*'LINEAR'; expected CameraModel"),
        (_calibration(image_width=300), r"image_214-1\.jpg: is 320 x 320; its calibration says 300 x 320"),
        (
            _changed(
                "000003.cameras.json",
                lambda content: content["214-1"]["T_world_from_camera"].update(quaternion_wxyz=[1, 1, 0, 0]),
            ),
            r"quaternion_wxyz: has length 1\.414, not 1",
        ),
    ],
)
def test_a_damaged_member_is_named_with_its_tar(raw, tmp_path, damage, message):
    members = read_tar(raw[0] / CLIP)
    damage(members)
    write_tar(tmp_path / "raw" / CLIP, members)
    with pytest.raises(InputError, match=message) as caught:
        convert_hot3d(tmp_path / "raw", tmp_path / "shards", split="train", streams=["214-1"], **HANDS)
    assert "clip-000007.tar" in str(caught.value)
    assert not list((tmp_path / "shards").glob("*.tar"))


def test_a_tar_that_is_cut_off_and_a_folder_without_tars_are_told(raw, tmp_path):
    path = tmp_path / "raw" / CLIP
    path.parent.mkdir(parents=True)
    data = (raw[0] / CLIP).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"clip-000007\.tar"):
        convert_hot3d(tmp_path / "raw", tmp_path / "shards", split="train", **HANDS)
    path.write_bytes(b"not a tar")
    with pytest.raises(InputError, match=r"clip-000007\.tar: is no readable tar"):
        convert_hot3d(tmp_path / "raw", tmp_path / "shards", split="train", **HANDS)
    with pytest.raises(InputError, match=r"no clip-\*\.tar in train_aria or train_quest3"):
        convert_hot3d(tmp_path / "shards", tmp_path / "again", split="train", **HANDS)


def make_camera(lens: list[float] | None = None) -> FisheyeCamera:
    return FisheyeCamera(
        (SIZE, SIZE),
        np.full(2, FOCAL["214-1"]),
        np.array(CENTRE["214-1"]),
        np.array(LENS["214-1"] if lens is None else lens),
        np.eye(3),
        np.zeros(3),
    )


def test_a_camera_sees_by_the_published_formula_and_its_rays_go_back():
    points = np.random.default_rng(0).uniform([-0.5, -0.5, 0.4], [0.5, 0.5, 1.0], (50, 3))
    seen = make_camera().see(points)
    np.testing.assert_allclose(seen, fisheye624(points, "214-1"), atol=1e-9)
    np.testing.assert_allclose(make_camera().rays(seen), points[:, :2] / points[:, 2:], atol=1e-9)
    assert np.isnan(make_camera().see(np.array([[0.1, 0.1, -1.0], [1.0, 0.0, 0.0]]))).all()


def test_beyond_the_angle_where_a_lens_model_folds_back_a_view_is_black():
    camera = make_camera([-0.3, *[0.0] * 11])  # its slope 1 - 0.9 angle^2 is 0 at 1.054
    assert field_limit(camera.lens) == pytest.approx(1 / np.sqrt(0.9), abs=1e-3)
    view = PinholeView((SIZE, SIZE), np.full(2, 60.0), np.array(CENTRE["214-1"]), np.eye(3))
    shown = look(np.full((SIZE, SIZE), 200, np.uint8), source_map(camera, view), 1.0)
    y, x = np.mgrid[:SIZE, :SIZE]
    angle = np.arctan(np.hypot(x - CENTRE["214-1"][0], y - CENTRE["214-1"][1]) / 60.0)
    assert (shown[angle > 1.06] == 0).all()
    assert (shown[angle < 1.0] == 200).all()


def test_a_box_outside_of_the_lens_has_no_view_and_shrinking_smooths():
    assert view_of_box(make_camera(), np.array([5000.0, 5000, 5100, 5100]), HandCentred()) is None
    stripes = np.zeros((SIZE, SIZE), np.uint8)
    stripes[:, ::2] = 200
    source = source_map(make_camera(), same_view(make_camera()))[::4, ::4]
    middle = slice(30, 50)
    assert np.ptp(look(stripes, source, 1.0)[middle, middle].astype(int)) > 100
    assert np.ptp(look(stripes, source, 4.0)[middle, middle].astype(int)) < 20


@pytest.mark.parametrize("options", [{"fov_deg": 0.0}, {"fov_deg": 180.0}, {"size": 8}])
def test_a_view_that_makes_no_sense_is_refused(options):
    with pytest.raises(InputError, match="hand-centred view"):
        HandCentred(**options)
