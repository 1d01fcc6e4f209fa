"""Readers of published layouts, on miniatures of them, and regression from end to end."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from keypoint_nvs.data.benchmarks import BENCHMARKS, open_benchmark
from keypoint_nvs.data.benchmarks.records import Benchmark, PictureSet
from keypoint_nvs.evaluation.regression import regression_report
from keypoint_nvs.regression import HUMAN36M_SWAP
from posecore.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))
import benchmark_layouts as layouts

WRITERS = {
    "celeba": layouts.write_celeba,
    "celeba_wild": lambda root, rng: layouts.write_celeba(root, rng, wild=True),
    "cub": layouts.write_cub_aligned,
    "cub_all": layouts.write_cub_parts,
    "cub_001": layouts.write_cub_parts,
    "cub_002": layouts.write_cub_parts,
    "taichi": layouts.write_taichi,
    "deepfashion": layouts.write_deepfashion,
    "legacy_deepfashion": layouts.write_deepfashion,
    "human36m": layouts.write_human36m,
    "annotated": layouts.write_annotated,
}


def written(name, root):
    WRITERS[name](root, np.random.default_rng(0))
    return open_benchmark(name, root)


@pytest.mark.parametrize("name", WRITERS)
def test_every_visible_point_lies_on_its_blob(name, tmp_path):
    benchmark = written(name, tmp_path)
    for pictures in (benchmark.train, benchmark.test):
        assert len(pictures) > 0
        for index in range(len(pictures)):
            image = pictures.images([index], 256, "grey")[0]
            for xy in pictures.points_xy[index, pictures.visible[index]]:
                col, row = np.clip(np.round(xy * 256).astype(int), 0, 255)
                around = image[:, max(row - 3, 0) : row + 4, max(col - 3, 0) : col + 4]
                assert around.max() > 0.8, (pictures.sample_ids[index], xy)


def test_faces_that_are_small_in_their_picture_are_left_out_of_the_wild_ones(tmp_path):
    wild = written("celeba_wild", tmp_path)
    assert wild.train.sample_ids == ("000001.jpg",)
    assert wild.test.sample_ids == ("000004.jpg", "000002.jpg")


def test_species_are_told_by_their_folder(tmp_path):
    assert len(written("cub_all", tmp_path).train) == 3
    assert len(open_benchmark("cub_001", tmp_path).train) == 2
    assert len(open_benchmark("cub_002", tmp_path).train) == 1
    with pytest.raises(InputError, match="has no bird of species 3"):
        open_benchmark("cub_003", tmp_path)


def test_people_stand_before_black_and_only_the_six_actions_are_taken(tmp_path):
    benchmark = written("human36m", tmp_path)
    assert benchmark.permutation == HUMAN36M_SWAP
    assert len(benchmark.train) == 6
    assert benchmark.test.sample_ids == ("S11/Directions 1.54138969/000001",)
    rgba = benchmark.test.read(0)
    assert (rgba[:3] == 0).mean() > 0.5


def test_legacy_deepfashion_hands_out_twice_the_range(tmp_path):
    plain = written("deepfashion", tmp_path).test.images([0], 64, "grey")
    legacy = open_benchmark("legacy_deepfashion", tmp_path).test.images([0], 64, "grey")
    torch.testing.assert_close(legacy, 2 * plain - 1)


def test_a_pickle_is_refused_with_the_command_that_makes_the_arrays(tmp_path):
    WRITERS["taichi"](tmp_path, np.random.default_rng(0))
    arrays = tmp_path / "landmark" / "taichi_train_gt.npz"
    arrays.unlink()
    arrays.with_suffix(".pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(InputError, match=r"is a pickle, which is not read; if you trust it: python -c"):
        open_benchmark("taichi", tmp_path)


def test_csv_and_json_say_the_same(tmp_path):
    sets = []
    for as_json in (False, True):
        root = tmp_path / str(as_json)
        layouts.write_annotated(root, np.random.default_rng(0), as_json)
        sets.append(open_benchmark("annotated", root))
    for split in ("train", "test"):
        a, b = (getattr(benchmark, split) for benchmark in sets)
        assert a.sample_ids == b.sample_ids
        np.testing.assert_array_equal(a.points_xy, b.points_xy)
        np.testing.assert_array_equal(a.visible, b.visible)


def test_own_points_are_pixels_with_centres_at_integers(tmp_path):
    layouts.write(tmp_path / "a.png", np.zeros((10, 20, 3), np.uint8))
    layouts.text(tmp_path / "annotations.csv", "file,split,x_0,y_0,v_0", "a.png,train,0,0,1", "a.png,test,19,9,1")
    benchmark = open_benchmark("annotated", tmp_path)
    np.testing.assert_allclose(benchmark.train.points_xy, [[[0.025, 0.05]]])
    np.testing.assert_allclose(benchmark.test.points_xy, [[[0.975, 0.95]]])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png,train,1,2", "line 3: has 2 numbers, expected 3"),
        ("a.png,train,1,two,1", "line 3: '1 two 1' has something that is no number"),
        ("a.png,val,1,2,1", "line 3: split is 'val'; expected train or test"),
        ("a.png,train,1,2,3", "line 3: visibility .* expected 0 or 1"),
        ("a.png,train,25,2,1", "line 3: point 0 is visible at .25.0, 2.0., outside a.png"),
        ("b.png,train,1,2,1", "b.png: no such picture"),
        ("a.png,train,nan,2,1", "a.png: point 0 is visible but no number"),
    ],
)
def test_a_wrong_line_of_the_own_table_is_named(line, message, tmp_path):
    layouts.write(tmp_path / "a.png", np.zeros((10, 20, 3), np.uint8))
    layouts.text(tmp_path / "annotations.csv", "file,split,x_0,y_0,v_0", "a.png,test,1,1,1", line)
    with pytest.raises(InputError, match=message):
        open_benchmark("annotated", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"expected .*pictures"),
        ('{"pictures": [{"file": "a.png"}]}', r"pictures\[0\]: KeyError\('points'\)"),
        ('{"pictures": [{"file": "a.png", "split": "train", "points": [[1, 2]], "vis": [1]}]}', "vis: no such key"),
        ('{"pictures": [{"file": "a.png", "split": "train", "points": [[1, 2]], "visible": []}]}', "0 values of"),
    ],
)
def test_a_wrong_entry_of_the_own_json_is_named(content, message, tmp_path):
    layouts.text(tmp_path / "annotations.json", content)
    with pytest.raises(InputError, match=message):
        open_benchmark("annotated", tmp_path)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_an_empty_folder_is_told_and_so_is_none(name, tmp_path):
    with pytest.raises(InputError):
        open_benchmark(name, tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        open_benchmark(name, tmp_path / "nowhere")


def test_damaged_files_are_named(tmp_path):
    WRITERS["deepfashion"](tmp_path, np.random.default_rng(0))
    lists = json.loads((tmp_path / "data_test.json").read_text())
    layouts.text(tmp_path / "data_test.json", json.dumps(lists[1:]))
    with pytest.raises(InputError, match=r"data_test\.csv has 3 pictures, data_test\.json 2"):
        open_benchmark("deepfashion", tmp_path)
    layouts.text(tmp_path / "cub.h5", "not HDF5")
    with pytest.raises(InputError, match=r"cub.h5: cannot be read as HDF5"):
        open_benchmark("cub", tmp_path)


def moving_dot(rng, count, side=48):
    """Pictures of a red and a green dot; the points are linear in where the dots are."""
    places = rng.integers(8, side - 8, (count, 2, 2))
    pixels = np.zeros((count, 4, side, side), np.uint8)
    pixels[:, 3] = 255
    for index, dots in enumerate(places):
        for channel, (x, y) in enumerate(dots):
            pixels[index, channel, y, x] = 255
    unit = (places + 0.5) / side
    targets = np.stack([unit.mean(1), unit[:, 0] * 0.5 + unit[:, 1] * 0.5 + 0.0, unit[:, 1]], 1)
    ids = tuple(f"dot{i}" for i in range(count))
    return PictureSet(ids, targets, np.ones(targets.shape[:2], bool), lambda i: pixels[i])


def find_dots(images):
    flat = images[:, :2].flatten(2).argmax(-1)
    side = images.shape[-1]
    return torch.stack((flat % side, flat // side), -1).float()


@pytest.mark.parametrize("protocol", ["visible", "summed_px256", "correct_share", "orientation_free_px128"])
def test_keypoints_that_determine_the_points_regress_to_them_exactly(protocol):
    rng = np.random.default_rng(0)
    permutation = (0, 1, 2) if protocol == "orientation_free_px128" else None
    benchmark = Benchmark("dots", protocol, moving_dot(rng, 40), moving_dot(rng, 25), permutation)
    report = regression_report(find_dots, benchmark, 48, batch_size=7)
    assert report.error == pytest.approx(1 if protocol == "correct_share" else 0, abs=1e-6)
    assert abs(report.mean_keypoint - report.error) > 0.05
    assert (report.num_train, report.num_test) == (40, 25)
    assert report.summary()["benchmark"] == "dots"


def test_too_few_training_pictures_for_the_map_are_refused():
    rng = np.random.default_rng(0)
    benchmark = Benchmark("dots", "visible", moving_dot(rng, 40), moving_dot(rng, 5))
    with pytest.raises(InputError, match="3 training pictures are too few for 2 keypoints; the map needs 4"):
        regression_report(find_dots, benchmark, 48, limit=3)


@pytest.mark.parametrize("name", ["celeba", "cub", "cub_all", "human36m", "annotated"])
def test_every_protocol_runs_on_its_layout(name, tmp_path):
    benchmark = written(name, tmp_path)

    def brightest(images):
        return find_dots(images)[:, :1]

    report = regression_report(brightest, benchmark, 64, batch_size=2, limit=3)
    assert np.isfinite(report.error)
    assert report.estimate_xy.shape == benchmark.test.part(range(report.num_test)).points_xy.shape
