"""`handvit evaluate` and `handvit score`: what they write, which frames they take, and that the numbers are right."""

import csv
import json
import shutil
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from layouts_dexycb import released_left, write_dexycb
from layouts_freihand import write_freihand
from layouts_hand import random_hand
from layouts_ho3d import write_ho3d

from handvit.data.converters.dexycb import convert_dexycb
from handvit.data.converters.freihand import convert_freihand
from handvit.data.converters.ho3d import convert_ho3d
from handvit.submission import read_dexycb, read_freihand, read_ho3d


@pytest.fixture(scope="module")
def report(stage1, command, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    done = command("evaluate", "--checkpoint", stage1, "--output", folder, "--batch-size", 6)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((folder / "metrics.json").read_text())
    return folder


def told(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_numbers_are_those_that_the_stored_predictions_give_by_hand(report):
    metrics = told(report)["metrics"]
    with h5py.File(report / "predictions.h5") as file:
        found, true = (file[f"samples/{name}"][:].astype(np.float64) for name in ("joint_cam_mm", "true_joint_cam_mm"))
        meshes, true_meshes = (
            file[f"samples/{name}"][:].astype(np.float64) for name in ("vertices_mm", "true_vertices_mm")
        )
        assert file["samples/joint_3d_valid"][:].all()
    assert len(found) == told(report)["frames"] == 36
    assert metrics["mpjpe_mm"] == pytest.approx(np.linalg.norm(found - true, axis=-1).mean(), rel=1e-6)
    relative = (found - found[:, :1]) - (true - true[:, :1])
    assert metrics["mpjpe_rel_mm"] == pytest.approx(np.linalg.norm(relative, axis=-1).mean(), rel=1e-6)
    assert metrics["rte_mm"] == pytest.approx(np.linalg.norm(found[:, 0] - true[:, 0], axis=-1).mean(), rel=1e-6)
    assert metrics["depth_mm"] == pytest.approx((found[:, 0, 2] - true[:, 0, 2]).mean(), rel=1e-6)
    assert metrics["mpvpe_mm"] == pytest.approx(np.linalg.norm(meshes - true_meshes, axis=-1).mean(), rel=1e-6)
    aligned = [_after_similarity(p, t) for p, t in zip(found, true, strict=True)]
    assert metrics["pa_mpjpe_mm"] == pytest.approx(np.linalg.norm(aligned - true, axis=-1).mean(), rel=1e-6)
    assert metrics["pa_mpjpe_mm"] < metrics["mpjpe_rel_mm"] < metrics["mpjpe_mm"]


def _after_similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Umeyama (1991), of one hand."""
    a, b = points - points.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    return (s * sign).sum() / (a**2).sum() * a @ (u * sign @ vt).T + target.mean(0)


def test_tables_pictures_and_the_best_constant_answer_lie_beside_the_summary(report):
    summary = told(report)
    groups = {(row["group"], row["value"]): row for row in rows(report / "breakdown.csv")}
    sides = [groups["side", side] for side in ("right", "left")]
    assert sum(int(row["samples"]) for row in sides) == 36
    weighted = np.average([float(r["mpjpe_mm"]) for r in sides], weights=[int(r["samples"]) for r in sides])
    assert weighted == pytest.approx(summary["metrics"]["mpjpe_mm"])
    joints = rows(report / "by_joint.csv")
    assert len(joints) == 21
    assert np.mean([float(row["mpjpe_mm"]) for row in joints]) == pytest.approx(summary["metrics"]["mpjpe_mm"])
    assert summary["hand"] == "stand-in"
    assert summary["best_constant_hand"]["pa_mpjpe_mm"] > 0
    assert [cv2.imread(str(report / "worst" / f"{name}.png")).std() > 10 for name in ("pa", "root")] == [True, True]


def test_an_evaluation_in_parts_is_the_evaluation(stage1, report, command, tmp_path):
    for part in ("0/2", "1/2"):
        done = command("evaluate", "--checkpoint", stage1, "--shard", part, "--output", tmp_path, "--batch-size", 6)
        assert done.exit_code == 0, done.output
    files = sorted(tmp_path.glob("predictions-*.h5"))
    assert len(files) == 2
    assert not (tmp_path / "metrics.json").exists()
    words = [word for file in files for word in ("--predictions", file)]
    done = command("evaluate", *words, "--output", tmp_path / "whole")
    assert done.exit_code == 0, done.output
    assert told(tmp_path / "whole")["metrics"] == pytest.approx(told(report)["metrics"], rel=1e-6)
    twice = command("evaluate", "--predictions", files[0], "--predictions", files[0], "--output", tmp_path / "whole")
    assert twice.exit_code == 2
    assert "frames are in" in twice.stderr


def test_predictions_can_be_measured_again_without_the_network(report, command, tmp_path):
    done = command("evaluate", "--predictions", report / "predictions.h5", "--output", tmp_path)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["metrics"] == pytest.approx(told(report)["metrics"], rel=1e-9)


def test_a_score_with_the_true_hand_size_says_so(stage1, report, command, tmp_path):
    done = command("evaluate", "--checkpoint", stage1, "--oracle-scale", "--output", tmp_path)
    oracle = json.loads(done.stdout)
    assert oracle["hand_size"] == "true (oracle)"
    assert told(report)["hand_size"] == "predicted"
    assert oracle["metrics"]["mpjpe_rel_mm"] == pytest.approx(told(report)["metrics"]["mpjpe_rel_mm"], rel=1e-6)
    assert oracle["metrics"]["rte_mm"] != pytest.approx(told(report)["metrics"]["rte_mm"], rel=1e-3)


def test_other_fingertips_move_the_tips_and_neither_root_nor_mesh(stage1, report, command, tmp_path):
    done = command("evaluate", "--checkpoint", stage1, "--joints", "ho3d", "--output", tmp_path)
    assert json.loads(done.stdout)["joints"] == "ho3d"
    with h5py.File(report / "predictions.h5") as ours, h5py.File(tmp_path / "predictions.h5") as theirs:
        np.testing.assert_allclose(theirs["samples/vertices_mm"], ours["samples/vertices_mm"], atol=1e-3)
        moved = np.linalg.norm(theirs["samples/joint_cam_mm"][:] - ours["samples/joint_cam_mm"][:], axis=-1).max(0)
        vertices = theirs["samples/vertices_mm"][:]
        tips = theirs["samples/joint_cam_mm"][:, [4, 8, 12, 16, 20]]
    assert [joint for joint in range(21) if moved[joint] > 1e-2] == [8, 12, 16, 20]
    np.testing.assert_allclose(tips, vertices[:, [744, 333, 444, 555, 672]], atol=1e-2)


def test_the_default_report_lies_in_the_run_folder(stage1, command):
    assert command("evaluate", "--checkpoint", stage1, "--split", "val").exit_code == 0
    assert (stage1 / "evaluation_val" / "metrics.json").is_file()


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """Raw folders and shards of the miniature benchmarks."""
    made = {}
    for name in ("freihand", "ho3d", "dexycb"):
        folder = tmp_path_factory.mktemp(name)
        raw, shards = folder / "raw", folder / "shards"
        raw.mkdir()
        if name == "freihand":
            write_freihand(raw, "evaluation")
            convert_freihand(raw, shards, split="evaluation", right=random_hand())
        elif name == "ho3d":
            write_ho3d(raw)
            convert_ho3d(raw, shards, split="evaluation", right=random_hand())
        else:
            write_dexycb(raw)
            convert_dexycb(raw, shards, split="all", right=random_hand(), left=released_left())
        made[name] = (raw, shards)
    return made


def test_freihand_is_submitted_in_the_order_of_its_pictures_and_scored(stage1, benchmarks, command, tmp_path):
    raw, shards = benchmarks["freihand"]
    (tmp_path / "order.txt").write_text("00000001\n00000000\n")
    words = ("evaluate", "--checkpoint", stage1, "--data", shards, "--submission", "freihand", "--output", tmp_path)
    done = command(*words, "--order", tmp_path / "order.txt")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["joints"], summary["frames"]) == ("freihand", 2)
    found = read_freihand(Path(summary["submission"]), 2)
    with h5py.File(tmp_path / "predictions.h5") as file:
        images = [text.decode() for text in file["samples/image"][:]]
        order = [images.index(f"FreiHAND/evaluation/rgb/{number:08d}.jpg") for number in (1, 0)]
        np.testing.assert_allclose(found.joints_mm, file["samples/joint_cam_mm"][:][order], atol=1e-3)
    truth = tmp_path / "truth"
    truth.mkdir()
    for name in ("xyz", "verts"):
        stored = json.loads((raw / f"evaluation_{name}.json").read_text())
        (truth / f"evaluation_{name}.json").write_text(json.dumps(stored[::-1]))
    scored = command("score", tmp_path / "pred.json", "--benchmark", "freihand", "--truth", truth)
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["xyz_mean_mm"] == pytest.approx(summary["metrics"]["mpjpe_mm"], rel=1e-4)
    whole = command(*words)
    assert whole.exit_code == 2
    assert "3958 of 3960 samples were not predicted, the first is 00000002" in whole.stderr


def test_ho3d_is_submitted_in_the_order_of_its_list_also_without_public_labels(stage1, benchmarks, command, tmp_path):
    raw, _ = benchmarks["ho3d"]
    secret = tmp_path / "raw"
    shutil.copytree(raw, secret)
    (secret / "evaluation_xyz.json").unlink()
    convert_ho3d(secret, tmp_path / "shards", split="evaluation", right=random_hand())
    words = ("evaluate", "--checkpoint", stage1, "--data", tmp_path / "shards", "--submission", "ho3d")
    done = command(*words, "--order", raw / "evaluation.txt", "--output", tmp_path)
    assert done.exit_code == 0, done.output
    found = read_ho3d(tmp_path / "pred.zip", 2)
    with h5py.File(tmp_path / "predictions.h5") as file:
        images = [Path(text.decode()).stem for text in file["samples/image"][:]]
        order = [images.index(name) for name in ("0001", "0000")]
        np.testing.assert_allclose(found.joints_mm, file["samples/joint_cam_mm"][:][order], atol=1e-3)
        np.testing.assert_allclose(found.vertices_mm, file["samples/vertices_mm"][:][order], atol=1e-3)
    truth = tmp_path / "truth"
    truth.mkdir()
    shutil.copy(raw / "evaluation_xyz.json", truth)
    (truth / "evaluation_verts.json").write_text(json.dumps((found.vertices_mm / 1000 * [1, -1, -1]).tolist()))
    scored = command("score", tmp_path / "pred.zip", "--benchmark", "ho3d", "--truth", truth)
    assert scored.exit_code == 0, scored.output
    numbers = json.loads(scored.stdout)
    assert numbers["mesh_mean_mm"] == pytest.approx(0, abs=1e-3)
    assert numbers["xyz_al_mean_mm"] < numbers["xyz_mean_mm"]
    without = command(*words, "--output", tmp_path / "none")
    assert without.exit_code == 2
    assert "--order: HO3D's evaluation.txt is needed" in without.stderr


def test_dexycb_is_submitted_by_the_numbers_of_its_split_and_scored(stage1, benchmarks, command, tmp_path):
    words = ("--data", benchmarks["dexycb"][1], "--submission", "dexycb", "--output", tmp_path)
    done = command("evaluate", "--checkpoint", stage1, *words)
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["joints"], summary["frames"]) == ("dexycb", 12)
    ids, found = read_dexycb(tmp_path / "dexycb.txt")
    with h5py.File(tmp_path / "predictions.h5") as file:
        numbers = [json.loads(text)["id"] for text in file["samples/source_index"][:]]
        joints, is_left = file["samples/joint_cam_mm"][:], file["samples/is_left"][:]
        meshes = file["samples/vertices_mm"][:]
    assert sorted(numbers) == ids.tolist()
    np.testing.assert_allclose(found.joints_mm, joints[np.argsort(numbers)], atol=1e-3)
    for side, tip in ((False, 444), (True, 445)):
        np.testing.assert_allclose(joints[is_left == side][:, 12], meshes[is_left == side][:, tip], atol=1e-2)
    scored = command(
        "score", tmp_path / "dexycb.txt", "--benchmark", "dexycb", "--truth", tmp_path / "dexycb_truth.txt"
    )
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["absolute_mean_mm"] == pytest.approx(summary["metrics"]["mpjpe_mm"], rel=1e-4)
