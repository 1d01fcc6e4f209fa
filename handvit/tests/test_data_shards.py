"""Clips come back from shards as they were written; what is wrong in them names shard, key and member."""

import os
import pickle
import sys
from dataclasses import fields, replace
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

from handvit.data.records import ClipRecord
from handvit.data.shards import ClipShards, write_clip
from posecore.data.shard_fields import encode_field
from posecore.data.shards import ShardSource, ShardWriter
from posecore.errors import InputError

sys.path.append(str(Path(__file__).parent))
from hand_clips import HEIGHT, WIDTH, make_record, picture

LEGACY = {"joint_2d_valid.npy", "joint_3d_valid.npy", "has_mano.npy", "has_intr.npy", "meta.json", "intr_type.json"}


@pytest.fixture
def unchecked():
    """The writer's own checks alone, also in a run that checks annotations."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def write(folder, *records):
    with ShardWriter(folder) as writer:
        for record in records:
            write_clip(writer, record)
    return writer.paths


def members_of(folder, record):
    source = ShardSource(write(folder / "whole", record), fields=())
    return dict(zip(source.members(0), source.read_members(0, source.members(0)), strict=True))


def written_with(folder, record, changes, without=()):
    """The record's shard with some members replaced, added or left out."""
    members = {name: data for name, data in members_of(folder, record).items() if name not in without}
    with ShardWriter(folder / "changed") as writer:
        writer.write(record.key, members | {name: encode_field(name, value) for name, value in changes.items()})
    return writer.paths


def old_tar(folder, record, frames, without=(), **changes):
    """As upstream writes it: one mask of joints, one of MANO, pictures in a pickle."""
    frame_members = {f"frame_{i:04d}.png" for i in range(len(record))}
    legacy = {
        "img_bytes.pickle": frames,
        "joint_valid.npy": record.joint_2d_valid,
        "mano_valid.npy": record.has_mano,
    }
    return written_with(folder, record, legacy | changes, LEGACY | frame_members | set(without))


def problems(call):
    with pytest.raises(InputError) as caught:
        call()
    return caught.value.problems


def assert_same(read, written, rows):
    for field in fields(ClipRecord):
        found, expected = getattr(read, field.name), getattr(written, field.name)
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(found, expected[rows], err_msg=field.name)
            assert found.dtype == np.float32
        elif isinstance(expected, list):
            assert list(found) == [expected[row] for row in rows], field.name
        elif field.name != "meta":
            assert found == expected, field.name


def test_a_clip_comes_back_as_it_was_written(tmp_path):
    records = [make_record("a", 1), make_record("b", 12, seed=1, handedness="left", meta={"tips": [1, 2, 3, 4, 5]})]
    shards = ClipShards(write(tmp_path, *records))
    assert len(shards) == 2
    assert_same(shards.read(0), records[0], [0])
    assert_same(shards.read(1), records[1], range(12))
    assert_same(shards.read(1, [3, 11]), records[1], [3, 11])
    assert shards.read(1).meta == {"version": 1, "pose_mean": "absolute", "tips": [1, 2, 3, 4, 5]}
    assert shards.read(1, [4], pictures=False).frames == [b""]


def test_a_shard_has_the_members_of_the_format(tmp_path):
    record = make_record("a", 2, frame_format="webp", frames=[picture(i, "webp") for i in range(2)])
    members = members_of(tmp_path, record)
    arrays = ["hand_bbox", "joint_img", "joint_cam", "joint_rel", "joint_2d_valid", "joint_3d_valid", "has_mano"]
    arrays += ["has_intr", "mano_pose", "mano_shape", "timestamp", "focal", "princpt"]
    texts = ["imgs_path", "handedness", "data_source", "source_split", "source_index", "additional_desc", "intr_type"]
    expected = {f"{name}.npy" for name in arrays} | {f"{name}.json" for name in [*texts, "meta"]}
    assert set(members) == expected | {"frame_0000.webp", "frame_0001.webp"}
    source = ShardSource([tmp_path / "whole" / "000000.tar"], fields=["joint_rel.npy", "joint_cam.npy"])
    sample = source.read(0)
    assert sample["joint_cam.npy"].dtype == np.float32
    np.testing.assert_array_equal(sample["joint_rel.npy"], record.joint_cam_mm - record.joint_cam_mm[:, :1])


@pytest.mark.parametrize("as_array", [False, True])
def test_an_older_tar_is_read_as_a_new_one(tmp_path, as_array):
    mask = np.ones((3, 21), np.float32)
    mask[1, 4] = 0
    record = make_record("a", 3, joint_2d_valid=mask, joint_3d_valid=mask, handedness="left")
    frames = [np.frombuffer(frame, np.uint8) if as_array else frame for frame in record.frames]
    shards = ClipShards(old_tar(tmp_path, record, pickle.dumps(frames), **{"handedness.json": "l"}))
    assert_same(shards.read(0), record, range(3))
    assert_same(shards.read(0, [2]), record, [2])


def test_an_older_tar_without_intrinsics_or_mano_gets_zeros_under_zero_masks(tmp_path):
    record = make_record("a", 2)
    without = ("focal.npy", "mano_pose.npy", "mano_valid.npy", "mano_shape.npy", "joint_img.npy")
    boxed = record.joint_img - record.hand_bbox[:, None, :2]
    paths = written_with(
        tmp_path,
        record,
        {"joint_valid.npy": record.joint_2d_valid, "joint_hand_bbox.npy": boxed},
        LEGACY | set(without),
    )
    read = ClipShards(paths).read(0)
    assert not read.has_intr.any()
    assert not read.has_mano.any()
    assert not read.mano_pose.any()
    assert read.mano_pose.shape == (2, 48)
    assert read.intr_type == "none"
    np.testing.assert_allclose(read.joint_img, record.joint_img, atol=1e-4)
    np.testing.assert_array_equal(read.joint_2d_valid, record.joint_2d_valid)


def test_pictures_whose_pickle_names_a_command_are_refused_and_nothing_runs(tmp_path):
    class Command:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    paths = old_tar(tmp_path, make_record("a", 1), pickle.dumps([Command()]))
    (said,) = problems(lambda: ClipShards(paths).read(0))
    assert said.startswith(f"{paths[0]}: a: img_bytes.pickle: ")
    assert "mkdir: not allowed" in said
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([1.5], "entry 0 is a float; expected the bytes of a picture"),
        ({}, "holds a dict; expected a list"),
        ([b"none"], "entry 0 is no picture"),
    ],
)
def test_a_pickle_of_anything_but_pictures_is_told(tmp_path, frames, said):
    paths = old_tar(tmp_path, make_record("a", 1), pickle.dumps(frames))
    assert said in problems(lambda: ClipShards(paths).read(0))[0]


@pytest.mark.parametrize("side", ["right", "left"])
def test_relative_poses_become_absolute_by_the_mean_of_their_side(tmp_path, side):
    record = make_record("a", 2, handedness=side)
    mean = np.linspace(-0.5, 0.5, 45)
    sided = mean * np.tile([1, 1, 1] if side == "right" else [1, -1, -1], 15)
    expected = record.mano_pose.copy()
    expected[:, 3:] += sided
    marked = {"meta.json": {"version": 1, "pose_mean": "relative"}}
    for name, changes, options in (("meta", marked, {}), ("config", {}, {"pose_mean": "relative"})):
        paths = written_with(tmp_path / name, record, changes, () if changes else ("meta.json",))
        read = ClipShards(paths, hands_mean=mean, **options).read(0)
        np.testing.assert_allclose(read.mano_pose, expected, atol=1e-6)
        assert read.meta["pose_mean"] == "absolute"
        (said,) = problems(lambda paths=paths, options=options: ClipShards(paths, **options).read(0))
        assert said == f"{paths[0]}: a: its poses are relative to the mean pose; reading them needs the hand model"
    stated = write(tmp_path / "stated", record)
    read = ClipShards(stated, pose_mean="relative", hands_mean=mean).read(0)
    np.testing.assert_array_equal(read.mano_pose, record.mano_pose)  # what the sample says counts


def test_poses_that_are_not_valid_stay_zero_when_made_absolute(tmp_path):
    zeros = np.zeros((2, 48), np.float32)
    record = make_record("a", 2, has_mano=np.array([0, 1], np.float32), mano_pose=zeros)
    paths = written_with(tmp_path, record, {}, ("meta.json",))
    pose = ClipShards(paths, pose_mean="relative", hands_mean=np.ones(45)).read(0).mano_pose
    assert not pose[0].any()
    np.testing.assert_array_equal(pose[1, 3:], np.ones(45))


def bad(name, frame, values):
    """A record of five frames one of whose entries is replaced."""

    def change(record):
        array = getattr(record, name).copy()
        array[frame] = values
        return replace(record, **{name: array})

    return change


BROKEN = {
    "nan": (bad("joint_img", 2, np.nan), "[2]: joint_img has values that are no finite numbers"),
    "infinity": (bad("mano_pose", 4, np.inf), "[4]: mano_pose has values that are no finite numbers"),
    "mask": (bad("has_mano", 1, 0.5), "[1]: has_mano has values other than 0 and 1"),
    "behind": (bad("joint_cam_mm", 3, -1.0), "[3]: joint_cam has depth -1 mm under joint_3d_valid"),
    "metres": (
        lambda record: replace(record, joint_cam_mm=record.joint_cam_mm / 1000),
        "[0]: joint_cam looks like metres, mm are needed: its largest depth is 0.5",
    ),
    "reprojection": (
        lambda record: bad("joint_img", 2, record.joint_img[2] + 3)(record),
        "[2]: joint_cam and joint_img disagree: joint ",
    ),
    "focal zero": (bad("focal", 1, [0, 300]), "[1]: focal is 0,300 where has_intr is 1; it must be positive"),
    "focal negative": (bad("focal", 0, [-300, 310]), "[0]: focal is -300,310 where has_intr is 1"),
    "box": (bad("hand_bbox", 2, [50, 10, 40, 60]), "[2]: hand_bbox 50,10,40,60 has no area; expected x1,y1,x2,y2"),
    "box outside": (
        bad("hand_bbox", 2, [WIDTH, 10, WIDTH + 40, 60]),
        f"[2]: hand_bbox 128,10,168,60 lies outside of the {WIDTH}x{HEIGHT} picture",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_true_is_refused_by_reader_and_writer(tmp_path, case):
    change, said = BROKEN[case]
    record = make_record("k7", 5)
    broken = change(record)
    assert any(line.startswith(f"k7{said}") for line in problems(lambda: write(tmp_path / "refused", broken)))
    arrays = {"joint_cam.npy": broken.joint_cam_mm}
    arrays |= {
        f"{name}.npy": getattr(broken, name) for name in ("joint_img", "mano_pose", "has_mano", "focal", "hand_bbox")
    }
    paths = written_with(tmp_path, record, arrays)
    told = problems(lambda: ClipShards(paths).read(0))
    assert any(line.startswith(f"{paths[0]}: k7{said}") for line in told), told
    first = int(said[1])
    told = problems(lambda: ClipShards(paths).read(0, [first]))
    assert any(line.startswith(f"{paths[0]}: k7{said}") for line in told), told  # frames keep their numbers


def test_what_is_masked_may_be_anything_finite(tmp_path):
    record = make_record("a", 2)
    record = bad("joint_cam_mm", 1, -5.0)(record)
    record = bad("joint_3d_valid", 1, 0.0)(record)
    record = bad("has_intr", 0, 0.0)(bad("focal", 0, 0.0)(record))
    record = bad("joint_2d_valid", 1, 0.0)(bad("hand_bbox", 1, 0.0)(record))
    assert_same(ClipShards(write(tmp_path, record)).read(0), record, range(2))


MEMBERS = {
    "no frames": ({}, ("frame_0000.png", "frame_0001.png"), "a: has no frames; expected frame_0000.webp"),
    "gap": ({}, ("frame_0000.png",), "a: 1 frames, but frame_0000 is missing or there twice"),
    "formats": ({"frame_0002.webp": b"x"}, (), "a: frames in several formats (png, webp); one is needed"),
    "count": ({"focal.npy": np.ones((3, 2))}, (), "a.focal.npy: has 3 entries, but there are 2 frames"),
    "notes count": ({"imgs_path.json": ["a"]}, (), "a.imgs_path.json: has 1 entries, but there are 2 frames"),
    "notes": ({"source_index.json": {}}, (), "a.source_index.json: is a dict; expected a list"),
    "joints": (
        {"joint_cam.npy": np.ones((2, 16, 3))},
        (),
        "a.joint_cam.npy: is float64 [2, 16, 3]; expected float32 [T,21,3]",
    ),
    "text": ({"data_source.json": 3}, (), "a.data_source.json: is a int; expected a text"),
    "side": ({"handedness.json": "both"}, (), "a.handedness.json: is 'both'; expected right or left"),
    "no side": ({}, ("handedness.json",), "a: has no handedness.json"),
    "no box": ({}, ("hand_bbox.npy",), "a: has no hand_bbox.npy; every sample needs one"),
    "no times": ({}, ("timestamp.npy",), "a: has no timestamp.npy, which a sample of 2 frames needs"),
    "no channel": ({}, ("mano_pose.npy",), "a: has_mano is not zero, but there is no mano_pose.npy"),
    "no mask": (
        {},
        ("joint_2d_valid.npy",),
        "a: has joint_img.npy, but neither joint_2d_valid.npy nor joint_valid.npy says where it is valid",
    ),
    "intrinsics": ({"intr_type.json": "fish"}, (), "a.intr_type.json: is 'fish'; expected real, fixed_virtual"),
    "version": ({"meta.json": {"version": 2}}, (), "a.meta.json: version 2; this program reads version 1"),
    "mean": ({"meta.json": {"pose_mean": "x"}}, (), "a.meta.json: pose_mean is 'x'; expected absolute or relative"),
    "meta": ({"meta.json": [1]}, (), "a.meta.json: is a list; expected an object"),
    "damaged": ({"joint_img.npy": b"\x93NUMPY"}, (), "a.joint_img.npy: is not a whole array"),
}


@pytest.mark.parametrize("case", MEMBERS)
def test_a_damaged_sample_names_shard_key_and_member(tmp_path, case):
    changes, without, said = MEMBERS[case]
    paths = written_with(tmp_path, make_record("a", 2), changes, without)
    told = problems(lambda: ClipShards(paths).read(0))
    assert told[0].startswith(f"{paths[0]}: {said}"), told


def test_a_record_that_the_format_cannot_hold_is_not_written(tmp_path, unchecked):
    record = make_record("a", 2)
    cases = [
        (replace(record, frames=[]), "a: has no frames"),
        (replace(record, focal=record.focal[:1]), "a: focal has shape (1, 2); expected (2, 2)"),
        (replace(record, imgs_path=["x"]), "a: imgs_path has 1 entries, but there are 2 frames"),
        (replace(record, frame_format="webp"), "a[0]: is PNG; frame_format says webp"),
        (replace(record, frames=[record.frames[0], b"none"]), "a[1]: is no picture; frame_format says png"),
        (replace(record, meta={"pose_mean": "relative"}), "a: meta says pose_mean 'relative'; records hold absolute"),
    ]
    for number, (broken, said) in enumerate(cases):
        assert problems(lambda broken=broken, n=number: write(tmp_path / str(n), broken))[0].startswith(said)
    for key in ("a/b", "a.b"):
        with pytest.raises(ValueError, match="must not"):
            write(tmp_path / "keys", replace(record, key=key))
