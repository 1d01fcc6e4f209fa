"""models_info.json in all its forms, and the symmetries that it lists."""

import json

import numpy as np
import pytest

from posecore.errors import InputError
from vpog.objects.model_names import read_model_names
from vpog.objects.models_info import (
    ContinuousSymmetry,
    ModelInfo,
    read_models_info,
    symmetry_transforms,
    write_models_info,
)

SIZES = {"diameter": 102.5, "min_x": -1, "min_y": -2, "min_z": -3, "size_x": 2, "size_y": 4.5, "size_z": 6}
TURN = [-1, 0, 0, 2.5, 0, -1, 0, -1, 0, 0, 1, 0, 0, 0, 0, 1]


def file_of(tmp_path, data):
    path = tmp_path / "models_info.json"
    path.write_text(json.dumps(data) if not isinstance(data, str) else data)
    return path


def info(discrete=(), continuous=()):
    return ModelInfo(100.0, np.zeros(3), np.ones(3), np.array(discrete, float).reshape(-1, 4, 4), tuple(continuous))


def test_sizes_and_symmetries_are_read_by_object_id_and_written_as_they_were(tmp_path):
    entry = SIZES | {"symmetries_discrete": [TURN], "symmetries_continuous": [{"axis": [0, 0, 1], "offset": [1, 2, 0]}]}
    infos = read_models_info(file_of(tmp_path, {"12": entry, "1": SIZES}))
    assert list(infos) == [12, 1]
    assert infos[12].is_symmetric
    assert not infos[1].is_symmetric
    assert infos[12].diameter_mm == 102.5
    np.testing.assert_array_equal(infos[12].min_mm, [-1, -2, -3])
    np.testing.assert_array_equal(infos[12].size_mm, [2, 4.5, 6])
    np.testing.assert_array_equal(infos[12].symmetries_discrete[0], np.array(TURN).reshape(4, 4))
    np.testing.assert_array_equal(infos[12].symmetries_continuous[0].offset_mm, [1, 2, 0])
    write_models_info(tmp_path / "again.json", infos)
    assert json.loads((tmp_path / "again.json").read_text()) == {"12": entry, "1": SIZES}


@pytest.mark.parametrize("kind", ["none", "disc", "cont", "dc"])
def test_symmetry_sets_are_those_of_the_benchmark(reference, kind):
    arrays = reference("pose_errors")
    line = ContinuousSymmetry(arrays["sym_cont_axis"].astype(float), arrays["sym_cont_offset"].astype(float))
    model = {
        "none": info(),
        "disc": info([arrays["sym_discrete_4x4"]]),
        "cont": info(continuous=[line]),
        "dc": info([arrays["sym_dc_discrete_4x4"]], [line]),
    }[kind]
    motions = symmetry_transforms(model, float(arrays["sym_step_cont"]))
    np.testing.assert_allclose(motions[:, :3, :3], arrays[f"syms_{kind}_R"], atol=1e-12)
    np.testing.assert_allclose(motions[:, :3, 3], arrays[f"syms_{kind}_t"].reshape(-1, 3), atol=1e-12)


def test_the_default_step_makes_315_turns_that_leave_the_axis_where_it_is():
    line = ContinuousSymmetry(np.array([0.6, 0.0, 0.8]), np.array([3.0, -1.0, 2.0]))
    motions = symmetry_transforms(info(continuous=[line]))
    assert len(motions) == 315
    np.testing.assert_array_equal(motions[0], np.eye(4))
    on_axis = line.offset_mm + 7.0 * line.axis
    np.testing.assert_allclose(motions[:, :3, :3] @ on_axis + motions[:, :3, 3], np.tile(on_axis, (315, 1)), atol=1e-9)
    away = np.array([50.0, 0.0, 0.0])
    moved = motions[:2, :3, :3] @ away + motions[:2, :3, 3]
    assert np.linalg.norm(moved[1] - moved[0]) < 0.01 * 100  # of the diameter


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("{", "is no JSON"),
        ([{"obj_id": 1, "gso_id": "Cup"}], "is a list, which names objects"),
        ("3", "is a int"),
        ({"cup": SIZES}, "'cup': is no object id"),
        ({"1": 3}, "object 1: is 3"),
        ({"1": {k: v for k, v in SIZES.items() if k != "size_y"}}, "object 1: has no size_y"),
        ({"1": SIZES | {"diameter": 0}}, "object 1.diameter: is 0.0; it must be above 0"),
        ({"1": SIZES | {"min_x": "a"}}, "object 1.min_x: is 'a'; expected a finite number"),
        ({"1": SIZES | {"size_z": -6}}, "object 1.size_z: is -6.0"),
        ('{"1": {"diameter": NaN' + json.dumps(SIZES)[18:] + "}", "object 1.diameter: is nan"),
        (
            {"1": SIZES | {"symmetries_discrete": [TURN[:12]]}},
            r"symmetries_discrete\[0\]: .* expected 16 finite numbers",
        ),
        (
            {"1": SIZES | {"symmetries_discrete": [[2.0, *TURN[1:]]]}},
            r"symmetries_discrete\[0\]: .* expected a rotation",
        ),
        ({"1": SIZES | {"symmetries_continuous": [{"axis": [0, 0, 1]}]}}, "expected axis and offset"),
        ({"1": SIZES | {"symmetries_continuous": [{"axis": [0, 0, 0], "offset": [0, 0, 0]}]}}, "an axis has a length"),
    ],
)
def test_a_wrong_file_is_told_by_its_object_and_field(tmp_path, data, problem):
    path = file_of(tmp_path, data)
    with pytest.raises(InputError, match=problem) as caught:
        read_models_info(path)
    assert str(caught.value).startswith(str(path))


def test_all_wrong_objects_are_told_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        read_models_info(file_of(tmp_path, {"1": {}, "2": SIZES, "3": 4}))
    assert len(caught.value.problems) == 2


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.json: no such file"):
        read_models_info(tmp_path / "nowhere.json")


def test_lists_name_the_meshes_of_both_sets(tmp_path):
    gso = read_model_names(file_of(tmp_path, [{"obj_id": 4, "gso_id": "Big_Cup"}, {"obj_id": 0, "gso_id": "Shoe"}]))
    assert {obj_id: name.folder for obj_id, name in gso.items()} == {4: "Big_Cup", 0: "Shoe"}
    shapenet = [{"obj_id": 9, "shapenet_synset_id": "02691156", "shapenet_source_id": "a1b2"}]
    assert read_model_names(file_of(tmp_path, shapenet))[9].folder == "02691156/a1b2"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"1": SIZES}, "is no list of"),
        ([{"gso_id": "Cup"}], "entry 0.obj_id: is None"),
        ([{"obj_id": 1, "gso_id": "../up"}], r"entry 0.gso_id: is '../up'; expected the name of a folder"),
        ([{"obj_id": 1, "shapenet_source_id": "a"}], "entry 0.shapenet_synset_id: is None"),
        (
            [{"obj_id": 1, "gso_id": "a"}, {"obj_id": 1, "gso_id": "b"}],
            "entry 1.obj_id: is 1, which an earlier entry has",
        ),
    ],
)
def test_wrong_lists_are_told_by_their_entry(tmp_path, data, problem):
    with pytest.raises(InputError, match=problem):
        read_model_names(file_of(tmp_path, data))
