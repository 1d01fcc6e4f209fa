"""The labels kept beside a shard: samples are those that the shard itself gives, and follow it when it changes."""

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from handvit.config.augmentation import AugmentationConfig
from handvit.data import shards as shards_module
from handvit.data.frame_labels import labels_path
from handvit.data.frame_table import open_frame_table, table_path
from handvit.data.preparation import Preparation
from handvit.data.preprocess import PatchSettings
from handvit.data.shards import write_clip
from handvit.data.source import ClipRules, ClipSource
from posecore.data.shard_fields import encode_field
from posecore.data.shards import ShardSource, ShardWriter
from posecore.errors import InputError

sys.path.append(str(Path(__file__).parent))
from hand_clips import make_record
from test_data_source import assert_equal, problem

PREPARE = Preparation(PatchSettings(patch_size=16), AugmentationConfig(), sample_patches=True)
RULES = ClipRules(num_frames=2, stride=1, frame_step=2)
HANDS_MEAN = np.linspace(-0.5, 0.5, 45)
RECORDS = [make_record(f"s{i}", 4 + i, i, handedness="left" if i % 2 else "right") for i in range(3)]


def write(folder: Path) -> list[Path]:
    with ShardWriter(folder, max_samples=2) as writer:
        for record in RECORDS:
            write_clip(writer, record)
    return writer.paths


def rewrite(folder: Path, paths: list[Path], change) -> list[Path]:
    """Shards whose samples hold other members."""
    source = ShardSource(paths, fields=())
    with ShardWriter(folder, max_samples=2) as writer:
        for i in range(len(source)):
            names = source.members(i)
            members = change(dict(zip(names, source.read_members(i, names), strict=True)))
            writer.write(source.key(i), {name: encode_field(name, value) for name, value in members.items()})
    return writer.paths


def relative(members):
    return members | {"meta.json": {"version": 1, "pose_mean": "relative"}}


def without_meta(members):
    return {name: value for name, value in members.items() if name != "meta.json"}


def in_one_member(members):
    frames = [value for name, value in sorted(members.items()) if name.startswith("frame_")]
    kept = {name: value for name, value in members.items() if not name.startswith("frame_")}
    return without_meta(kept) | {"img_bytes.pickle": pickle.dumps(frames)}


SHARDS = {"as written": dict, "relative": relative, "no meta": without_meta, "pictures in one member": in_one_member}


@pytest.mark.parametrize("pose_mean", ["absolute", "relative"])
@pytest.mark.parametrize("kind", SHARDS)
def test_a_sample_is_that_of_the_record_in_the_shard(kind, pose_mean, tmp_path):
    paths = rewrite(tmp_path / "changed", write(tmp_path), SHARDS[kind])
    source = ClipSource(paths, PREPARE, RULES, pose_mean=pose_mean, hands_mean=HANDS_MEAN)
    for again in (source, ClipSource(paths, PREPARE, RULES, pose_mean=pose_mean, hands_mean=HANDS_MEAN)):
        for i in range(len(source)):
            sample = again.load(i, np.random.default_rng(i))
            expected = PREPARE(source.record(i), np.random.default_rng(i))
            assert_equal(sample, type(sample)(**vars(expected) | {"key": sample.key}))
            assert sample.mano_pose.any()


def test_relative_poses_without_a_hand_model_are_told(tmp_path):
    paths = rewrite(tmp_path / "changed", write(tmp_path), relative)
    said = problem(lambda: ClipSource(paths, PREPARE, RULES).load(0, np.random.default_rng(0)))
    assert said == f"{paths[0]}: s0: its poses are relative to the mean pose; reading them needs the hand model"


def test_labels_of_the_shard_are_read_once(tmp_path, monkeypatch):
    paths = write(tmp_path)
    ClipSource(paths, PREPARE, RULES)
    for name in ("decode_array", "decode_json"):
        monkeypatch.setattr(shards_module, name, None)  # who calls it fails
    source = ClipSource(paths, PREPARE, RULES)
    assert source.load(0, np.random.default_rng(0)).joint_img.any()


def test_a_label_changed_in_place_is_noticed_by_the_time_of_the_change(tmp_path):
    path = write(tmp_path)[0]
    before = ClipSource([path], PREPARE, RULES).load(0, np.random.default_rng(0))
    content, shape = path.read_bytes(), RECORDS[0].mano_shape
    path.write_bytes(content.replace(shape.tobytes(), (shape + 1).tobytes()))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    after = ClipSource([path], PREPARE, RULES).load(0, np.random.default_rng(0))
    np.testing.assert_array_equal(after.mano_shape, before.mano_shape + 1)
    np.testing.assert_array_equal(after.mano_pose, before.mano_pose)


def test_a_picture_changed_under_an_open_source_names_shard_and_key(tmp_path):
    path = write(tmp_path)[0]
    source = ClipSource([path], PREPARE, RULES)
    content, picture = path.read_bytes(), RECORDS[0].frames[0]
    path.write_bytes(content.replace(picture, bytes([*picture[:-20], *20 * b"x"])))
    said = problem(lambda: source.load(0, np.random.default_rng(0)))
    assert said == f"{path}: s0: frame 0 does not match its checksum in meta.json: damaged; copy the shard again"
    path.write_bytes(content.replace(b"s0.frame_0000", b"s9.frame_0000"))
    said = problem(lambda: source.load(0, np.random.default_rng(0)))
    assert said == f"{path}: s0.frame_0000.png: is not where the index says; delete {path.name}.index.json"


def test_checksums_that_are_none_are_told_when_the_picture_is_read(tmp_path):
    paths = rewrite(tmp_path / "changed", write(tmp_path), lambda m: m | {"meta.json": {"pictures_crc32": [1]}})
    source = ClipSource(paths, PREPARE, RULES)
    said = problem(lambda: source.load(0, np.random.default_rng(0)))
    assert said.startswith(f"{paths[0]}: s0.meta.json: pictures_crc32 is not a list of 4 numbers")


def test_lost_labels_are_made_again_and_damaged_ones_told(tmp_path):
    path = write(tmp_path)[0]
    source = ClipSource([path], PREPARE, RULES)
    kept, made = labels_path(path), labels_path(path).read_bytes()
    kept.unlink()
    assert_equal(
        ClipSource([path], PREPARE, RULES).load(0, np.random.default_rng(0)), source.load(0, np.random.default_rng(0))
    )
    assert kept.read_bytes() == made
    other = made[:6] + bytes([9]) + made[7:]  # a version of the format that there is not
    for damaged in (made[:-1], made[:50], b"", other, labels_path(write(tmp_path / "b")[1]).name.encode()):
        kept.write_bytes(damaged)
        with pytest.raises(InputError) as caught:
            open_frame_table([path])
        assert str(caught.value) == f"{kept}: is damaged; delete it, it is made again"


def test_an_unwritable_folder_gets_no_labels_and_samples_are_the_same(tmp_path, monkeypatch):
    paths, others = write(tmp_path / "a"), write(tmp_path / "b")
    source = ClipSource(paths, PREPARE, RULES)
    monkeypatch.setattr(os, "access", lambda *args: False)  # tests may run as root, whom no mode stops
    unkept = ClipSource(others, PREPARE, RULES)
    assert not any(labels_path(path).exists() or table_path(path).exists() for path in others)
    for one in (unkept, pickle.loads(pickle.dumps(unkept)), pickle.loads(pickle.dumps(source))):
        assert_equal(one.load(3, np.random.default_rng(0)), source.load(3, np.random.default_rng(0)))


def test_other_processes_get_the_place_of_labels_and_not_their_bytes(tmp_path):
    source = ClipSource(write(tmp_path), PREPARE, RULES)
    assert len(pickle.dumps(source._labels)) < labels_path(source.clips.paths[0]).stat().st_size / 10
