"""`smil evaluate`: what it writes, which samples it takes, and what perfect answers score."""

import csv
import json

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="module")
def report(run, smil, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    done = smil("evaluate", "--checkpoint", run, "--split", "all", "--output", folder)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((folder / "metrics.json").read_text())
    return folder


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_report_has_the_benchmark_numbers_beside_the_best_constant_answer(report):
    told = json.loads((report / "metrics.json").read_text())
    assert told["samples"] == 16
    assert told["cameras"] == "refined from given"
    metrics = told["metrics"]
    for name in ("mpjpe_units", "pa_mpjpe_units", "root_aligned_units", "px_input", "px_native", "iou", "angle_deg",
                 "pck_native@5px", "pck_native_auc", "pck_mask@0.1", "mpjpe_p95_units", "behind_camera_percent"):  # fmt: skip
        assert np.isfinite(metrics[name]), name
    assert metrics["pa_mpjpe_units"] < metrics["mpjpe_units"]
    assert set(told["best_constant_answer"]) >= {"mpjpe_units", "pa_mpjpe_units", "px_input"}


def test_tables_and_arrays_add_up_to_the_summary(report):
    metrics = json.loads((report / "metrics.json").read_text())["metrics"]
    joints, sessions, views = (rows(report / f"by_{name}.csv") for name in ("joint", "session", "view"))
    assert (len(joints), len(sessions), len(views)) == (19, 8, 2)
    assert [row["view"] for row in views] == ["cam0", "cam1"]
    assert np.mean([float(row["mpjpe_units"]) for row in joints]) == pytest.approx(metrics["mpjpe_units"])
    by_session = np.average([float(r["mpjpe_units"]) for r in sessions], weights=[int(r["samples"]) for r in sessions])
    assert by_session == pytest.approx(metrics["mpjpe_units"])
    assert np.load(report / "errors_3d_units.npy").mean() == pytest.approx(metrics["mpjpe_units"])
    pixels = np.load(report / "errors_2d_px_native.npy")
    assert pixels[np.isfinite(pixels)].mean() == pytest.approx(metrics["px_native"])


def test_the_worst_samples_and_the_curve_are_drawn(report):
    pictures = [cv2.imread(str(path)) for path in sorted((report / "worst").glob("*.png"))]
    assert len(pictures) == 6
    assert all(picture.std() > 10 for picture in pictures)
    assert cv2.imread(str(report / "pck.png")).std() > 5


def test_the_default_is_the_held_out_split_beside_the_run(run, smil):
    done = smil("evaluate", "--checkpoint", run)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    split = json.loads((run / "split.json").read_text())
    assert (told["split"], told["samples"]) == ("test", len(split["test"]))
    assert not set(split["test"]) & set(split["train"])
    assert (run / "evaluation_test" / "metrics.json").is_file()


def test_stored_parameters_score_zero(run, smil, tmp_path):
    done = smil("evaluate", "--checkpoint", run, "--ground-truth", "--split", "all", "--output", tmp_path)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["passed"] is True
    assert told["max_px"] < 1e-2
    assert told["max_relative_3d"] < 1e-5


def test_given_cameras_change_2d_errors_and_no_3d_error(run, report, smil, tmp_path):
    done = smil("evaluate", "--checkpoint", run, "--gt-cameras", "--split", "all", "--output", tmp_path)
    given, predicted = json.loads(done.stdout), json.loads((report / "metrics.json").read_text())
    assert given["cameras"] == "given"
    assert given["metrics"]["mpjpe_units"] == pytest.approx(predicted["metrics"]["mpjpe_units"])
    assert given["metrics"]["triangulation_units"] < 1e-3 < predicted["metrics"]["triangulation_units"]


def test_all_of_another_file_can_be_measured_but_not_its_splits(run, smil, other_file, tmp_path):
    done = smil("evaluate", "--checkpoint", run, "--data", other_file, "--split", "all", "--output", tmp_path)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["samples"] == 4
    refused = smil("evaluate", "--checkpoint", run, "--data", other_file, "--output", tmp_path)
    assert refused.exit_code == 2
    assert "the split is of 16 other samples than the 4 here" in refused.stderr


def test_an_evaluation_does_not_depend_on_the_batch_size(run, report, smil, tmp_path):
    done = smil("evaluate", "--checkpoint", run, "--split", "all", "--batch-size", 3, "--output", tmp_path)
    ours, theirs = json.loads(done.stdout)["metrics"], json.loads((report / "metrics.json").read_text())["metrics"]
    assert ours == pytest.approx(theirs, rel=1e-4)
