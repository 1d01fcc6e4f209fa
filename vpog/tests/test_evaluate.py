"""Evaluation: files that BOP would take, numbers that are right, parts that add up to the whole."""

import json
from dataclasses import replace

import numpy as np
import pytest

from vpog.data.detections import Detection, write_detections
from vpog.data.opening import open_dataset
from vpog.data.targets import read_targets
from vpog.estimates import Estimate
from vpog.evaluate import changed, score
from vpog.layout import dataset_of_folder
from vpog.metrics.truths import visible_targets
from vpog.pose_estimator import PoseEstimator
from vpog.results_csv import read_results, write_results


@pytest.fixture(scope="module")
def evaluated(command, run, data, tmp_path_factory):
    """Summary and folder of an evaluation of the small run on `val`."""
    folder = tmp_path_factory.mktemp("evaluation")
    done = command("evaluate", "--checkpoint", run, "--data", data / "synth" / "val", "--output", folder)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), folder


@pytest.fixture(scope="module")
def dataset(data):
    return open_dataset(dataset_of_folder(data / "synth" / "val"), 64, 64)


def true_estimates(dataset):
    records = [dataset.images.read(index) for index in range(len(dataset.images))]
    return [
        Estimate(r.scene_id, r.image_id, i.obj_id, 0.9, i.cam_from_obj_mm.astype(np.float64), 0.1)
        for r in records
        for i in r.instances
    ]


def test_an_evaluation_leaves_results_tables_and_the_worst_cases(evaluated):
    told, folder = evaluated
    assert told["pictures"] == 5
    assert {"ar", "ar_vsd", "ar_mssd", "ar_mspd", "add_recall", "median_rotation_deg"} <= told["metrics"].keys()
    assert (folder / "vpog_synth-test.csv").is_file()
    assert (folder / "report.md").is_file()
    assert list((folder / "worst").glob("*.png"))
    found = read_results(folder / "vpog_synth-test.csv")
    assert len({(e.scene_id, e.image_id) for e in found}) <= 5
    assert all(e.time_s > 0 for e in found)
    assert told["unsolved"] + len(found) == told["metrics"]["targets"]


def test_the_true_poses_score_one_and_turned_ones_less(dataset, data, command, tmp_path):
    truth = true_estimates(dataset)
    models = data / "synth" / "models"
    write_results(tmp_path / "truth_synth-test.csv", truth)
    done = command(
        "score", tmp_path / "truth_synth-test.csv", "--data", data / "synth/val", "--models", models,
        "--output", tmp_path / "scores",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout)["metrics"]
    for name in ("ar", "ar_vsd", "ar_mssd", "ar_mspd", "add_recall", "answered"):
        assert metrics[name] == pytest.approx(1, abs=0.01), name
    assert metrics["median_rotation_deg"] < 0.01
    assert (tmp_path / "scores" / "report.md").is_file()
    shifted = [replace(e, cam_from_obj_mm=e.cam_from_obj_mm.copy()) for e in truth]
    for estimate in shifted:
        estimate.cam_from_obj_mm[:3, 3] += [100, 0, 60]
    worse = score(dataset, models, shifted, visible_targets(dataset.images))
    assert worse.overall["add_recall"] == 0
    assert worse.overall["ar"] < 0.5


def test_without_meshes_the_templates_points_stand_in(dataset, caplog):
    report = score(dataset, None, true_estimates(dataset), visible_targets(dataset.images))
    assert "VSD and AR are left out" in caplog.text
    assert "ar" not in report.overall
    assert report.overall["ar_mssd"] == pytest.approx(1)


def test_parts_of_an_evaluation_are_together_the_whole(evaluated, command, run, data, tmp_path):
    parts = []
    for part in range(2):
        words = ("--data", data / "synth/val", "--shard", f"{part}/2", "--output", tmp_path)
        done = command("evaluate", "--checkpoint", run, *words)
        assert done.exit_code == 0, done.output
        parts.append(json.loads(done.stdout)["results"])
    told, _ = evaluated
    done = command(
        "score", *parts, "--data", data / "synth/val", "--models", data / "synth/models", "--output", tmp_path
    )
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout)["metrics"]
    for name, value in told["metrics"].items():
        if "seconds" not in name:
            assert metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-4), name


def test_bop_scenes_targets_and_detections_are_taken(command, run, data, dataset, tmp_path):
    targets = data / "synth" / "test_targets_bop19.json"
    wanted = read_targets(targets)
    scenes = open_dataset(dataset_of_folder(data / "synth" / "test"), 64, 64)
    found = []
    for index in range(len(scenes.images)):
        record = scenes.images.read(index)
        found += [
            Detection(
                record.scene_id, record.image_id, i.obj_id, i.bbox_visib_xywh.astype(float), 0.8, 0.25, i.mask_visib
            )
            for i in record.instances
        ]
    write_detections(tmp_path / "detections.json", found)
    words = ("--data", data / "synth/test", "--targets", targets, "--output", tmp_path / "out")
    done = command("evaluate", "--checkpoint", run, *words, "--detections", tmp_path / "detections.json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["metrics"]["targets"] == sum(t.inst_count for t in wanted)
    assert all(e.time_s > 0.25 for e in read_results(tmp_path / "out" / "vpog_synth-test.csv")), (
        "the detector's time counts"
    )


def test_a_limit_and_options_change_what_they_name(command, run, data, tmp_path):
    words = ("--data", data / "synth/val", "--limit", 2, "--solver", "epro", "--refine", 1, "--method", "mine")
    done = command("evaluate", "--checkpoint", run, *words, "--output", tmp_path)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["pictures"] == 2
    assert (tmp_path / "mine_synth-test.csv").is_file()
    inference = PoseEstimator.load(run, "cpu").inference
    assert changed(inference, {"solver": "ransac", "mode": None}).solver == "ransac"
    assert changed(inference, {"solver": None}) == inference


def test_without_data_the_trainings_own_are_used_and_reports_lie_beside_the_run(command, run):
    done = command("evaluate", "--checkpoint", run, "--split", "val", "--limit", 1)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["results"].startswith(str(run / "evaluation"))
