"""Splits, mixing, and the sources that a configuration asks for."""

import json

import numpy as np
import pytest

from posecore.errors import InputError
from smil_regressor.config import SmilConfig
from smil_regressor.data.hdf5_multiview import MultiViewWriter
from smil_regressor.data.mixing import MixedPoses, open_run_data
from smil_regressor.data.splits import Subset, read_split, split_source, write_split

RATIOS = (0.6, 0.2, 0.2)


class Frames:
    """A source of which only sessions and frames matter."""

    view_slots, camera_order, resolution, world_scale, world_frame = 1, ("a",), 32, None, "world"

    def __init__(self, sessions, frames, make=None):
        self.sessions, self.frames, self.make = sessions, np.array(frames), make

    def __len__(self):
        return len(self.sessions)

    def load(self, index, rng):
        return self.labels(index)

    def labels(self, index):
        return self.make(views=1, session=self.sessions[index], frame=int(self.frames[index]))


def film(lengths, views=1, make=None):
    return Frames(
        [f"s{i}" for i, n in enumerate(lengths) for _ in range(n * views)],
        [f for n in lengths for f in range(n) for _ in range(views)],
        make,
    )


def parts(split):
    return [set(part.tolist()) for part in (split.train, split.validation, split.test)]


@pytest.mark.parametrize("name", ["N20", "N103"])
def test_a_split_by_frame_is_that_of_the_original(reference, name):
    arrays = reference("splits")
    count, seed = int(name[1:]), int(arrays[f"{name}_seed"])
    split = split_source(film([count]), (0.85, 0.05, 0.1), "frame", seed)
    np.testing.assert_array_equal(split.train, arrays[f"{name}_train"])
    np.testing.assert_array_equal(split.validation, arrays[f"{name}_val"])
    np.testing.assert_array_equal(split.test, arrays[f"{name}_test"])


@pytest.mark.parametrize("by", ["session", "block", "frame"])
def test_parts_do_not_overlap_and_views_of_a_frame_stay_together(by):
    source = film([12, 20, 9, 15, 10], views=3)
    split = split_source(source, RATIOS, by, 7)
    train, validation, test = parts(split)
    assert not train & validation
    assert not train & test
    assert not validation & test
    whole = train | validation | test
    assert whole == set(range(len(source))) or by == "block"
    for part in (train, validation, test):
        frames = {(source.sessions[i], source.frames[i]) for i in part}
        assert len(part) == 3 * len(frames)
        assert part


def test_a_split_by_session_shares_no_session():
    source = film([12, 20, 9, 15, 10])
    split = split_source(source, RATIOS, "session", 3)
    sessions = [{source.sessions[i] for i in part} for part in parts(split)]
    assert not sessions[0] & sessions[1]
    assert not sessions[0] & sessions[2]
    assert not sessions[1] & sessions[2]


def test_blocks_are_contiguous_with_a_gap_between_them():
    source = film([100, 50])
    split = split_source(source, RATIOS, "block", 0)
    for first in (0, 100):
        spans = [sorted(i for i in part if first <= i < first + (100 if first == 0 else 50)) for part in parts(split)]
        assert all(span == list(range(span[0], span[-1] + 1)) for span in spans)
        assert spans[1][0] - spans[0][-1] > 1
        assert spans[2][0] - spans[1][-1] > 1


def test_too_few_sessions_are_told_with_what_to_do():
    with pytest.raises(InputError, match=r"split by session: .*; set dataset.split_by to block or frame"):
        split_source(film([10]), RATIOS, "session", 0)


def test_a_part_of_ratio_zero_is_empty():
    split = split_source(film([10]), (1.0, 0.0, 0.0), "session", 0)
    assert (len(split.train), len(split.validation), len(split.test)) == (10, 0, 0)


def test_a_stored_split_comes_back_and_is_refused_for_other_data(tmp_path):
    source, path = film([10, 20, 5]), tmp_path / "split.json"
    split = split_source(source, RATIOS, "frame", 1)
    write_split(path, split, source, "frame", 1)
    assert json.loads(path.read_text())["split_by"] == "frame"
    assert parts(read_split(path, source)) == parts(split)
    with pytest.raises(InputError, match=r"split\.json: the split is of 35 other samples than the 35 here"):
        read_split(path, film([10, 5, 20]))


def test_a_subset_renumbers_samples(make_sample):
    subset = Subset(film([4, 4], make=make_sample), [6, 1])
    sample = subset.load(0, np.random.default_rng())
    assert (sample.session, sample.frame) == ("s1", 2)
    assert (len(subset), subset.sessions, subset.frames.tolist()) == (2, ["s1", "s0"], [2, 1])


def test_a_mixture_draws_each_source_by_its_weight(make_sample):
    mixed = MixedPoses(["a", "b"], [film([10]), film([30, 10], make=make_sample)], [3.0, 1.0])
    weights = np.array(mixed.sample_weights())
    assert weights[:10].sum() == pytest.approx(3 * weights[10:].sum())
    sample = mixed.load(12, np.random.default_rng())
    assert (sample.session, sample.frame) == ("s0", 2)
    assert mixed.sessions[0] == "a/s0"
    assert mixed.sessions[-1] == "b/s1"


@pytest.fixture
def files(tmp_path, make_sample, insect):
    def write(name, cameras, seeds):
        path = tmp_path / name
        with MultiViewWriter(path, joint_names=insect.joint_names, num_betas=insect.num_betas, max_views=len(cameras),
                             canonical_camera_order=cameras, target_resolution=32) as writer:  # fmt: skip
            for seed in seeds:
                writer.add(make_sample(views=len(cameras), joints=insect.num_joints, betas=insect.num_betas, seed=seed))
        return path

    return write("one.h5", ("left", "right", "top"), range(12)), write("two.h5", ("left", "back"), range(6))


def configure(files, mode="multiview", **changes):
    return SmilConfig.model_validate({
        "mode": mode,
        "dataset": {"data_path": files[0], "train_ratio": 0.6, "val_ratio": 0.2, "test_ratio": 0.2}
        | changes.pop("dataset", {}),
        "model": {"backbone_name": "tiny_vit", "input_resolution": 16} | changes.pop("model", {}),
    } | changes)  # fmt: skip


def test_a_configuration_opens_its_three_parts(files, insect):
    data = open_run_data(configure(files, num_views_to_use=2), insect)
    assert sum(map(len, (data.train, data.validation, data.test))) == 12
    sample = data.train.load(0, np.random.default_rng(0))
    assert sample.images.shape == (2, 16, 16, 3)
    assert data.train_weights is None


def test_a_single_view_configuration_takes_a_multi_view_file_apart(files, insect):
    config = configure(files, "singleview", dataset={"from_multiview": True, "frame_convention": "camera_centric"})
    data = open_run_data(config, insect)
    assert len(data.whole) == 36
    np.testing.assert_array_equal(data.train.labels(0).cam_from_world[0], np.diag([-1, -1, 1, 1]))


@pytest.mark.parametrize("strategy", ["per_dataset", "combined"])
def test_several_data_sets_are_mixed_with_one_camera_order(files, insect, strategy):
    datasets = [
        {"name": "one", "path": files[0], "weight": 3},
        {"name": "two", "path": files[1], "weight": 1, "available_labels": {"betas": False}},
        {"name": "off", "path": "nowhere.h5", "enabled": False},
    ]
    mixing = {"enabled": True, "datasets": datasets, "validation_split_strategy": strategy}
    data = open_run_data(configure(files, multi_dataset=mixing), insect)
    assert data.whole.camera_order == ("back", "left", "right", "top")
    of_two = np.array([session.startswith("two/") for session in data.train.sessions])
    first, second = (data.train.load(int(np.flatnonzero(of_two == flag)[0]), np.random.default_rng(0))
                     for flag in (False, True))  # fmt: skip
    assert (first.has_betas, second.has_betas) == (True, False)
    np.testing.assert_array_equal(second.camera_slots, [1, 0, -1])
    assert first.images.shape == second.images.shape
    assert len(data.train_weights) == len(data.train)
    if strategy == "per_dataset":
        assert any(session.startswith("two/") for session in data.test.sessions)
        np.testing.assert_allclose(
            data.train_weights[~of_two].sum() / data.train_weights[of_two].sum(), 3, rtol=0.5
        )  # up to the sizes of the parts


def test_rgb_only_reads_no_masks(files, insect):
    config = configure(files, model={"rgb_only": True, "backbone_name": "tiny_vit"},
                       loss_curriculum={"base_weights": {"keypoint_2d": 1.0}, "curriculum_stages": {}})  # fmt: skip
    assert not open_run_data(config, insect).train.load(0, np.random.default_rng(0)).has_mask.any()


@pytest.mark.parametrize(
    ("mode", "changes", "message"),
    [
        ("singleview", {}, r"one\.h5: a multi-view file, but mode is singleview; set dataset.from_multiview to true"),
        ("multiview", {"dataset": {"data_path": "nowhere.h5"}}, r"nowhere\.h5: no such file"),
        ("multiview", {"dataset": {"data_path": None}}, r"dataset\.data_path: missing"),
        ("multiview", {"ignored_joints": {"ignored_joint_names": ["b_x"]}}, r"no joint 'b_x' in the body model"),
        ("multiview", {"min_views_per_sample": 5}, r"no sample has 5 views; lower min_views_per_sample"),
    ],
)
def test_what_does_not_fit_is_told(files, insect, mode, changes, message):
    with pytest.raises(InputError, match=message):
        open_run_data(configure(files, mode, **changes), insect)
