"""Damaged data and impossible problems through the command and the library: clear lines, exit code 2, no traceback."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import torch

from vpog.pnp.lm import solve_lm
from vpog.pnp.ransac import ransac
from vpog.pnp.records import Correspondences, Failure
from vpog.pnp.settings import LmSettings, RansacSettings


def refused(done) -> str:
    """The one error that was told; besides it there are only lines of the log."""
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def in_json(ending, edit):
    def change(name, content):
        if not name.endswith(ending):
            return content
        value = json.loads(content)
        edit(value)
        return json.dumps(value).encode()

    return change


def without(ending):
    return lambda name, content: None if name.endswith(ending) else content


def cut(ending):
    return lambda name, content: content[: len(content) // 2] if name.endswith(ending) else content


def zero_focal(camera):
    camera["cam_K"][0] = 0.0


def no_scale(camera):
    del camera["depth_scale"]


def unknown_object(objects):
    objects[0]["obj_id"] = 44


def left_handed(objects):
    objects[0]["cam_R_m2c"] = [-value for value in objects[0]["cam_R_m2c"]]


DAMAGED = {
    "zero focal": (in_json("camera.json", zero_focal), ["shard-000000.tar", "cam_K"]),
    "no camera": (without("camera.json"), ["shard-000000.tar", "camera.json"]),
    "mirrored": (in_json(".gt.json", left_handed), ["shard-000000.tar", "cam_R_m2c"]),
    "unknown object": (in_json(".gt.json", unknown_object), ["44"]),
    "cut picture": (cut(".rgb.png"), ["shard-000000.tar", "rgb"]),
    "cut labels": (cut(".gt_info.json"), ["shard-000000.tar", "gt_info"]),
}


def rewritten(data, root, change):
    """The data set with every member of the shard of `val` changed."""
    shutil.copytree(data / "synth", root / "synth")
    (root / "templates").symlink_to(data / "templates")
    folder = root / "synth" / "val"
    shard = folder / "shard-000000.tar"
    (folder / "shard-000000.tar.index.json").unlink()
    with tarfile.open(data / "synth" / "val" / shard.name) as archive:
        members = [(m.name, archive.extractfile(m).read()) for m in archive.getmembers()]
    with tarfile.open(shard, "w") as archive:
        for name, content in members:
            changed = change(name, content)
            if changed is not None:
                info = tarfile.TarInfo(name)
                info.size = len(changed)
                archive.addfile(info, io.BytesIO(changed))
    return folder


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_in_a_shard_is_told_by_shard_and_field(case, data, command, run, tmp_path):
    change, expected = DAMAGED[case]
    folder = rewritten(data, tmp_path, change)
    words = ("--data", folder, "--shard", "0/1", "--output", tmp_path / "out")
    done = command("evaluate", "--checkpoint", run, *words)
    if case == "unknown object" and done.exit_code == 0:
        assert json.loads(done.stdout)["pictures"] <= 5, "objects without templates cannot be asked for"
        trained = command("train", "--config", "tiny.json", "--data", folder, "--dry-run")
        assert "1 are of objects without templates" in trained.stderr or trained.exit_code == 2
        return
    line = refused(done)
    for words in expected:
        assert words in line


def test_depth_without_a_scale_is_told_where_depth_is_needed(data, command, tmp_path):
    folder = rewritten(data, tmp_path, in_json("camera.json", no_scale))
    line = refused(command("train", "--config", "tiny.json", "--data", folder, "--dry-run"))
    assert "shard-000000.tar" in line
    assert "depth_scale" in line


@pytest.mark.parametrize("what", ["shard", "templates", "depth of a template", "checkpoint"])
def test_files_that_are_cut_off_are_told_by_name(what, data, command, run, tmp_path):
    folder = rewritten(data, tmp_path, lambda name, content: content)
    checkpoint, name = run, ""
    if what == "shard":
        name = "shard-000000.tar"
        (folder / name).write_bytes((folder / name).read_bytes()[:5000])
    elif what == "checkpoint":
        checkpoint = tmp_path / "run"
        shutil.copytree(run, checkpoint)
        name = "model.safetensors"
        for file in checkpoint.rglob(name):
            file.write_bytes(file.read_bytes()[:500])
    else:
        (tmp_path / "templates").unlink()
        shutil.copytree(data / "templates", tmp_path / "templates")
        home = tmp_path / "templates" / "synth"
        files = home.glob("object_poses/*.npy") if what == "templates" else home.glob("*/*_depth.png")
        for file in files:
            file.write_bytes(file.read_bytes()[:60])
        name = str(home)
    done = command(
        "evaluate", "--checkpoint", checkpoint, "--data", folder, "--shard", "0/1", "--output", tmp_path / "o"
    )
    assert name in refused(done)


def test_a_target_that_has_no_picture_or_no_templates_is_told(data, command, run, tmp_path):
    common = ("--data", data / "synth" / "test", "--output", tmp_path / "out", "--shard", "0/1")
    targets = [{"scene_id": 0, "im_id": 77, "obj_id": 1, "inst_count": 1}]
    (tmp_path / "targets.json").write_text(json.dumps(targets))
    line = refused(command("evaluate", "--checkpoint", run, *common, "--targets", tmp_path / "targets.json"))
    assert "targets name scene 0, image 77, which is not there" in line
    targets = [{"scene_id": 0, "im_id": 0, "obj_id": 1, "inst_count": -1}]
    (tmp_path / "targets.json").write_text(json.dumps(targets))
    assert "[0].inst_count" in refused(
        command("evaluate", "--checkpoint", run, *common, "--targets", tmp_path / "targets.json")
    )


WRONG_CONFIGS = {
    "no data": ({"data.train": "[]"}, "data.train: names no data set; give --data FOLDER"),
    "unknown field": ({"train.learn_rate": 1}, "train.learn_rate: no such field"),
    "window": ({"model.decoder.window": 3}, "decoder.window 3 does not divide the grid"),
    "large batch": ({"train.batch_size": 64}, "64 is more than an epoch has"),
    "group": ({"data.selection.num_positive": 60}, "selection.num_positive + num_negative asks for 61"),
    "start": ({"train.weights": "old"}, "train.weights: old does not exist (looked for"),
    "labels": (
        {"data.labels.min_visible_pixels": 300},
        "data.labels.min_visible_pixels is 300, but a patch of model.patch_size 16 has 256",
    ),
    "encoder weights": ({"model.encoder.weights": "CroCo.pth"}, "CroCo.pth"),
}


@pytest.mark.parametrize("case", WRONG_CONFIGS)
def test_a_training_that_cannot_be_is_refused_before_it_begins(case, command, settings, tmp_path):
    changes, message = WRONG_CONFIGS[case]
    words = [w for o in settings(*(f"{key}={value}" for key, value in changes.items())) for w in ("--set", o)]
    done = command("train", "--config", "tiny.json", "--run-dir", tmp_path / "run", *words)
    assert message in refused(done)
    assert not (tmp_path / "run" / "checkpoints").exists()


def pairs(points, weights=1.0):
    points = torch.tensor(np.asarray(points), dtype=torch.float64)[None]
    K = torch.tensor([[100.0, 0, 50], [0, 100, 50], [0, 0, 1]], dtype=torch.float64)[None]
    seen = (points + torch.tensor([0.0, 0, 4])) @ K.mT
    pixels = seen[..., :2] / seen[..., 2:]
    return Correspondences(points, pixels, torch.full_like(pixels, weights), K)


rng = np.random.default_rng(0)
DEGENERATE = {
    "too few": (pairs(rng.normal(size=(4, 3))), Failure.TOO_FEW_PAIRS),
    "no weight": (pairs(rng.normal(size=(20, 3)), 0.0), Failure.TOO_FEW_PAIRS),
    "a line": (pairs(np.linspace(-1, 1, 20)[:, None] * [[0.3, 0.5, 0.2]]), Failure.DEGENERATE),
    "one point": (pairs(np.zeros((20, 3))), Failure.DEGENERATE),
    "not finite": (pairs(np.where(np.eye(20, 3) > 0, np.nan, 0.3)), Failure.NOT_FINITE),
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_pairs_are_a_typed_failure_and_never_a_pose(case):
    given, failure = DEGENERATE[case]
    start = torch.tensor([[0, 0, 4.0, 1, 0, 0, 0]], dtype=torch.float64)
    for poses in (solve_lm(given, start, LmSettings()), ransac(given, RansacSettings(), LmSettings()).poses):
        assert Failure(int(poses.failure)) == failure
        assert poses.pose.isnan().all()
        assert poses.reasons() == [failure.reason]
