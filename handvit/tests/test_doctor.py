"""The doctor says what a file is, what is wrong with it, and what to do; wrong input never raises."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from hand_clips import make_record

from handvit.config import HandvitConfig
from handvit.data.shards import write_clip
from handvit.doctor import Finding, check, environment_findings, format_findings
from handvit.hand import mirror_arrays, write_hand
from handvit.standin import standin_arrays, write_standin
from posecore.data.shards import ShardWriter


def errors(findings: list[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.level == "error"]


def warnings(findings: list[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.level == "warning"]


def test_the_environment_names_versions_devices_and_hands_nearby(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    findings = {finding.subject: finding for finding in environment_findings(tmp_path)}
    assert {"python", "torch", "posecore", "handvit", "opencv", "onnx", "mediapipe", "disk"} <= findings.keys()
    assert "https://mano.is.tue.mpg.de" in findings["MANO"].remedy
    assert "none in" in findings["image encoders"].text
    assert not errors(list(findings.values()))
    (tmp_path / "models").mkdir()
    write_standin(tmp_path / "models" / "MANO_RIGHT.pkl")
    (tmp_path / "cache/hub/models--facebook--dinov2-base/snapshots").mkdir(parents=True)
    findings = {finding.subject: finding for finding in environment_findings(tmp_path)}
    assert str(tmp_path / "models" / "MANO_RIGHT.pkl") in findings["MANO"].text
    assert findings["image encoders"].text.startswith("facebook/dinov2-base in")


def test_a_hand_is_described_and_a_broken_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    write_standin(path)
    findings = check(path)
    assert not errors(findings)
    assert "a right hand, 778 vertices, 1538 faces" in findings[0].text
    path.write_bytes(path.read_bytes()[:5000])
    (line,) = errors(check(path))
    assert "pickle" in line


def test_a_hand_in_millimetres_is_an_error(tmp_path: Path) -> None:
    arrays = standin_arrays()
    write_hand(replace(arrays, template=arrays.template * 1000), tmp_path / "hand.npz")
    (line,) = errors(check(tmp_path / "hand.npz"))
    assert "no hand has a middle finger of" in line


def test_a_folder_of_hands_needs_the_right_one_and_tells_of_the_lefts_shapes(tmp_path: Path) -> None:
    right = standin_arrays()
    write_hand(mirror_arrays(right), tmp_path / "MANO_LEFT.npz")
    assert errors(check(tmp_path)) == ["no MANO_RIGHT"]
    write_hand(right, tmp_path / "MANO_RIGHT.npz")
    text = format_findings(check(tmp_path))
    assert "its shape directions are the mirror image of the right hand's" in text
    write_hand(replace(mirror_arrays(right), shapedirs=right.shapedirs), tmp_path / "MANO_LEFT.npz")
    assert "carries the right hand's shape directions, as released" in format_findings(check(tmp_path))
    (tmp_path / "MANO_LEFT.npz").unlink()
    assert warnings(check(tmp_path))[-1] == "no MANO_LEFT: labels of left hands cannot be imported"


def test_shards_are_described_and_a_torn_one_is_named(pictures, videos, tmp_path: Path) -> None:
    findings = check(pictures)
    assert not errors(findings)
    assert "12 samples in 1 shards, 12 frames (synthetic 12;" in findings[0].text
    assert "stage 2 needs clips" in format_findings(findings)
    assert "stage 2 needs clips" not in format_findings(check(videos))
    torn = tmp_path / "torn.tar"
    torn.write_bytes(next(pictures.glob("*.tar")).read_bytes()[:20_000])
    (line,) = errors(check(torn))
    assert "is cut off" in line


def test_made_up_cameras_are_told_and_do_not_go_with_norm_by_hand(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "good", "good-%06d.tar") as writer:
        write_clip(writer, make_record("left_alone", intr_type="fixed_virtual"))
    findings = check(tmp_path / "good")
    assert warnings(findings) == ["cameras are made up (intr_type fixed_virtual)"]
    config = tmp_path / "run.json"
    data = {"train": {"datasets": [{"name": "made", "shards": "good"}]}}
    config.write_text(json.dumps({"extends": str(HandvitConfig.presets / "tiny.json"), "data": data}))
    assert errors(check(config)) == ["made-up cameras and model.norm_by_hand exclude each other"]


def test_a_configuration_is_checked_with_the_files_that_it_names(pictures, stage1, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_standin(tmp_path / "hand.npz")
    data = {"train": {"datasets": [{"name": "made", "shards": str(pictures)}]}}
    config = {
        "extends": str(HandvitConfig.presets / "tiny-stage2.json"),
        "data": data,
        "hand": {"mano_path": "hand.npz"},
    }
    path.write_text(json.dumps(config | {"general": {"stage1_path": str(stage1)}}))
    findings = check(path)
    assert not errors(findings)
    text = format_findings(findings)
    assert "stage 1, step" in text
    assert "12 samples" in text
    config["hand"], config["general"] = {"mano_path": "gone.pkl"}, {"stage1_path": "gone"}
    data["train"]["datasets"][0]["shards"] = "nowhere"
    path.write_text(json.dumps(config))
    found = errors(check(path))
    assert found[:2] == ["hand.mano_path: gone.pkl does not exist", "general.stage1_path: gone does not exist"]
    assert "data.train.datasets.made.shards: " in found[2]
    path.write_text(json.dumps({"model": {"img_sise": 224}}))
    (line,) = errors(check(path))
    assert "did you mean model.img_size?" in line


def test_a_run_with_a_torn_checkpoint_names_it_and_reads_the_whole_one(stage1, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(stage1, run, symlinks=True)
    whole = run / "checkpoints" / "step-00000002"
    findings = check(run)
    assert not errors(findings)
    assert "stage 1, step" in findings[0].text
    assert "mpjpe_mm" in findings[0].text
    assert not errors(check(whole / "model.safetensors"))
    torn = run / "checkpoints" / "step-00000003"
    shutil.copytree(whole, torn)
    (torn / "model.safetensors").write_bytes(b"torn")
    findings = check(run)
    assert len(errors(findings)) == 1
    assert findings[1].subject.endswith("step-00000003")


@pytest.mark.parametrize("damage", ["nothing", "no weights", "half the weights", "another kind"])
def test_an_encoders_folder_is_loaded_once(damage, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file
    from transformers import Dinov2Config, Dinov2Model

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
    Dinov2Model(Dinov2Config(**sizes)).save_pretrained(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    if damage == "no weights":
        weights.unlink()
    elif damage == "half the weights":
        stored = load_file(weights)
        save_file({name: stored[name] for name in list(stored)[: len(stored) // 2]}, weights, {"format": "pt"})
    elif damage == "another kind":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "bert"}))
    findings = check(tmp_path)
    told = {"no weights": "has no weights", "half the weights": "its weights lack", "another kind": "model_type 'bert'"}
    if damage == "nothing":
        assert "image encoder dinov2: 2 layers, width 16, tokens of 8 px" in findings[0].text
        assert not errors(findings)
    else:
        assert told[damage] in errors(findings)[0]


def test_stored_predictions_are_recognised(stage1, command, tmp_path: Path) -> None:
    assert command("evaluate", "--checkpoint", stage1, "--output", tmp_path, "--shard", "0/1").exit_code == 0
    (file,) = tmp_path.glob("*.h5")
    assert "36 predicted frames with meshes, of stage 1, hand stand-in" in check(file)[0].text


def test_unknown_and_missing_things_are_errors_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (finding,) = check(tmp_path / "notes.txt")
    assert finding.level == "error"
    assert "an image encoder's folder" in finding.remedy
    assert errors(check(tmp_path / "gone.tar")) == ["no such file or folder"]
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    assert len(errors(check(tmp_path / "other.npz"))) == 1


def test_the_command_fails_where_something_is_wrong_and_prints_json_for_machines(
    command, pictures, tmp_path: Path
) -> None:
    assert command("doctor", pictures).exit_code == 0
    (tmp_path / "torn.tar").write_bytes(b"torn")
    done = command("doctor", pictures, tmp_path / "torn.tar", "--json")
    assert done.exit_code == 1
    assert {finding["level"] for finding in json.loads(done.stdout)} == {"ok", "error"}
    assert "error" not in command("doctor").stdout.splitlines()[0]
