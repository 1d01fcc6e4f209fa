"""What `keypoint-nvs evaluate` reports: numbers beside their baselines, pictures, and what it refuses."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_nvs.data.store import MultiviewStore
from keypoint_nvs.data.store_writing import write_store
from keypoint_nvs.evaluation.views import ANSWERS


@pytest.fixture(scope="module")
def evaluated(trained, command, tmp_path_factory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("evaluated") / "out"
    done = command("evaluate", "--checkpoint", trained("joint"), "--output", folder, "--device", "cpu", "--warps", 1)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), folder


def test_what_is_told_is_what_is_written(evaluated):
    told, folder = evaluated
    written = json.loads((folder / "metrics.json").read_text())
    assert {name: told[name] for name in written} == written
    assert (told["folder"], told["samples"]) == (str(folder), 4)


def test_views_are_reported_beside_every_baseline(evaluated):
    views = evaluated[0]["views"]
    assert set(views) == set(ANSWERS) == {"ours", "other_condition", "mean_view", "best_training_object", "input_copy"}
    for scores in views.values():
        assert {"mse", "psnr_db", "ssim", "psnr_foreground_db", "ssim_foreground"} <= set(scores)
        assert 0 < scores["mse"] < 1


def test_keypoints_are_reported_beside_those_of_untrained_tokens(evaluated):
    told = evaluated[0]
    names = {"equivariance_median_px320", "token_stability", "median_px320", "share_below_5px", "counted_share",
             "regression_error_px320", "regression_mean_keypoint_px320"}  # fmt: skip
    for part in ("keypoints", "untrained_tokens"):
        assert names <= set(told[part])
        assert 0 <= told[part]["token_stability"] <= 1
    assert told["keypoints"] != told["untrained_tokens"]
    mean = [told[part]["regression_mean_keypoint_px320"] for part in ("keypoints", "untrained_tokens")]
    assert mean[0] == mean[1], "the mean keypoint does not look at tokens"


def test_pictures_show_the_first_and_the_worst(evaluated):
    folder = evaluated[1]
    pictures = {path.stem for path in folder.glob("*.png")}
    assert pictures == {"views", "views_worst", "keypoints", "keypoints_worst", "equivalents"}
    assert all(cv2.imread(str(folder / f"{name}.png")).std() > 1 for name in pictures)


def test_the_baselines_are_what_their_names_say(trained, stores):
    """Recomputed from the stored pictures alone."""
    from keypoint_nvs.evaluate import open_views
    from keypoint_nvs.evaluation.views import measure_views
    from keypoint_nvs.predictor import Predictor
    from keypoint_nvs.scaling import composite

    predictor = Predictor.load(trained("nvs"), "cpu")
    report = measure_views(predictor, open_views(predictor, None, "val"), open_views(predictor, None, "train"))

    def stored(name: str, key: str) -> np.ndarray:
        store = MultiviewStore(stores / f"{name}.h5")
        pictures = np.stack([getattr(store.read(index), key) for index in range(len(store))])
        return np.asarray(composite(pictures, "grey"), np.float64)

    truth, seen, inputs = stored("val", "target_imgs"), stored("train", "target_imgs"), stored("val", "cond_imgs")
    np.testing.assert_allclose(report.truth, truth, atol=1e-6)
    np.testing.assert_allclose(report.answers["mean_view"], np.broadcast_to(seen.mean(0), truth.shape), atol=1e-5)
    nearest = ((truth[:, None] - seen[None]) ** 2).mean((2, 3, 4, 5)).argmin(1)
    np.testing.assert_allclose(report.answers["best_training_object"], seen[nearest], atol=1e-6)
    np.testing.assert_allclose(report.answers["input_copy"], np.broadcast_to(inputs[:, None], truth.shape), atol=1e-6)
    own = predictor.sample_views(report.inputs[:1])[0].numpy()
    np.testing.assert_allclose(report.answers["ours"][0], own, atol=1e-4)
    np.testing.assert_allclose(report.answers["other_condition"][1], own, atol=1e-4)


def test_a_run_of_one_part_is_measured_on_that_part(trained, command, stores, tmp_path):
    words = ("--checkpoint", trained("nvs"), "--data", stores / "val.h5", "--limit", 2, "--output", tmp_path / "views")
    told = json.loads(command("evaluate", *words).stdout)
    assert "views" in told
    assert "keypoints" not in told
    assert told["samples"] == 2


def test_views_without_ground_truth_are_measured_without_a_regression(trained, command, stores, tmp_path):
    import dataclasses

    store = MultiviewStore(stores / "val.h5")
    bare = [dataclasses.replace(store.read(index), keypoints=None) for index in range(2)]
    write_store(tmp_path / "bare.h5", "zero123plus-v1.2", bare)
    words = ("--checkpoint", trained("keypoints"), "--data", tmp_path / "bare.h5", "--no-untrained", "--warps", 0)
    done = command("evaluate", *words, "--sampling-steps", 1, "--guidance", 1, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert "untrained_tokens" not in told
    assert "median_px320" in told["keypoints"]
    assert not any(name.startswith("regression") for name in told["keypoints"])


def test_what_cannot_be_measured_is_told(trained, command, stores, tmp_path):
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    joint = trained("joint")
    cases = [
        (("--checkpoint", trained("autoencoder")), "is an autoencoder's; evaluate a run of novel views or keypoints"),
        (("--checkpoint", joint, "--data", tmp_path / "none.h5"), "none.h5: no such file or folder; --data needs"),
        (("--checkpoint", joint, "--data", tmp_path / "pictures"), "holds single pictures; a store of views is needed"),
        (("--checkpoint", tmp_path / "no run"), "no run"),
        (("--checkpoint", joint, "--guidance", 0.5), "guidance"),
    ]  # fmt: skip
    for words, message in cases:
        done = command("evaluate", *words, "--output", tmp_path / "out")
        assert done.exit_code == 2, done.output
        assert message in done.stderr
    assert not (tmp_path / "out").exists()
