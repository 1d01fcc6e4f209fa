"""Clips of a run: the table beside a shard, the filter, draws that repeat, mixtures, and what inspect tells."""

import json
import os
import pickle
import sys
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from handvit.config import HandvitConfig
from handvit.config.augmentation import AugmentationConfig
from handvit.config.data import DataConfig, FilterConfig, SourceConfig, TrainSourceConfig
from handvit.data.frame_table import open_frame_table, table_path
from handvit.data.inspect import describe
from handvit.data.mixing import depth_bin, open_part, open_sources
from handvit.data.preparation import Preparation
from handvit.data.preprocess import PatchSettings
from handvit.data.sample import Batch, collate
from handvit.data.shards import write_clip
from handvit.data.source import ClipRules, ClipSource
from handvit.hand import read_hand
from posecore.data.loader import evaluation_batches, make_loader
from posecore.data.sampler import GlobalBatchSampler
from posecore.data.shards import ShardWriter
from posecore.errors import InputError

sys.path.append(str(Path(__file__).parent))
from hand_clips import HEIGHT, WIDTH, make_record

PLAIN = Preparation(PatchSettings(patch_size=16))
AUGMENTED = Preparation(PatchSettings(patch_size=16), AugmentationConfig())


def write(folder, *records, per_shard=2):
    with ShardWriter(folder, max_samples=per_shard) as writer:
        for record in records:
            write_clip(writer, record)
    return writer.paths


def records(lengths, **changes):
    return [make_record(f"s{i}", n, seed=i, **changes) for i, n in enumerate(lengths)]


def rng(seed=0):
    return np.random.default_rng(seed)


def problem(call):
    with pytest.raises(InputError) as caught:
        call()
    assert len(caught.value.problems) == 1
    return str(caught.value)


def assert_equal(one, other):
    assert type(one) is type(other)
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "regions" and isinstance(a, tuple):
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y)
        elif isinstance(a, (str, bool, int, tuple)) or a is None:
            assert a == b
        else:
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=field.name)


def test_every_clip_of_every_sequence_is_there_once_and_in_order(tmp_path):
    paths = write(tmp_path, *records([3, 5, 9]))
    source = ClipSource(paths, PLAIN, ClipRules(num_frames=3, stride=2))
    keys = [source.load(i, rng()).key for i in range(len(source))]
    starts = {"s0": [0], "s1": [0, 2], "s2": [0, 2, 4, 6]}
    shards = {"s0": "000000.tar", "s1": "000000.tar", "s2": "000001.tar"}
    assert keys == [f"{shards[key]}: {key}[{start}]" for key, group in starts.items() for start in group]
    assert source.shard_clip_counts() == [3, 4]
    record = source.record(4)
    assert [note["frame"] for note in record.source_index] == [2, 3, 4]


def test_frames_between_those_of_a_clip_are_left_out(tmp_path):
    (whole,) = records([9])
    source = ClipSource(write(tmp_path, whole), PLAIN, ClipRules(num_frames=3, frame_step=3))
    assert len(source) == 3
    np.testing.assert_array_equal(source.record(2).joint_img, whole.joint_img[[2, 5, 8]])
    np.testing.assert_array_equal(source.load(1, rng()).timestamp_ms, whole.timestamp_ms[[1, 4, 7]])


def test_only_the_frames_in_use_are_decoded(tmp_path):
    (whole,) = records([4])
    broken = [*whole.frames[:3], whole.frames[3][:60] + bytes(len(whole.frames[3]) - 60)]
    source = ClipSource(write(tmp_path, replace(whole, frames=broken)), PLAIN, ClipRules(num_frames=2, stride=2))
    source.load(0, rng())
    with pytest.raises(InputError, match=r"000000.tar: s0\[2\]"):
        source.load(1, rng())


def test_random_clips_of_a_sequence_differ_within_an_epoch_and_change_between_draws(tmp_path):
    paths = write(tmp_path, *records([12, 2]))
    source = ClipSource(paths, PLAIN, ClipRules(per_sequence=4))
    assert len(source) == 4 + 2
    epochs = [[source.load(i, rng(seed)).key for i in range(len(source))] for seed in range(20)]
    assert all(len(set(keys)) == len(keys) for keys in epochs)
    assert {key for keys in epochs for key in keys} == {
        *(f"000000.tar: s0[{i}]" for i in range(12)),
        *(f"000000.tar: s1[{i}]" for i in range(2)),
    }
    assert [source.load(i, rng(3)).key for i in range(len(source))] == epochs[3]


@pytest.mark.parametrize("workers", [0, 2])
def test_equal_seeds_give_bit_identical_batches_whoever_loads_them(tmp_path, workers):
    source = ClipSource(write(tmp_path, *records([4, 6])), AUGMENTED, ClipRules(num_frames=2, per_sequence=3))

    def batches(count):
        sampler = GlobalBatchSampler(len(source), 3, seed=5)
        loader = make_loader(source, sampler, collate, workers=count, seed=5)
        try:
            return [batch for epoch in range(2) for batch in loader.epoch(epoch)]
        finally:
            loader.close()

    first, again = batches(0), batches(workers)
    assert len(first) == 4
    for one, other in zip(first, again, strict=True):
        assert isinstance(one, Batch)
        assert_equal(one, other)
    assert not np.array_equal(first[0].joint_patch, first[2].joint_patch)  # another epoch draws anew


def test_evaluation_over_ranks_sees_each_clip_once_and_always_alike(tmp_path):
    source = ClipSource(write(tmp_path, *records([4, 3])), PLAIN, ClipRules())
    alone = [key for batch in evaluation_batches(source, 2, collate) for key in batch.key]
    shared = [
        key for rank in range(3) for batch in evaluation_batches(source, 2, collate, rank, 3) for key in batch.key
    ]
    assert alone == shared == [source.load(i, rng(9)).key for i in range(7)]


def test_parts_of_a_source_are_its_clips_cut_evenly(tmp_path):
    source = ClipSource(write(tmp_path, *records([4, 3, 6])), PLAIN, ClipRules())
    keys = [source.load(i, rng()).key for i in range(len(source))]
    parts = [source.part(rank, 5) for rank in range(5)]
    assert [part.load(i, rng()).key for part in parts for i in range(len(part))] == keys
    assert [len(part) for part in parts] == [2, 3, 2, 3, 3]
    assert "take fewer parts" in problem(lambda: source.part(0, 14))


def test_frames_that_are_not_good_enough_are_dropped_and_counted(tmp_path):
    (good,) = records([7])
    valid, box = good.joint_2d_valid.copy(), good.hand_bbox.copy()
    valid[2, :6] = 0  # 15 are left
    box[5] = [10, 10, 17.5, 60]
    paths = write(tmp_path, replace(good, joint_2d_valid=valid, hand_bbox=box))

    def starts(length, policy, **rules):
        source = ClipSource(paths, PLAIN, ClipRules(length, filter=FilterConfig(policy=policy, **rules)))
        return [int(source.load(i, rng()).key.split("[")[1][:-1]) for i in range(len(source))], source.dropped

    found, dropped = starts(1, "all")
    assert found == [0, 1, 3, 4, 6]
    assert dropped.to_dict() == {
        "frames": 7,
        "few_joints": 1,
        "small_box": 1,
        "clips": 7,
        "dropped_clips": 2,
        "short_sequences": 0,
    }
    assert starts(2, "all")[0] == [0, 3]
    assert starts(2, "last")[0] == [0, 2, 3, 5]
    assert starts(2, "any")[0] == [0, 1, 2, 3, 4, 5]
    assert starts(1, "all", min_valid_joints=15, min_box_px=7.5)[0] == list(range(7))


def test_a_frame_without_a_hand_is_in_no_clip_whatever_the_policy(tmp_path):
    (whole,) = records([4])
    valid, box = whole.joint_2d_valid.copy(), whole.hand_bbox.copy()
    valid[1], box[1] = 0, 0
    paths = write(tmp_path, replace(whole, joint_2d_valid=valid, hand_bbox=box))
    source = ClipSource(paths, PLAIN, ClipRules(2, filter=FilterConfig(policy="any", min_valid_joints=0, min_box_px=0)))
    assert [source.load(i, rng()).key for i in range(len(source))] == ["000000.tar: s0[2]"]


def test_shards_without_a_passing_clip_are_told_with_the_reasons(tmp_path):
    paths = write(tmp_path, *records([3, 2]))
    said = problem(lambda: ClipSource(paths, PLAIN, ClipRules(3, filter=FilterConfig(min_box_px=500))))
    assert said.startswith(
        f"{paths[0]}: no clip of 3 frames passes the filter (1 of 1 clips dropped; of 5 frames 0 have"
    )
    assert "5 too small a box; 1 sequences are too short" in said


def test_the_table_beside_a_shard_saves_reading_and_follows_its_shard(tmp_path):
    (path,) = write(tmp_path, *records([3, 2]))
    table = open_frame_table([path])
    assert table.num_frames.tolist() == [3, 2]
    kept = table_path(path)
    written = kept.stat().st_mtime_ns
    assert_equal(open_frame_table([path]), table)
    assert kept.stat().st_mtime_ns == written
    (tmp_path / "other").mkdir()
    (other,) = write(tmp_path / "other", *records([4]))
    os.replace(other, path)
    path.with_name(f"{path.name}.index.json").unlink()
    assert open_frame_table([path]).num_frames.tolist() == [4]
    kept.write_bytes(kept.read_bytes()[:100])
    assert problem(lambda: open_frame_table([path])) == f"{kept}: is damaged; delete it, it is made again"


def test_an_unwritable_folder_gets_no_table(tmp_path, monkeypatch):
    (path,) = write(tmp_path, *records([3]))
    monkeypatch.setattr(os, "access", lambda *args: False)  # tests may run as root, whom no mode stops
    assert open_frame_table([path]).num_frames.tolist() == [3]
    assert not table_path(path).exists()


def test_a_broken_label_is_told_before_training(tmp_path):
    good, bad = records([2, 2])
    with ShardWriter(tmp_path) as writer:
        write_clip(writer, good)
        write_clip(writer, bad)
    path = writer.paths[0]
    content = path.read_bytes()
    at = content.index(bad.joint_cam_mm.tobytes())
    path.write_bytes(content[:at] + np.float32(np.nan).tobytes() + content[at + 4 :])
    assert problem(lambda: open_frame_table([path])).startswith(
        f"{path}: s1[0]: joint_cam has values that are no finite"
    )


def encoded(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_a_grey_picture_is_three_equal_channels(tmp_path):
    grey = rng().integers(0, 255, (HEIGHT, WIDTH), np.uint8)
    source = ClipSource(write(tmp_path, make_record("s0", 1, frames=[encoded(grey)])), PLAIN, ClipRules())
    (region,) = source.load(0, rng()).regions
    assert (region == region[..., :1]).all()
    assert region.std() > 10


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.zeros((HEIGHT, WIDTH, 4), np.uint8), "has transparent pixels"),
        (np.zeros((HEIGHT, WIDTH), np.uint16), "has 16 bits a channel"),
    ],
)
def test_a_picture_that_only_decodes_with_a_loss_names_shard_and_key(tmp_path, pixels, said):
    paths = write(tmp_path, make_record("s0", 1, frames=[encoded(pixels)]))
    source = ClipSource(paths, PLAIN, ClipRules())
    told = problem(lambda: source.load(0, rng()))
    assert told.startswith(f"{paths[0]}: s0[0]")
    assert said in told


def test_a_source_goes_to_another_process_after_it_was_read(tmp_path):
    source = ClipSource(write(tmp_path, *records([3])), AUGMENTED, ClipRules())
    source.load(0, rng())
    assert_equal(pickle.loads(pickle.dumps(source)).load(1, rng()), source.load(1, rng()))


def section(kind, **values):
    return kind.from_dict(values)


def test_data_sets_are_drawn_by_size_or_by_weight(tmp_path):
    write(tmp_path / "a", *records([6]))
    write(tmp_path / "b", *records([2], data_source="HO3D_v3"))
    datasets = [{"name": name, "shards": name} for name in "ab"]
    natural = open_part(section(SourceConfig, datasets=datasets), PLAIN, 1, folders=[tmp_path], field="data.val")
    assert len(natural) == 8
    assert natural.sample_weights() is None
    assert natural.data_sources.tolist() == ["DexYCB"] * 6 + ["HO3D_v3"] * 2
    weighted = [dataset | {"weight": weight} for dataset, weight in zip(datasets, (1, 3), strict=True)]
    config = section(TrainSourceConfig, datasets=weighted, sampling="dense")
    weights = open_part(config, PLAIN, 1, folders=[tmp_path], field="data.train").sample_weights()
    assert sum(weights[:6]) == pytest.approx(1)
    assert sum(weights[6:]) == pytest.approx(3)
    parts = [natural.part(rank, 3) for rank in range(3)]
    assert [part.load(i, rng()).key for part in parts for i in range(len(part))] == [
        natural.load(i, rng()).key for i in range(8)
    ]
    assert natural.record(7).data_source == "HO3D_v3"


def test_bins_of_root_depth_have_equal_weights(tmp_path):
    deep = [make_record(f"d{i}", 1, seed=i, depth_mm=depth) for i, depth in enumerate((400, 420, 440, 1300, 800))]
    unknown = make_record("u", 1, joint_3d_valid=np.zeros((1, 21), np.float32))
    write(tmp_path, *deep, unknown)
    config = section(TrainSourceConfig, datasets=[{"name": "a", "shards": str(tmp_path)}], depth_bins=True)
    mixed = open_part(config, PLAIN, 1, field="data.train")
    np.testing.assert_allclose(mixed.sample_weights(), [1 / 3, 1 / 3, 1 / 3, 1, 1, 1])
    assert depth_bin(np.array([499.9, 500, 699, 700, 1100, np.nan])).tolist() == [0, 1, 1, 2, 4, 5]


def test_a_run_opens_its_parts_and_augments_only_what_it_trains_on(tmp_path):
    paths = write(tmp_path / "clips", *records([3]))
    dataset = {"name": "a", "shards": str(paths[0])}
    parts = {"train": {"datasets": [dataset]}, "val": {"datasets": [dataset]}}
    config = HandvitConfig.from_dict({"data": parts, "model": {"img_size": 56}})
    hand = read_hand(None)
    train, weights = open_sources(config, "train", hand)
    assert len(train) == 1
    assert weights is None
    val, _ = open_sources(config, "val", hand)
    assert len(val) == 3
    assert_equal(replace(val.load(0, rng(1)), augment_seed=0), replace(val.load(0, rng(2)), augment_seed=0))
    assert not np.array_equal(train.load(0, rng(1)).patch_bbox, train.load(0, rng(2)).patch_bbox)
    said = problem(lambda: open_sources(config, "test", hand))
    assert said == "data.test.datasets: names no shards; give a folder of .tar files"


def test_made_up_cameras_are_refused_where_roots_are_in_hand_sizes(tmp_path):
    write(tmp_path, make_record("s0", 1, intr_type="fixed_virtual"))
    parts = {"train": {"datasets": [{"name": "coco", "shards": str(tmp_path)}]}}
    config = HandvitConfig.from_dict({"data": parts, "model": {"norm_by_hand": True}})
    said = problem(lambda: open_sources(config, "train", read_hand(None)))
    assert said.startswith("data.train.datasets.coco: has intr_type fixed_virtual, which model.norm_by_hand excludes")
    plain = HandvitConfig.from_dict({"data": parts, "model": {"norm_by_hand": False}})
    assert len(open_sources(plain, "train", read_hand(None))[0]) == 1


def test_missing_shards_name_the_field_and_every_place(tmp_path):
    config = section(SourceConfig, datasets=[{"name": "a", "shards": "none"}])
    with pytest.raises(InputError) as caught:
        open_part(config, PLAIN, 1, folders=[tmp_path], field="data.val")
    assert [line.partition(":")[0] for line in caught.value.problems] == ["data.val.datasets.a.shards"] * 2
    assert str(tmp_path / "none") in caught.value.problems[1]
    paths = write(tmp_path, *records([1]))
    config = section(SourceConfig, datasets=[{"name": "a", "shards": [str(tmp_path), str(paths[0])]}])
    assert problem(lambda: open_part(config, PLAIN, 1, field="data.val")).endswith(f"{paths[0]} is named twice")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"depth_bins": True, "datasets": [{"name": "a", "shards": "x", "weight": 1}]},
            "depth_bins is true, but datasets.a",
        ),
        (
            {"datasets": [{"name": "a", "shards": "x", "weight": 1}, {"name": "b", "shards": "y"}]},
            "datasets: a has a weight and b has none",
        ),
        ({"datasets": [{"name": "a", "shards": "x"}] * 2}, "datasets: two are named 'a'"),
        ({"sampling": "dense", "clips_per_sequence": 2}, "clips_per_sequence is 2, but sampling is dense"),
        ({"stride": 0}, "stride"),
        ({"filter": {"policy": "some"}}, "filter.policy"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(values, said):
    assert said in problem(lambda: DataConfig.from_dict({"train": values}))


def test_inspect_tells_what_shards_hold(tmp_path):
    left = make_record("l", 3, seed=1, handedness="left", depth_mm=1200.0, has_mano=np.zeros(3, np.float32))
    (tmp_path / "d").mkdir()
    paths = write(tmp_path / "d", make_record("r", 5, data_source="HOT3D"), left)
    told = describe(paths, num_frames=4)
    assert json.loads(json.dumps(told)) == told
    assert (told["samples"], told["frames"], told["shards"]) == (2, 8, 1)
    assert told["frames_by_dataset"] == {"DexYCB": 3, "HOT3D": 5}
    assert told["frames_by_side"] == {"left": 3, "right": 5}
    assert told["share_of_frames"] == {"mano": 0.625, "joints_3d": 1.0, "joints_2d": 1.0, "intrinsics": 1.0}
    depths = told["frames_by_root_depth_mm"]
    assert list(depths) == ["0-500", "500-700", "700-900", "900-1100", "1100-inf", "unknown"]
    assert depths["1100-inf"] == 3
    assert sum(depths.values()) == 8
    assert told["reprojection_error_px"]["most"] < 1e-3
    assert told["picture_sizes"] == {f"{WIDTH}x{HEIGHT} PNG": 2}
    assert told["filter"]["short_sequences"] == 1
    assert told["filter"]["clips"] == 2
