"""Stage 2 on stage 1's tokens: the same training as on pictures, and nothing but the tokens of that very network."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from handvit.config import HandvitConfig
from handvit.data.shards import ClipShards, write_clip
from handvit.data.source import ClipSource
from handvit.data.token_files import token_path
from handvit.experiment import open_task
from handvit.loading import load_network
from handvit.make_tokens import make_tokens
from handvit.task import fit_config
from posecore.config import load_config
from posecore.data.shards import ShardWriter, find_shards
from posecore.errors import InputError
from posecore.training import fit, load_checkpoint
from posecore.training.trackers import read_metrics

sys.path.append(str(Path(__file__).parent))
from hand_clips import make_record
from random_runs import SMALL, random_run

TRAINING = (
    "general.log_step=1",
    "general.total_step=4",
    "general.warmup_step=0",
    "general.vis_step=null",
    "general.trackers=[]",
    "train.sample_per_device=3",
    "data.train.clips_per_sequence=3",
    "model.stage=2",
    "model.num_frame=3",
    "model.temporal_encoder.zero_linear=false",  # else first gradients are so small that Adam's eps decides over them
)
QUERY_ALONE = "cross_attn.layers.0.0.fn.to_qkv.weight"
"""A token that attends itself alone: its queries and keys have no gradient but rounding, which Adam makes large."""


def write_shards(folder, count=3, seed=0):
    """Both sides; a frame without a hand, whose clips are left out; two shards."""
    records = [make_record(f"s{i}", 6 + i, seed=seed + i, handedness=("left", "right")[i % 2]) for i in range(count)]
    last = records[-1]
    is_seen = np.arange(len(last)) != len(last) - 1
    hidden = {
        name: getattr(last, name) * is_seen[:, None] for name in ("hand_bbox", "joint_2d_valid", "joint_3d_valid")
    }
    records[-1] = replace(last, **hidden)
    with ShardWriter(folder, max_samples=2) as writer:
        for record in records:
            write_clip(writer, record)
    return folder


@pytest.fixture(scope="module")
def stage1(tmp_path_factory):
    return random_run(tmp_path_factory.mktemp("stage1"), *SMALL)


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path / "shards")


@pytest.fixture
def cached(shards, stage1):
    """Shards with their tokens."""
    make_tokens(stage1, [str(shards)], device="cpu", batch_size=5)
    return shards


def configuration(shards, stage1, *overrides):
    data = json.dumps([{"name": "made", "shards": str(shards)}])
    settings = (*SMALL, *TRAINING, f"data.train.datasets={data}", f"general.stage1_path={stage1}", *overrides)
    return load_config(HandvitConfig, "tiny-stage2.json", list(settings))


def trained(shards, stage1, run_dir, *overrides):
    task = open_task(configuration(shards, stage1, *overrides))
    fit(task, fit_config(task.config), run_dir)
    return [line for line in read_metrics(run_dir / "metrics.jsonl") if "train/total" in line], load_checkpoint(
        run_dir
    ).weights


def problem(call):
    with pytest.raises(InputError) as caught:
        call()
    assert len(caught.value.problems) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    "settings", [(), ("model.temporal_encoder.kind=causal", "loss.frames=all", "data.train.frame_step=2")]
)
def test_stage_2_learns_the_same_from_tokens_as_from_pictures(settings, cached, stage1, tmp_path):
    seen, weights = trained(cached, stage1, tmp_path / "pictures", *settings)
    known, same_weights = trained(cached, stage1, tmp_path / "tokens", *settings, "data.token_cache=true")
    assert len(seen) == len(known) == 4
    for line, other in zip(seen, known, strict=True):
        for name in (name for name in line if name.startswith("train/")):
            assert other[name] == pytest.approx(line[name], rel=1e-6, abs=1e-6), name
    moved = {name for name, values in load_checkpoint(stage1).weights.items() if not torch.equal(values, weights[name])}
    assert moved == set()
    for name, values in weights.items():
        rows = slice(2 * len(values) // 3, None) if name.endswith(QUERY_ALONE) else ...
        assert (same_weights[name] - values)[rows].float().norm() <= 1e-4 * values[rows].float().norm(), name


def test_no_picture_is_read_where_tokens_are(cached, stage1, monkeypatch):
    task = open_task(configuration(cached, stage1, "data.token_cache=true"))

    def refuse(*_):
        raise AssertionError("a picture was read")

    monkeypatch.setattr(ClipShards, "_pictures", refuse)
    samples = [task.data.train.load(index, np.random.default_rng(0)) for index in range(len(task.data.train))]
    batch = task.prepare(task.collate(samples))
    assert batch.tokens.shape == (len(samples), 3, 16)
    assert batch.patches is None
    assert batch.regions.numel() == 0


def test_labels_are_those_of_the_clip_with_its_pictures(cached, stage1):
    known = open_task(configuration(cached, stage1, "data.token_cache=true")).data.train
    seen = open_task(configuration(cached, stage1)).data.train
    assert len(known) == len(seen)
    for index in range(len(seen)):
        one, other = (source.load(index, np.random.default_rng(index)) for source in (known, seen))
        for name in vars(one):
            if name not in ("regions", "patch_from_region", "tokens", "augment_seed"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_a_token_is_what_stage_1_makes_of_that_frame(cached, stage1):
    loaded = load_network(stage1, None, torch.device("cpu"))
    known = open_task(configuration(cached, stage1, "data.token_cache=true")).data.train
    seen = open_task(configuration(cached, stage1))
    for index in (0, len(known) - 1):
        batch = seen.prepare(seen.collate([seen.data.train.load(index, np.random.default_rng(0))]))
        expected = loaded.network.encode(batch.network_input())[0]
        tokens = known.load(index, np.random.default_rng(0)).tokens
        torch.testing.assert_close(torch.from_numpy(tokens), expected, rtol=1e-5, atol=1e-5)
        assert expected.std(0).max() > 1e-4  # frames differ, so that rows mixed up would show


def test_frames_without_a_hand_have_no_token(cached):
    rows = [load_file(token_path(shard))["tokens"] for shard in find_shards(str(cached))]
    assert [len(part) for part in rows] == [13, 8]
    assert np.isfinite(rows[0]).all()
    assert np.isfinite(rows[1][:-1]).all()
    assert np.isnan(rows[1][-1]).all()


def test_a_second_making_keeps_what_fits_and_one_after_a_change_does_not(cached, stage1):
    first = find_shards(str(cached))[0]
    before = token_path(first).read_bytes()
    assert make_tokens(stage1, [str(cached)], device="cpu")["made"] == 0
    token_path(first).write_bytes(before[:-10])
    counts = make_tokens(stage1, [str(cached)], device="cpu", workers=1)
    assert (counts["made"], counts["kept"], counts["frames"]) == (1, 1, 13)
    make_tokens(stage1, [str(cached)], device="cpu", part=(0, 2))
    assert len(token_path(first).read_bytes()) == len(before)


def test_missing_tokens_are_told_with_the_command_that_makes_them(shards, stage1, command):
    said = problem(lambda: open_task(configuration(shards, stage1, "data.token_cache=true")))
    assert f"{find_shards(str(shards))[0]}: has no 000000.tar.tokens.safetensors (and 1 more)" in said
    words = said.split("needs it: handvit ")[1]
    done = command(*words.split(), "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["made"] == 2
    assert len(open_task(configuration(shards, stage1, "data.token_cache=true")).data.train)


def test_tokens_of_another_network_settings_or_shard_are_refused_by_name(cached, stage1, tmp_path):
    use = "data.token_cache=true"
    wider = random_run(tmp_path / "other", *SMALL, "model.handec.mlp_dim=64")
    said = problem(lambda: open_task(configuration(cached, wider, use, "model.handec.mlp_dim=64")))
    assert f"holds tokens of {load_checkpoint(stage1).folder}, whose weights are not those of" in said
    said = problem(lambda: open_task(configuration(cached, stage1, use, "train.expansion_ratio=3.5")))
    made_with = configuration(cached, stage1).train.expansion_ratio
    assert f"was made with train.expansion_ratio {made_with}; it is 3.5 here" in said
    shard = find_shards(str(cached))[0]
    kept = token_path(shard).read_bytes()
    write_shards(tmp_path / "more", seed=7)
    other = find_shards(str(tmp_path / "more"))[0]
    token_path(other).write_bytes(kept)
    said = problem(lambda: open_task(configuration(other, stage1, use)))
    assert f"was made of other contents of {other.name}" in said
    token_path(shard).write_bytes(kept[:40])
    assert "is damaged" in problem(lambda: open_task(configuration(cached, stage1, use)))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            (
                "model.stage=1",
                "model.num_frame=1",
                "general.stage1_path=null",
                "loss.acceleration=0",
                "loss.frames=last",
            ),
            "model.stage is 1",
        ),
        (("train.augmentation.enabled=true",), "train.augmentation.enabled"),
    ],
)
def test_tokens_go_with_stage_2_without_augmentation_only(change, named, tmp_path):
    said = problem(lambda: configuration(tmp_path, tmp_path, "data.token_cache=true", *change))
    assert "data.token_cache" in said
    assert named in said


def test_pictures_are_read_where_the_cache_is_not_asked_for(cached, stage1):
    source = open_task(configuration(cached, stage1)).data.train
    assert type(source.datasets[0]) is ClipSource
    assert source.load(0, np.random.default_rng(0)).tokens is None
