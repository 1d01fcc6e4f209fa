"""The commands as their user types them: help, training, configurations, export to SLURM, the doctor."""

import json
import os
import subprocess
import sys

import pytest

COMMANDS = [
    ["train"], ["evaluate"], ["predict"], ["export"], ["bench"], ["submit"], ["doctor"], ["demo"],
    ["config", "show"], ["config", "schema"], ["config", "check"], ["data", "synth"], ["data", "inspect"],
    ["data", "convert", "replicant"], ["data", "convert", "sleap"], ["data", "convert", "deeplabcut"],
    ["data", "triangulate"], ["data", "refine-cameras"],
]  # fmt: skip


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=lambda c: " ".join(c) or "smil")
def test_every_command_has_help_with_its_name(command, smil):
    told = smil(*command, "--help")
    assert told.exit_code == 0
    assert "Usage: smil" in told.stdout or "Usage: root" in told.stdout
    assert command == [] or command[-1] in told.stdout


def test_help_is_quick_and_needs_no_torch():
    code = (
        "import sys, resource\n"
        "from typer.testing import CliRunner\n"
        "from smil_regressor.cli import app\n"
        "for command in ([], ['train'], ['predict'], ['data', 'synth'], ['config', 'check']):\n"
        "    assert CliRunner().invoke(app, [*command, '--help']).exit_code == 0\n"
        "print([m for m in ('torch', 'cv2', 'h5py', 'timm', 'scipy', 'warp', 'posecore.config') if m in sys.modules])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    heavy, seconds = done.stdout.splitlines()
    assert heavy == "[]"
    assert float(seconds) < 1.5, "five helps; one alone takes about 0.4 s of CPU"


def test_training_leaves_all_that_a_run_is(run):
    for name in ("config.json", "metrics.jsonl", "report.html", "split.json", "checkpoints/best/model.safetensors"):
        assert (run / name).exists(), name
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["training"]["max_steps"] == 2


@pytest.mark.parametrize("style", ["dash", "underscore"])
def test_both_spellings_of_options_set_the_same_fields(style, smil, insects_file, tmp_path):
    options = {
        "data-path": insects_file, "batch-size": 4, "num-epochs": 2, "learning-rate": 0.002, "num-views-to-use": 2,
        "checkpoint-dir": "2024", "gradient-accumulation-steps": 2, "dataset-fraction": 0.5, "resume-checkpoint": "none",
    }  # fmt: skip
    words = [w for k, v in options.items() for w in (f"--{k if style == 'dash' else k.replace('-', '_')}", v)]
    flags = [f"--{'use-mixed-precision' if style == 'dash' else 'use_mixed_precision'}", "--dry-run"]
    done = smil("train", "--config", "tiny.json", "--seed", 5, *words, *flags)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["dry_run"] is True
    assert told["run_dir"] == "runs/2024"
    assert told["train"] + told["validation"] + told["test"] == 16


def test_a_dry_run_writes_nothing(smil, insects_file, tmp_path):
    folder = tmp_path / "run"
    done = smil("train", "--config", "tiny.json", "--data-path", insects_file, "--run-dir", folder, "--dry-run")
    assert done.exit_code == 0
    assert not folder.exists()


def test_a_second_run_in_the_same_folder_is_refused_and_changes_nothing(run, smil, insects_file):
    before = {p: p.read_bytes() for p in run.iterdir() if p.is_file()}
    seed = ("--seed", "99")
    done = smil("train", "--config", "tiny.json", "--data-path", insects_file, "--run-dir", run, *seed)
    assert done.exit_code == 2
    assert "holds a run already; resume it with --resume auto" in done.stderr
    assert {p: p.read_bytes() for p in run.iterdir() if p.is_file()} == before


def test_resuming_goes_on_where_the_run_stopped(smil, insects_file, tmp_path):
    few = ["training.trackers=[]", "training.batch_size=4", "output.num_visualization_samples=1"]
    settings = [w for o in few for w in ("--set", o)]

    def train(folder, steps, *more):
        done = smil("train", "--config", "tiny.json", "--data-path", insects_file, "--run-dir", folder, *settings,
                    "--set", f"training.max_steps={steps}", *more)  # fmt: skip
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert train(tmp_path / "parts", 1)["step"] == 1
    assert train(tmp_path / "parts", 3, "--resume", "auto")["step"] == 3
    train(tmp_path / "whole", 3)
    weights = [(tmp_path / n / "checkpoints/step-00000003/model.safetensors").read_bytes() for n in ("parts", "whole")]
    assert weights[0] == weights[1]


def test_a_configuration_is_shown_with_overrides_and_checked(smil):
    shown = smil("config", "show", "--config", "tiny.json", "--set", "training.batch_size=16")
    assert json.loads(shown.stdout)["training"]["batch_size"] == 16
    checked = smil("config", "check")
    assert checked.exit_code == 0
    assert "tiny.json: ok" in checked.stdout
    assert json.loads(smil("config", "schema").stdout)["title"] == "SmilConfig"


def test_a_dry_submission_prints_the_script_that_sbatch_would_get(smil, insects_file, tmp_path, monkeypatch):
    got = tmp_path / "got.sh"
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\nfor last; do :; done\nif [ -f "$last" ]; then cat "$last"; else cat; fi > {got}\necho 4711\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    words = ["submit", "--config", "tiny.json", "--set", f"dataset.data_path={insects_file}", "--nodes", 2,
             "--gpus-per-node", 4, "--time", "12:00:00", "--partition", "gpu", "--run-dir", tmp_path / "job"]  # fmt: skip
    dry = smil(*words, "--dry-run")
    assert dry.exit_code == 0, dry.output
    for line in ("#SBATCH --nodes=2", "#SBATCH --gpus-per-node=4", "#SBATCH --partition=gpu", "--resume auto"):
        assert line in dry.stdout
    assert not got.exists()
    sent = smil(*words)
    assert sent.exit_code == 0, sent.output
    assert got.read_text().strip() == dry.stdout.strip()
    assert "4711" in sent.stdout


def test_a_submission_that_could_not_train_is_refused_before_it_waits_in_a_queue(smil, tmp_path):
    done = smil("submit", "--config", "tiny.json", "--gpus-per-node", 3, "--dry-run")
    assert done.exit_code == 2
    assert "training.batch_size is 8" in done.stderr
    assert done.stdout == ""


def test_the_doctor_tells_good_from_bad(smil, insects_file, tmp_path):
    assert smil("doctor", insects_file).exit_code == 0
    assert smil("doctor").exit_code == 0
    torn = tmp_path / "torn.h5"
    torn.write_bytes(insects_file.read_bytes()[:5000])
    done = smil("doctor", torn, "--json")
    assert done.exit_code == 1
    assert [finding["level"] for finding in json.loads(done.stdout)] == ["error"]


def test_synthetic_data_is_the_same_for_the_same_seed_and_can_be_looked_at(smil, tmp_path):
    for name in ("a.h5", "b.h5"):
        words = ("--samples", 2, "--views", 2, "--resolution", 64, "--seed", 4)
        assert smil("data", "synth", tmp_path / name, *words).exit_code == 0
    told = smil("data", "inspect", tmp_path / "a.h5", "--json", "--output", tmp_path / "pictures", "--samples", 2)
    assert told.exit_code == 0, told.output
    numbers = json.loads(told.stdout)
    assert (numbers["samples"], numbers["cameras"]) == (2, {"cam0": 2, "cam1": 2})
    again = json.loads(smil("data", "inspect", tmp_path / "b.h5", "--json").stdout)
    assert again | {"path": ""} == numbers | {"path": ""}
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2


def test_the_speed_of_a_network_is_told_beside_its_backbone(run, smil):
    rows = json.loads(smil("bench", "--checkpoint", run, "--batch-sizes", "1,2", "--device", "cpu", "--json").stdout)
    assert [row["batch"] for row in rows] == [1, 2]
    assert all(row["predict_s"] > row["backbone_s"] > 0 for row in rows)
