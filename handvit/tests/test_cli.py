"""The commands as their user types them: help, training, configurations, export to SLURM, scores, the doctor."""

import json
import os
import subprocess
import sys

import pytest

COMMANDS = [
    ["train"], ["evaluate"], ["score"], ["predict"], ["export"], ["submit"], ["doctor"], ["demo"],
    ["config", "show"], ["config", "schema"], ["config", "check"], ["data", "synth"], ["data", "inspect"],
    ["data", "tokens"], *(["data", "convert", name] for name in ("interhand", "dexycb", "ho3d", "hot3d", "freihand", "coco")),
    ["mano", "info"], ["mano", "convert"], ["mano", "standin"],
]  # fmt: skip


@pytest.mark.parametrize("words", [[], *COMMANDS], ids=lambda c: " ".join(c) or "handvit")
def test_every_command_has_help_with_its_name(words, command):
    told = command(*words, "--help")
    assert told.exit_code == 0
    assert "Usage: handvit" in told.stdout or "Usage: root" in told.stdout
    assert words == [] or words[-1] in told.stdout


def test_the_list_above_is_all_of_them(command):
    from typer.main import get_command

    from handvit.cli import app

    def leaves(group, path):
        for name, sub in group.commands.items():
            yield from leaves(sub, [*path, name]) if hasattr(sub, "commands") else [[*path, name]]

    assert sorted(leaves(get_command(app), [])) == sorted(COMMANDS)


def test_help_is_quick_and_needs_no_torch():
    code = (
        "import sys, resource\n"
        "from typer.testing import CliRunner\n"
        "from handvit.cli import app\n"
        "for command in ([], ['train'], ['predict'], ['data', 'synth'], ['config', 'check']):\n"
        "    assert CliRunner().invoke(app, [*command, '--help']).exit_code == 0\n"
        "heavy = ('torch', 'cv2', 'h5py', 'transformers', 'kornia', 'scipy', 'warp', 'posecore.config', 'handvit.config')\n"
        "print([m for m in heavy if m in sys.modules])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    heavy, seconds = done.stdout.splitlines()
    assert heavy == "[]"
    assert float(seconds) < 1.5, "five helps; one alone takes about 0.4 s of CPU"


@pytest.mark.parametrize("run", ["stage1", "stage2"])
def test_training_leaves_all_that_a_run_is(run, request):
    folder = request.getfixturevalue(run)
    for name in ("config.json", "metrics.jsonl", "report.html", "checkpoints/best/model.safetensors"):
        assert (folder / name).exists(), name
    config = json.loads((folder / "config.json").read_text())["config"]
    assert config["general"]["total_step"] == 2
    assert config["model"]["stage"] == int(run[-1])


def test_options_set_the_fields_that_they_name(command, pictures, videos, stage1, tmp_path):
    words = ("--data", pictures, "--validation", videos, "--steps", 12, "--precision", "bf16", "--devices", 1)
    done = command("train", "--config", "tiny.json", *words, "--run-dir", tmp_path / "run", "--dry-run")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["dry_run"], told["train"], told["validation"], told["hand"]) == (True, 12, 36, "stand-in")
    assert told["trained_parameters"] < told["parameters"]
    assert not (tmp_path / "run").exists()
    words = ("--data", videos, "--stage1", stage1, "--dry-run")
    refused = command("train", "--config", "tiny-stage2.json", *words)
    assert refused.exit_code == 2, "stage1 here is smaller than the preset"
    assert "have another shape of" in refused.stderr


def test_the_default_folder_is_named_after_the_configuration(command, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = json.loads(command("train", "--config", "tiny.json", "--data", pictures, "--dry-run").stdout)
    assert told["run_dir"] == "runs/tiny"


def test_a_second_run_in_the_same_folder_is_refused_and_changes_nothing(stage1, command, pictures):
    before = {path: path.read_bytes() for path in stage1.iterdir() if path.is_file()}
    done = command("train", "--config", "tiny.json", "--data", pictures, "--run-dir", stage1)
    assert done.exit_code == 2
    assert "holds a run already; resume it with --resume auto" in done.stderr
    assert {path: path.read_bytes() for path in stage1.iterdir() if path.is_file()} == before


def test_a_configuration_is_shown_with_overrides_and_checked(command):
    shown = command("config", "show", "--config", "tiny.json", "--set", "train.sample_per_device=16")
    assert json.loads(shown.stdout)["train"]["sample_per_device"] == 16
    checked = command("config", "check")
    assert checked.exit_code == 0
    assert "dinov2-large.json: ok" in checked.stdout
    assert json.loads(command("config", "schema").stdout)["title"] == "HandvitConfig"


def test_a_dry_submission_prints_the_script_that_sbatch_would_get(command, pictures, tmp_path, monkeypatch):
    got = tmp_path / "got.sh"
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\nfor last; do :; done\nif [ -f "$last" ]; then cat "$last"; else cat; fi > {got}\necho 4711\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    words = ["submit", "--config", "tiny.json", "--data", pictures, "--nodes", 2, "--gpus-per-node", 4,
             "--time", "12:00:00", "--partition", "gpu", "--run-dir", tmp_path / "job"]  # fmt: skip
    dry = command(*words, "--dry-run")
    assert dry.exit_code == 0, dry.output
    for line in ("#SBATCH --nodes=2", "#SBATCH --gpus-per-node=4", "#SBATCH --partition=gpu", "--resume auto"):
        assert line in dry.stdout
    assert str(pictures) in dry.stdout
    assert not got.exists()
    sent = command(*words)
    assert sent.exit_code == 0, sent.output
    assert got.read_text().strip() == dry.stdout.strip()
    assert "4711" in sent.stdout


def test_a_submission_that_could_not_train_is_refused_before_it_waits_in_a_queue(command, tmp_path):
    done = command("submit", "--config", "tiny.json", "--data", tmp_path / "nowhere", "--dry-run")
    assert done.exit_code == 2
    assert "nowhere" in done.stderr
    assert done.stdout == ""


def test_shards_can_be_looked_at_and_are_the_same_for_the_same_seed(command, tmp_path):
    for name in ("a", "b"):
        words = ("--clips", 2, "--frames", 2, "--size", "64x96", "--seed", 4)
        assert command("data", "synth", tmp_path / name, *words).exit_code == 0
    files = [(tmp_path / name / "train-000000.tar").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    told = command("data", "inspect", tmp_path / "a", "--json", "--pictures", tmp_path / "pictures", "--count", 2)
    assert told.exit_code == 0, told.output
    numbers = json.loads(told.stdout)
    assert (numbers["samples"], numbers["frames"], numbers["picture_sizes"]) == (2, 4, {"96x64 JPEG": 2})
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2


def test_the_stand_in_is_written_described_and_converted_as_mano_would_be(command, tmp_path):
    assert command("mano", "standin", tmp_path / "hand.pkl").exit_code == 0
    assert command("mano", "convert", tmp_path / "hand.pkl", tmp_path / "hand.npz").exit_code == 0
    both = [json.loads(command("mano", "info", tmp_path / f"hand.{end}", "--json").stdout) for end in ("pkl", "npz")]
    assert both[0] | {"path": ""} == both[1] | {"path": ""}
    assert (both[0]["side"], both[0]["is_standin"], both[0]["vertices"]) == ("right", True, 778)
