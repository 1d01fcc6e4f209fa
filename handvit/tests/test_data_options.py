"""Options of `handvit data synth` and `data convert`: they reach what they are about, and wrong ones are told."""

import inspect
import json
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from handvit import cli_data
from handvit.data.shards import ClipShards
from handvit.data.synthetic import Difficulty
from handvit.data.synthetic.dataset import QUALITY
from posecore.data.headers import read_header
from posecore.data.shards import find_shards

sys.path.append(str(Path(__file__).parent))
from layouts_freihand import write_freihand
from layouts_hot3d import STREAMS, write_hot3d


@pytest.fixture
def run(command):
    """Runs a command that should end with this code."""

    def ended(*words, exit_code=0):
        done = command(*words)
        assert done.exit_code == exit_code, done.output
        return done

    return ended


def records(folder):
    clips = ClipShards(find_shards(folder))
    return [clips.read(index) for index in range(len(clips))]


def test_what_is_not_asked_for_is_the_standard_difficulty():
    given = {name: option.default for name, option in inspect.signature(cli_data.synth).parameters.items()}
    names = {"depth_mm": "depth", "rotation_range_deg": "rotation_range", "camera_shake_deg": "camera_shake"}
    standard = Difficulty()
    for field in fields(standard):
        default = given[names.get(field.name, field.name)]
        value = getattr(standard, field.name)
        assert (tuple(map(float, default.split(","))) if isinstance(value, tuple) else default) == value, field.name
    assert given["quality"] == QUALITY


def test_easier_hands_are_as_asked(tmp_path, run):
    words = ("--clips", 6, "--size", "48x64", "--depth", "500,520", "--rotation-range", 10, "--articulation", 0.1)
    run("data", "synth", tmp_path, *words, "--shape-std", 0, "--dropped-frames", 0, "--frames", 3, "--quality", 60)
    for record in records(tmp_path):
        assert 480 < record.joint_cam_mm[:, 0, 2].min() <= record.joint_cam_mm[:, 0, 2].max() < 540
        assert not record.mano_shape.any()
        assert np.ptp(np.diff(record.timestamp_ms)) < 1e-3
        assert (read_header(record.frames[0]).width, read_header(record.frames[0]).height) == (64, 48)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--depth", "500"), "--depth 500: LEAST,GREATEST is needed"),
        (("--depth", "500,400"), "depth_mm: 500.0 to 400.0, must rise"),
        (("--articulation", "2"), "articulation: 2.0, must be 0 to 1"),
        (("--size", "20x20"), "--size 20x20: HEIGHTxWIDTH in pixels is needed, at least 32x32"),
    ],
)
def test_impossible_choices_of_synth_are_told(words, said, tmp_path, run):
    assert said in run("data", "synth", tmp_path / "out", *words, exit_code=2).output


def test_only_the_asked_backgrounds_of_freihand_are_converted(tmp_path, run):
    write_freihand(tmp_path / "raw")
    report = json.loads(
        run("data", "convert", "freihand", tmp_path / "raw", tmp_path / "out", "--versions", "gs,auto").stdout
    )
    found = {record.additional_desc[0]["version"] for record in records(tmp_path / "out")}
    assert found == {"gs", "auto"}
    assert report["clips"] == 6
    wrong = run("data", "convert", "freihand", tmp_path / "raw", tmp_path / "no", "--versions", "gs,blue", exit_code=2)
    assert "versions: blue; one or several of gs, hom, sample, auto" in wrong.output


def test_hot3d_is_converted_by_device_stream_and_view(tmp_path, run):
    write_hot3d(tmp_path / "raw")
    words = ("data", "convert", "hot3d", tmp_path / "raw", tmp_path / "out", "--standin")
    run(*words, "--devices", "aria", "--streams", STREAMS[0], "--hand-centred", "70,128", "--format", "webp",
        "--quality", 80)  # fmt: skip
    for record in records(tmp_path / "out"):
        assert record.frame_format == "webp"
        assert STREAMS[0] in record.key
        header = read_header(record.frames[0])
        assert (header.width, header.height) == (128, 128)
        np.testing.assert_allclose(record.focal, 64 / np.tan(np.radians(35)), rtol=1e-3)


def test_crops_of_hot3d_are_stored_in_the_asked_format(tmp_path, run):
    write_hot3d(tmp_path / "raw")
    words = ("data", "convert", "hot3d", tmp_path / "raw", tmp_path / "out", "--standin", "--limit", 1)
    run(*words, "--crop", 96, "--format", "webp")
    (record,) = records(tmp_path / "out")
    assert record.frame_format == "webp"
    assert read_header(record.frames[0]).width == 96


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--devices", "aria,oculus"), "'oculus' is none; aria, quest3 or both are"),
        (("--hand-centred", "60"), "--hand-centred 60: FOV,SIZE is needed"),
        (("--hand-centred", "200,512"), "expected 0 < fov_deg < 170"),
    ],
)
def test_impossible_choices_of_hot3d_are_told(words, said, tmp_path, run):
    write_hot3d(tmp_path / "raw")
    done = run("data", "convert", "hot3d", tmp_path / "raw", tmp_path / "out", "--standin", *words, exit_code=2)
    assert said in done.output
