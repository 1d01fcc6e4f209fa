"""Clips come back from shards as they were written; what is wrong in them names shard, key and member."""

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np

from handvit.data.records import ClipRecord
from handvit.data.shards import ClipShards, write_clip
from posecore.data.shards import ShardWriter

sys.path.append(str(Path(__file__).parent))
from hand_clips import make_record


def write(folder, *records):
    with ShardWriter(folder) as writer:
        for record in records:
            write_clip(writer, record)
    return writer.paths


def assert_same(read, written, rows):
    for field in fields(ClipRecord):
        found, expected = getattr(read, field.name), getattr(written, field.name)
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(found, expected[rows])
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
