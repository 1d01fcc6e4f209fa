"""The commands as their user types them: help, training, configurations, SLURM jobs, what is refused."""

import json
import os
import subprocess
import sys

import cv2
import h5py
import pytest
from safetensors import safe_open

from keypoint_nvs.evaluation.numbers import or_none

COMMANDS = [
    ["train"], ["evaluate"], ["predict"], ["generate"], ["export"], ["submit"], ["doctor"], ["demo"],
    ["config", "show"], ["config", "schema"], ["config", "check"], ["data", "synth"], ["data", "inspect"],
    ["data", "convert", "skel4d"], ["data", "convert", "instantmesh"],
]  # fmt: skip


@pytest.mark.parametrize("words", [[], *COMMANDS], ids=lambda c: " ".join(c) or "keypoint-nvs")
def test_every_command_has_help_with_its_name(words, command):
    told = command(*words, "--help")
    assert told.exit_code == 0
    assert "Usage: keypoint-nvs" in told.stdout or "Usage: root" in told.stdout
    assert words == [] or words[-1] in told.stdout


def test_the_list_above_is_all_of_them():
    from typer.main import get_command

    from keypoint_nvs.cli import app

    def leaves(group, path):
        for name, sub in group.commands.items():
            yield from leaves(sub, [*path, name]) if hasattr(sub, "commands") else [[*path, name]]

    assert sorted(leaves(get_command(app), [])) == sorted(COMMANDS)


def test_help_is_quick_and_needs_no_torch():
    code = (
        "import sys, resource\n"
        "from typer.testing import CliRunner\n"
        "from keypoint_nvs.cli import app\n"
        "for command in ([], ['train'], ['predict'], ['data', 'synth'], ['config', 'check']):\n"
        "    assert CliRunner().invoke(app, [*command, '--help']).exit_code == 0\n"
        "heavy = ('torch', 'cv2', 'h5py', 'diffusers', 'transformers', 'scipy', 'posecore.config', 'keypoint_nvs.config')\n"
        "print([m for m in heavy if m in sys.modules])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    heavy, seconds = done.stdout.splitlines()
    assert heavy == "[]"
    assert float(seconds) < 1.5, "five helps; one alone takes about 0.4 s of CPU"


def test_options_set_the_fields_that_they_name(command, stores, trained, tmp_path):
    words = ("--data", stores / "train.h5", "--validation", stores / "val.h5", "--steps", 12, "--precision", "bf16")
    more = ("--weights", trained("nvs"), "--devices", 1, "--run-dir", tmp_path / "run", "--dry-run")
    done = command("train", "--config", "tiny_joint.json", *words, *more)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["dry_run"], told["stage"], told["train"], told["validation"]) == (True, "joint", 12, 4)
    assert told["pictures_of_a_sample"] == [6, 4, 32, 32]
    assert 0 < told["trained_parameters"] < told["parameters"]
    assert not (tmp_path / "run").exists()


def test_the_default_folder_is_named_after_the_configuration(command, stores, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--config", "tiny_autoencoder.json", "--data", stores / "train.h5", "--dry-run")
    told = json.loads(command("train", *words).stdout)
    assert told["run_dir"] == "runs/tiny_autoencoder"


def test_training_leaves_all_that_a_run_is(trained):
    run = trained("joint")
    for name in ("config.json", "metrics.jsonl", "report.html", "checkpoints/best/model.safetensors"):
        assert (run / name).exists(), name
    assert json.loads((run / "config.json").read_text())["config"]["train"]["steps"] == 2
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/total" in line] == [1, 2]
    last = next(line for line in reversed(lines) if "train/total" in line)
    for name in ("nvs", "localisation", "equivariance"):
        assert f"train/{name}" in last, "each term is logged raw"
        assert f"train/weighted/{name}" in last, "and weighted"


def test_a_second_run_in_the_same_folder_is_refused_and_changes_nothing(trained, command, stores):
    run = trained("nvs")
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    done = command("train", "--config", "tiny_nvs.json", "--data", stores / "train.h5", "--run-dir", run)
    assert done.exit_code == 2
    assert "holds a run already; resume it with --resume auto" in done.stderr
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_figures_of_every_stage_are_drawn(command, settings, trained, tmp_path):
    drawn = {"autoencoder": {"reconstruction"}, "joint": {"views", "keypoints", "maps"}}
    for stage, names in drawn.items():
        weights = [] if stage == "autoencoder" else [f"model.weights={trained('nvs')}"]
        changes = ("train.steps=1", "figures.enabled=true", "figures.steps=1", "figures.samples=1")
        words = [w for o in settings(stage, *changes, *weights) for w in ("--set", o)]
        done = command("train", "--config", f"tiny_{stage}.json", "--run-dir", tmp_path / stage, *words)
        assert done.exit_code == 0, done.output
        pictures = list((tmp_path / stage / "figures").rglob("*.png"))
        assert {name for name in names if any(name in picture.name for picture in pictures)} == names
        assert all(cv2.imread(str(picture)) is not None for picture in pictures)


def test_a_configuration_is_shown_with_overrides_and_checked(command, tmp_path):
    shown = command("config", "show", "--config", "tiny_nvs.json", "--set", "train.batch_size=16")
    assert json.loads(shown.stdout)["train"]["batch_size"] == 16
    assert "joint_frozen.json: ok" in command("config", "check").stdout
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps({"nvs": {}, "train": {"rate": 1e-3}}))
    refused = command("config", "check", mine)
    assert refused.exit_code == 2
    assert "train.rate: no such field" in refused.stderr
    assert json.loads(command("config", "schema").stdout)["title"] == "KeypointNvsConfig"


def test_a_dry_submission_prints_the_script_that_sbatch_would_get(command, stores, trained, tmp_path, monkeypatch):
    got = tmp_path / "got.sh"
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\nfor last; do :; done\nif [ -f "$last" ]; then cat "$last"; else cat; fi > {got}\necho 4711\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    words = ["submit", "--config", "tiny_nvs.json", "--data", stores / "train.h5", "--weights", trained("autoencoder"),
             "--nodes", 2, "--gpus-per-node", 4, "--time", "12:00:00", "--partition", "ai",
             "--run-dir", tmp_path / "job"]  # fmt: skip
    dry = command(*words, "--dry-run")
    assert dry.exit_code == 0, dry.output
    for line in ("#SBATCH --nodes=2", "#SBATCH --gpus-per-node=4", "#SBATCH --partition=ai", "--resume auto", "srun"):
        assert line in dry.stdout
    assert str(stores / "train.h5") in dry.stdout
    assert not got.exists()
    sent = command(*words)
    assert sent.exit_code == 0, sent.output
    assert got.read_text().strip() == dry.stdout.strip()
    assert "4711" in sent.stdout


def test_a_smoke_job_is_short_and_has_a_folder_of_its_own(command, stores, tmp_path):
    words = ("--data", stores / "train.h5", "--run-dir", tmp_path / "job", "--smoke", "--dry-run")
    script = command("submit", "--config", "tiny_autoencoder.json", *words).stdout
    assert "#SBATCH --time=00:20:00" in script
    assert "train.steps=20" in script
    assert str(tmp_path / "job-smoke") in script


def test_a_submission_that_could_not_train_is_refused_before_it_waits_in_a_queue(command, tmp_path):
    done = command("submit", "--config", "tiny_nvs.json", "--data", tmp_path / "nowhere", "--dry-run")
    assert done.exit_code == 2
    assert "nowhere" in done.stderr
    assert done.stdout == ""


def test_the_doctor_looks_at_a_run_a_store_and_a_configuration(command, trained, stores, tmp_path):
    (tmp_path / "right.json").write_text('{"nvs": {}}')
    for path in (trained("joint"), stores / "val.h5", tmp_path / "right.json"):
        done = command("doctor", path, "--json")
        assert done.exit_code == 0, done.output
        assert all(finding["level"] != "error" for finding in json.loads(done.stdout))
    (tmp_path / "c.json").write_text('{"nvs": {"drop": 1}}')
    assert command("doctor", tmp_path / "c.json").exit_code == 1


def test_an_export_is_a_network_that_other_commands_take(command, trained, stores, tmp_path):
    done = command("export", "--checkpoint", trained("joint"), "--output", tmp_path / "export")
    assert done.exit_code == 0, done.output
    assert "model.safetensors" in json.loads(done.stdout)["files"]
    with safe_open(tmp_path / "export" / "model.safetensors", "np") as file:
        assert "keypoints.tokens" in file.keys()  # noqa: SIM118
    words = ("--data", stores / "val.h5", "--limit", 2, "--no-untrained", "--output", tmp_path / "report")
    done = command("evaluate", "--checkpoint", tmp_path / "export", *words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["samples"] == 2


def test_numbers_that_cannot_be_measured_are_null():
    assert or_none({"a": {"b": float("nan"), "c": 1.5}, "d": 2}) == {"a": {"b": None, "c": 1.5}, "d": 2}


def test_a_store_that_generate_wrote_trains_keypoints(command, trained, settings, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), cv2.randu(cv2.UMat(40, 40, cv2.CV_8UC3), 0, 255).get())
    made = command(
        "generate", tmp_path / "photos", "--checkpoint", trained("nvs"), "--output", tmp_path / "g.h5",
        "--sampling-steps", 1, "--guidance", 1,
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["samples"] == 2
    with h5py.File(tmp_path / "g.h5") as file:
        assert file["samples/a/0/target_imgs"].shape == (6, 4, 32, 32)
    words = settings("keypoints", f"model.weights={trained('nvs')}", "train.steps=1", "data.val=[]")
    more = ("--data", tmp_path / "g.h5", "--run-dir", tmp_path / "run")
    done = command("train", "--config", "tiny_keypoints.json", *more, *(w for o in words for w in ("--set", o)))
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_the_demo_ends_with_a_page_section(command, tmp_path, monkeypatch):
    """Slow: trains three stages and measures. Its data are fewer, everything else runs as it is."""
    import dataclasses

    import keypoint_nvs.demo as module

    for name in ("TRAINING", "VALIDATION", "HELD_OUT"):
        monkeypatch.setattr(module, name, dataclasses.replace(getattr(module, name), objects=12))
    done = command("demo", "--output", tmp_path / "demo", "--effort", 0.005)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "demo" / "section.json").read_text())["name"] == "keypoint-nvs"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    refused = command("demo", "--output", tmp_path / "mine", "--effort", 0.005)
    assert refused.exit_code == 2
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
