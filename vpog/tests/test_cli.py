"""The commands as their user types them: help, training, configurations, SLURM jobs, data, export."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from safetensors import safe_open

COMMANDS = [
    ["train"], ["evaluate"], ["score"], ["onboard"], ["predict"], ["export"], ["submit"], ["doctor"], ["demo"],
    ["config", "show"], ["config", "schema"], ["config", "check"], ["data", "synth"], ["data", "templates"],
    ["data", "describe"], ["data", "index"], ["data", "inspect"], ["data", "convert", "bop"], ["data", "convert", "megapose"],
]  # fmt: skip


@pytest.mark.parametrize("words", [[], *COMMANDS], ids=lambda c: " ".join(c) or "vpog")
def test_every_command_has_help_with_its_name(words, command):
    told = command(*words, "--help")
    assert told.exit_code == 0
    assert "Usage: vpog" in told.stdout or "Usage: root" in told.stdout
    assert words == [] or words[-1] in told.stdout


def test_the_list_above_is_all_of_them():
    from typer.main import get_command

    from vpog.cli import app

    def leaves(group, path):
        for name, sub in group.commands.items():
            yield from leaves(sub, [*path, name]) if hasattr(sub, "commands") else [[*path, name]]

    assert sorted(leaves(get_command(app), [])) == sorted(COMMANDS)


def test_help_is_quick_and_needs_no_torch():
    code = (
        "import sys, resource\n"
        "from typer.testing import CliRunner\n"
        "from vpog.cli import app\n"
        "for command in ([], ['train'], ['predict'], ['data', 'synth'], ['config', 'check']):\n"
        "    assert CliRunner().invoke(app, [*command, '--help']).exit_code == 0\n"
        "heavy = ('torch', 'cv2', 'timm', 'trimesh', 'scipy', 'warp', 'posecore.config', 'vpog.config')\n"
        "print([m for m in heavy if m in sys.modules])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    heavy, seconds = done.stdout.splitlines()
    assert heavy == "[]"
    assert float(seconds) < 1.5, "five helps; one alone takes about 0.4 s of CPU"


def test_options_set_the_fields_that_they_name(command, data, tmp_path):
    words = ("--data", data / "synth/train", "--validation", data / "synth/val", "--steps", 12, "--precision", "bf16")
    done = command("train", "--config", "tiny.json", *words, "--devices", 1, "--run-dir", tmp_path / "run", "--dry-run")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["dry_run"]
    assert told["train"] >= 12
    assert told["validation"] >= 5
    assert told["pictures_of_a_sample"] == [5, 3, 112, 112]
    assert not (tmp_path / "run").exists()


def test_the_default_folder_is_named_after_the_configuration(command, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = json.loads(command("train", "--config", "tiny.json", "--data", data / "synth/train", "--dry-run").stdout)
    assert told["run_dir"] == "runs/tiny"


def test_a_second_run_in_the_same_folder_is_refused_and_changes_nothing(run, command, data):
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    done = command("train", "--config", "tiny.json", "--data", data / "synth/train", "--run-dir", run)
    assert done.exit_code == 2
    assert "holds a run already; resume it with --resume auto" in done.stderr
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_configuration_is_shown_with_overrides_and_checked(command, tmp_path):
    shown = command("config", "show", "--config", "tiny.json", "--set", "train.batch_size=16")
    assert json.loads(shown.stdout)["train"]["batch_size"] == 16
    (tmp_path / "mine.json").write_text(json.dumps({"extends": "tiny.json", "train": {"lr": 1e-3}}))
    assert command("config", "check", tmp_path / "mine.json").exit_code in (0, 2)
    (tmp_path / "mine.json").write_text(json.dumps({"train": {"lr": 1e-3}}))
    assert command("config", "check", tmp_path / "mine.json").exit_code == 0
    (tmp_path / "mine.json").write_text(json.dumps({"train": {"rate": 1e-3}}))
    refused = command("config", "check", tmp_path / "mine.json")
    assert refused.exit_code == 2
    assert "mine.json: train.rate: no such field" in refused.stderr
    assert json.loads(command("config", "schema").stdout)["title"] == "VpogConfig"


def test_a_dry_submission_prints_the_script_that_sbatch_would_get(command, data, tmp_path, monkeypatch):
    got = tmp_path / "got.sh"
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\nfor last; do :; done\nif [ -f "$last" ]; then cat "$last"; else cat; fi > {got}\necho 4711\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    words = ["submit", "--config", "tiny.json", "--data", data / "synth/train", "--nodes", 2, "--gpus-per-node", 4,
             "--time", "12:00:00", "--partition", "gpu", "--run-dir", tmp_path / "job"]  # fmt: skip
    dry = command(*words, "--dry-run")
    assert dry.exit_code == 0, dry.output
    for line in ("#SBATCH --nodes=2", "#SBATCH --gpus-per-node=4", "#SBATCH --partition=gpu", "--resume auto", "srun"):
        assert line in dry.stdout
    assert str(data / "synth/train") in dry.stdout
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


def test_data_are_made_described_and_drawn(command, tmp_path):
    words = ("--objects", 1, "--images", 2, "--size", "64x80", "--level", 0, "--easy", "--split", "train")
    done = command("data", "synth", tmp_path, *words)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "synth" / "train"
    told = command("data", "inspect", folder, "--json", "--pictures", tmp_path / "pictures", "--count", 2, "--size", 64)
    assert told.exit_code == 0, told.output
    facts = json.loads(told.stdout)
    assert (facts["pictures"], facts["objects"], facts["templates_of_an_object"]) == (2, 1, 42)
    assert len(facts["drawn"]) >= 4
    assert {path.stem.partition("_")[2] for path in (tmp_path / "pictures").glob("*.png")} >= {
        "group",
        "labels",
        "flow",
    }
    assert "usable" in command("data", "inspect", folder).stdout
    refused = command("data", "synth", tmp_path, "--size", "64")
    assert refused.exit_code == 2
    assert "--size 64: HEIGHTxWIDTH is needed, as 240x320" in refused.stderr


def test_templates_are_rendered_once_and_shared_out(command, data, tmp_path):
    words = ("data", "templates", data / "synth" / "models", "--output", tmp_path / "t", "--level", 0, "--shard", "2/3")
    done = command(*words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["objects"] == [{"obj_id": 3, "views": 42, "empty_views": []}]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "t").rglob("*.png")}
    assert len(files) == 84
    assert command(*words).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_bop_scenes_become_shards_that_train(command, data, settings, tmp_path):
    done = command("data", "convert", "bop", data / "synth", "test", tmp_path / "synth" / "shards")
    assert done.exit_code == 0, done.output
    inspected = [
        json.loads(command("data", "inspect", folder, "--json", "--size", 64).stdout)
        for folder in (linked(data, tmp_path), data / "synth" / "test", data / "synth" / "val")
    ]
    for other in inspected[1:]:
        assert {k: v for k, v in other.items() if k != "left_out"} == {
            k: v for k, v in inspected[0].items() if k != "left_out"
        }


def linked(data, root):
    """The converted shards beside the templates and models of the data that they came from."""
    (root / "templates").symlink_to(data / "templates")
    (root / "synth" / "models").symlink_to(data / "synth" / "models")
    return root / "synth" / "shards"


def test_an_export_is_a_network_that_other_commands_take(command, run, tmp_path, data):
    done = command("export", "--checkpoint", run, "--output", tmp_path / "export")
    assert done.exit_code == 0, done.output
    assert "model.safetensors" in json.loads(done.stdout)["files"]
    with safe_open(tmp_path / "export" / "model.safetensors", "np") as file:
        assert any(name.startswith("encoder.") for name in file.keys())  # noqa: SIM118
    words = ("--data", data / "synth/val", "--limit", 1, "--shard", "0/1", "--output", tmp_path / "report")
    done = command("evaluate", "--checkpoint", tmp_path / "export", *words)
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_the_demo_ends_with_a_page_section(command, tmp_path, monkeypatch):
    """Slow: objects are onboarded with 162 views. Its data are made smaller, everything else runs as it is."""
    import vpog.demo as module

    small = {"images": 10, "size_hw": (48, 48), "objects": 2}
    for name in ("TRAINING", "VALIDATION", "HELD_OUT"):
        changes = small | ({"template_level": 0, "images": 2} if name == "HELD_OUT" else {})
        monkeypatch.setattr(module, name, getattr(module, name).__class__(**{**vars(getattr(module, name)), **changes}))
    monkeypatch.setattr(module, "SHOWN", 2)
    done = command("demo", "--output", tmp_path / "demo", "--steps", 1)
    assert done.exit_code == 0, done.output
    section = json.loads((tmp_path / "demo" / "section.json").read_text())
    assert section["name"] == "vpog"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    refused = command("demo", "--output", tmp_path / "mine", "--steps", 1)
    assert refused.exit_code == 2
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_an_index_of_shards_stands_in_for_those_beside_them(command, data, settings, tmp_path):
    done = command("data", "index", data / "synth" / "train", "--output", tmp_path / "index.json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["pictures"] == 12
    named = {"name": "synth", "images": str(data / "synth/train"), "templates": str(data / "templates/synth"),
             "models_info": str(data / "synth/models/models_info.json")}  # fmt: skip
    told = [
        command("train", "--config", "tiny.json", "--dry-run", *(w for o in words for w in ("--set", o)))
        for more in ({}, {"object_index": str(tmp_path / "index.json")})
        for words in [settings(f"data.train={json.dumps([named | more])}")]
    ]
    assert [done.exit_code for done in told] == [0, 0], told[1].output
    assert told[0].stdout == told[1].stdout


def test_templates_of_others_are_described_once(command, data, tmp_path):
    folder = tmp_path / "templates"
    shutil.copytree(data / "templates" / "synth", folder)
    for described in [*folder.rglob("*.json")]:
        described.unlink()
    done = command("data", "describe", folder)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["objects"] == 3
    assert [*folder.rglob("*.json")]
