"""The doctor says what a file is, what is wrong with it, and what to do; wrong input never raises."""

import json
import shutil

import numpy as np
import pytest

from vpog.doctor import Finding, check, environment_findings, format_findings
from vpog.objects.mesh import Mesh
from vpog.objects.meshes import read_mesh, write_mesh


def errors(findings: list[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.level == "error"]


def warnings(findings: list[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.level == "warning"]


def test_the_environment_names_versions_devices_and_the_disk(tmp_path):
    findings = {finding.subject: finding for finding in environment_findings(tmp_path)}
    assert {"python", "torch", "posecore", "vpog", "timm", "trimesh", "disk"} <= findings.keys()
    assert not errors(list(findings.values()))


def test_a_split_its_templates_and_its_objects_are_described(data):
    text = format_findings(check(data / "synth" / "train"))
    assert "12 pictures" in text
    assert "agrees with the shards" in text
    assert "3 objects at" in text
    assert not errors(check(data / "synth" / "test"))
    assert "3 objects, 126 of 126 views" in format_findings(check(data / "templates" / "synth"))


def test_a_torn_shard_and_missing_templates_are_named(data, tmp_path):
    shutil.copytree(data / "synth", tmp_path / "synth")
    (line,) = warnings(check(tmp_path / "synth" / "train"))
    assert line.startswith("templates: not found (looked for ")
    torn = tmp_path / "synth" / "train" / "shard-000001.tar"
    torn.write_bytes(torn.read_bytes()[:5000])
    for file in torn.parent.glob("*.index.json"):
        file.unlink()
    assert any("shard-000001.tar" in line for line in errors(check(torn.parent)))


def test_objects_without_templates_are_a_warning(data, tmp_path):
    shutil.copytree(data / "synth", tmp_path / "synth")
    shutil.copytree(data / "templates", tmp_path / "templates")
    (gone,) = (tmp_path / "templates" / "synth" / "object_poses").glob("*2.npy")
    gone.unlink()
    shutil.rmtree(tmp_path / "templates" / "synth" / gone.stem)
    assert any("templates" in line and "2" in line for line in warnings(check(tmp_path / "synth" / "train")))


def test_a_run_is_described_and_a_broken_checkpoint_is_an_error(run, tmp_path):
    assert "million parameters, crops of 64 px" in format_findings(check(run))
    shutil.copytree(run, tmp_path / "run")
    for weights in (tmp_path / "run").rglob("model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:1000])
    assert errors(check(tmp_path / "run"))


def test_a_mesh_is_described_with_its_size_and_an_unclear_unit_is_told(data, tmp_path):
    path = data / "synth" / "models" / "obj_000001.ply"
    assert "faces" in check(path)[0].text
    mesh = read_mesh(path)
    small = Mesh(mesh.vertices_mm * np.float32(5 / np.ptp(mesh.vertices_mm)), mesh.faces, mesh.colors)
    write_mesh(tmp_path / "small.ply", small)
    (line,) = errors(check(tmp_path / "small.ply"))
    assert "its unit cannot be told" in line


def test_a_configuration_and_the_data_that_it_names_are_checked(data, settings, tmp_path):
    named = json.loads(next(o for o in settings() if o.startswith("data.train=")).partition("=")[2])
    (tmp_path / "good.json").write_text(json.dumps({"model": {"img_size": 112}, "data": {"train": named}}))
    findings = check(tmp_path / "good.json")
    assert not errors(findings)
    assert "12 pictures" in format_findings(findings)
    named[0]["templates"] = "nowhere"
    (tmp_path / "bad.json").write_text(json.dumps({"model": {"img_size": 112}, "data": {"train": named}}))
    (line,) = errors(check(tmp_path / "bad.json"))
    assert "templates: nowhere does not exist" in line
    (tmp_path / "worse.json").write_text('{"mdel": {}}')
    (line,) = errors(check(tmp_path / "worse.json"))
    assert "did you mean model?" in line


@pytest.mark.parametrize(("name", "told"), [("x.txt", "not a kind of file"), ("missing.ply", "no such file")])
def test_what_is_nothing_is_told(name, told, tmp_path):
    (tmp_path / "x.txt").write_text("")
    (line,) = errors(check(tmp_path / name))
    assert told in line


def test_weights_that_are_none_are_an_error_and_the_command_says_so(tmp_path, command, data):
    (tmp_path / "CroCo.pth").write_bytes(b"not weights")
    assert errors(check(tmp_path / "CroCo.pth"))
    done = command("doctor", tmp_path / "CroCo.pth", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)[0]["level"] == "error"
    assert command("doctor", data / "synth" / "val").exit_code == 0
