"""The doctor says what a file is, what is wrong with it, and what to do; wrong input never raises."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from posecore.bodymodel import write_model
from smil_regressor.calibration import RigCamera, write_calibration
from smil_regressor.data.hdf5_multiview import MultiViewWriter
from smil_regressor.data.insect import insect_body
from smil_regressor.doctor import Finding, check, environment_findings, format_findings


def errors(findings: list[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.level == "error"]


def camera(name: str, shift: float = 0.0, **changes) -> RigCamera:
    K = np.array([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]])
    cam_from_world = np.eye(4)
    cam_from_world[0, 3] = shift
    settings = {"size_wh": (640, 480), "K": K, "distortion": np.zeros(5), "cam_from_world": cam_from_world} | changes
    return RigCamera(name, **settings)


@pytest.fixture
def data_file(tmp_path: Path, make_sample) -> Path:
    path = tmp_path / "data.h5"
    with MultiViewWriter(
        path,
        joint_names=("b_t", "b_h", "l_1_fe_r", "l_1_fe_l", "an_1_r"),
        num_betas=4,
        max_views=3,
        canonical_camera_order=("left", "right", "top"),
        target_resolution=32,
    ) as writer:
        for seed in range(3):
            writer.add(make_sample(seed=seed))
    return path


def test_a_sound_model_has_no_error_and_a_broken_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "insect.pkl"
    write_model(insect_body("simple"), path)
    findings = check(path)
    assert not errors(findings)
    assert "19 joints, 5 betas" in findings[0].text
    path.write_bytes(path.read_bytes()[:500])
    assert len(errors(check(path))) == 1


def test_a_calibration_is_judged_camera_by_camera(tmp_path: Path) -> None:
    path = tmp_path / "calibration.toml"
    write_calibration([camera("a"), camera("b", 10.0)], path)
    assert [finding.level for finding in check(path)] == ["ok"]
    far = np.array([[500.0, 0, 900.0], [0, 9000, 239.5], [0, 0, 1]])
    folded = camera("c", 5.0, distortion=np.array([-0.6, 0, 0, 0, 0]))
    write_calibration([camera("a"), camera("twin"), folded, camera("d", 7.0, K=far)], path)
    text = format_findings(check(path))
    assert "twin: identical parameters to a" in text
    assert "c: the distortion has no inverse in" in text
    assert "d: the principal point [900.0, 239.5] lies outside the 640x480 picture" in text
    assert "d: a vertical field of view of 3.1 degrees is odd" in text
    assert text.endswith("1 errors, 3 warnings")


def test_a_data_file_is_described_with_what_it_lacks(data_file: Path) -> None:
    findings = check(data_file)
    assert not errors(findings)
    text = format_findings(findings)
    assert "multi-view data (version 2 layout): 3 samples, 5 joints" in text
    assert "world_scale is missing" in text
    data_file.write_bytes(data_file.read_bytes()[:3000])
    assert "not a whole HDF5 file" in errors(check(data_file))[0]


def test_a_damaged_data_file_is_told_by_dataset(data_file: Path) -> None:
    with h5py.File(data_file, "a") as file:
        del file["multiview_keypoints/keypoints_2d"]
    assert any("keypoints_2d" in text for text in errors(check(data_file)))


def test_a_configuration_is_checked_with_the_files_that_it_names(tmp_path: Path, data_file: Path) -> None:
    path = tmp_path / "run.json"
    write_model(insect_body("simple"), tmp_path / "insect.pkl")
    config = {"mode": "multiview", "dataset": {"data_path": "data.h5"}, "smal_model": {"smal_file": "insect.pkl"}}
    path.write_text(json.dumps(config))
    assert errors(check(path)) == [
        "5 joints, but the model of run.json has 19",
        "4 betas, but the model of run.json has 5",
    ]
    config["dataset"]["data_path"], config["smal_model"]["smal_file"] = "gone.h5", "gone.pkl"
    config["loss_curriculum"] = {"base_weights": {"keypoint_2d": 1.0}}
    path.write_text(json.dumps(config))
    found = check(path)
    assert errors(found) == [
        "smal_model.smal_file: gone.pkl does not exist",
        "dataset.data_path: gone.h5 does not exist",
    ]
    assert "default curriculum_stages still change them" in format_findings(found)
    path.write_text('{"mode": "multiview", "dataset": {"data_pth": "x"}}')
    assert "did you mean dataset.data_path?" in errors(check(path))[0]


def test_unknown_and_missing_things_are_errors_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert "not a kind of file that smil knows" in errors(check(tmp_path / "notes.txt"))[0]
    assert errors(check(tmp_path / "gone.h5")) == ["no such file or folder"]
    assert "no session in it" in errors(check(tmp_path))[0]
    (tmp_path / "_BatchData_ants.json").write_text("{}")
    assert "the folder of a replicAnt set is expected" in errors(check(tmp_path))[0]


def test_a_run_folder_with_a_torn_checkpoint_names_it_and_reads_the_whole_one(tmp_path: Path) -> None:
    import torch

    from posecore.training.checkpoints import save_checkpoint

    for step in (1, 2):
        save_checkpoint(
            tmp_path,
            system="smil",
            system_version="0.1.0",
            step=step,
            epoch=0,
            weights={"w": torch.zeros(3)},
            state={},
            config={"mode": "multiview"},
            metrics={"mpjpe": 0.5},
        )
    assert not errors(check(tmp_path))
    newest = tmp_path / "checkpoints" / "step-00000002" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    findings = check(tmp_path)
    assert "step 1, epoch 0, mpjpe 0.5" in findings[0].text
    assert len(errors(findings)) == 1
    assert findings[1].subject.endswith("step-00000002")


def test_the_environment_names_versions_devices_and_models_nearby(tmp_path: Path) -> None:
    write_model(insect_body("simple"), tmp_path / "insect.pkl")
    findings = {finding.subject: finding for finding in environment_findings(tmp_path)}
    assert {"python", "torch", "posecore", "opencv", "sleap-io", "disk", "backbone weights"} <= findings.keys()
    assert "insect.pkl" in findings["body models"].text
    assert not errors(list(findings.values()))


def test_the_real_session_is_diagnosed(real_data: Path) -> None:
    session = real_data / "multiview" / "sleap_anipose_minimal"
    findings = check(session)
    assert [finding.subject for finding in findings if finding.level == "error"] == [f"{session}: side"]
    wrong = next(finding for finding in findings if finding.level == "error")
    assert "identical to those of top" in wrong.text
    assert "--exclude-cameras side" in wrong.remedy
    twins = [f for f in check(session / "calibration.toml") if f.level == "error"]
    assert "identical parameters to side" in twins[0].text


def test_real_models_and_sets_are_recognised(real_data: Path) -> None:
    mouse = check(real_data / "models" / "SMILy_Mouse_static_joints_REPOSE_LONG.pkl")
    assert "static joints" in format_findings(mouse)
    assert "no limb components" in format_findings(mouse)
    assert "4 of 4 pictures have masks" in format_findings(check(real_data / "replicant" / "SMIL"))
    new = format_findings(check(real_data / "replicant" / "replicAnt-x-SMIL-TEX"))
    assert "13 shape coefficients" in new
