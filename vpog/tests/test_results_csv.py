"""Result files of the BOP challenge against the reference file, and what its server would reject."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posecore.errors import InputError
from vpog.estimates import Estimate
from vpog.results_csv import HEADER, ResultName, parse_name, read_results, write_results

NAME = "vpog-rgb_lmo-test.csv"


@pytest.fixture
def file(reference, tmp_path):
    path = tmp_path / NAME
    path.write_text(str(reference("formats")["csv_text"]))
    return path


def test_the_reference_file_is_read(file, reference):
    arrays = reference("formats")
    estimates = read_results(file)
    assert np.array_equal([(e.scene_id, e.image_id, e.obj_id) for e in estimates], arrays["csv_ids"])
    assert np.array_equal([e.cam_from_obj_mm[:3, :3] for e in estimates], arrays["csv_R"])
    assert np.array_equal([e.cam_from_obj_mm[:3, 3:] for e in estimates], arrays["csv_t"])
    assert np.array_equal([e.score for e in estimates], arrays["csv_score"])
    assert [e.time_s for e in estimates] == [0.25, 1.25, 2.25]


def test_the_reference_file_is_written_byte_for_byte(file, tmp_path):
    text = file.read_text()
    write_results(tmp_path / "again" / NAME, read_results(file))
    assert (tmp_path / "again" / NAME).read_text().strip() == text.strip()


@given(seed=st.integers(0, 2**31), score=st.floats(-1e6, 1e6), time_s=st.floats(0, 1e4))
def test_every_digit_survives(seed, score, time_s, tmp_path_factory):
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    pose[:3, 3] = np.random.default_rng(seed).normal(scale=1e3, size=3)
    path = tmp_path_factory.mktemp("results") / NAME
    write_results(path, [Estimate(1, 2, 3, score, pose, time_s)])
    (again,) = read_results(path)
    assert np.array_equal(again.cam_from_obj_mm, pose)
    assert (again.score, again.time_s) == (score, time_s)


def test_no_estimate_at_all_gives_a_file_with_its_header(tmp_path):
    write_results(tmp_path / NAME, [])
    assert (tmp_path / NAME).read_text() == f"{HEADER}\n"
    assert read_results(tmp_path / NAME) == []


def test_the_reference_name_is_taken_apart_and_put_together(reference):
    name, method, dataset, split, split_type, _ = reference("formats")["csv_parse_name"].tolist()
    parsed = parse_name(f"folder/{name}.csv")
    assert parsed == ResultName(method, dataset, split, split_type, "run1")
    assert parsed.file_name == f"{name}.csv"


@pytest.mark.parametrize("name", ["vpog_rgb_lmo-test_run_1.csv", "lmo-test.csv", "vpog_lmo.csv", "vpog_lmo-test.txt"])
def test_a_name_that_the_server_cannot_read_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="the name of a result file is METHOD_DATASET-SPLIT"):
        write_results(tmp_path / name, [])


def test_a_method_with_an_underscore_is_refused():
    with pytest.raises(InputError, match=r"method: 'vpog_rgb'.*an underscore ends the method's name"):
        ResultName("vpog_rgb", "lmo", "test")


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        (0, "x", "line 3: scene_id: 'x' is not a whole number"),
        (2, "1.0", "line 3: obj_id: '1.0' is not a whole number"),
        (3, "nan", "line 3: score: 'nan' is not 1 finite numbers"),
        (4, "1 0 0 0 1 0 0 0", "line 3: R: '1 0 0 0 1 0 0 0' is not 9 finite numbers"),
        (4, "1 0 0 0 1 0 0 0 2", "line 3: R: is no rotation"),
        (5, "1 2 inf", "line 3: t: '1 2 inf' is not 3 finite numbers"),
        (5, "1,2,3", "line 3: has 9 columns, expected 7"),
        (6, "fast", "line 3: time: 'fast' is not 1 numbers"),
    ],
)
def test_a_damaged_line_is_told_by_number_and_field(file, column, text, message):
    lines = file.read_text().splitlines()
    columns = lines[2].split(",")
    columns[column] = text
    file.write_text("\n".join([*lines[:2], ",".join(columns), *lines[3:]]))
    with pytest.raises(InputError) as caught:
        read_results(file)
    assert message in str(caught.value)


def test_times_that_differ_within_a_picture_are_refused_when_reading_and_when_writing(file, tmp_path):
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[1].rpartition(",")[0] + ",0.5"]))
    with pytest.raises(InputError, match=r"line 5: time: is 0\.5 s.*scene 1, image 0 says 0\.25 s"):
        read_results(file)
    first = Estimate(1, 0, 1, 0.5, np.eye(4), 0.25)
    with pytest.raises(InputError, match="estimate 1: time"):
        write_results(tmp_path / "a_lmo-test.csv", [first, dataclasses.replace(first, time_s=0.5)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": float("nan")}, "score is nan"),
        ({"cam_from_obj_mm": np.full((4, 4), np.nan)}, "its pose of object 1 is not finite"),
        ({"cam_from_obj_mm": np.diag([2.0, 2.0, 2.0, 1.0])}, "R: is no rotation"),
    ],
)
def test_an_estimate_that_is_no_pose_is_not_written(tmp_path, change, message):
    estimate = dataclasses.replace(Estimate(1, 0, 1, 0.5, np.eye(4)), **change)
    with pytest.raises(InputError, match=message):
        write_results(tmp_path / NAME, [estimate])
    assert not (tmp_path / NAME).exists()
