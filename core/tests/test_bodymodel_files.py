"""Body model files: every layout in use is read, what is written reads back, and what is wrong is told by key."""

import pickle
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_allclose, assert_array_equal

from posecore.bodymodel import BodyArrays, BodyModel, read_model, write_model
from posecore.errors import InputError

Build = Callable[..., BodyArrays]
MODELS = Path(__file__).parents[3] / "shared" / "data" / "smil" / "models"
SMIL_TYPES = {
    "f": np.int32,
    "J_regressor": np.float32,
    "kintree_table": np.int32,
    "J": np.float32,
    "weights": np.float32,
    "posedirs": np.float64,
    "v_template": np.float64,
    "shapedirs": np.float64,
    "scaledirs": np.float64,
    "transdirs": np.float64,
}


def same(ours: BodyArrays, theirs: BodyArrays, rtol: float) -> None:
    for field in fields(BodyArrays):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        if isinstance(other, np.ndarray):
            assert_allclose(mine, other, rtol=0, atol=rtol * np.abs(other).max(initial=0), err_msg=field.name)
        else:
            assert mine == other, field.name


def content(arrays: BodyArrays, path: Path) -> dict[str, Any]:
    """The keys of a file as the original writes them."""
    write_model(BodyModel(arrays, torch.float64), path)
    raw: dict[str, Any] = pickle.loads(path.read_bytes())
    return raw


def save(raw: dict[str, Any], path: Path) -> Path:
    path.write_bytes(pickle.dumps(raw, protocol=2))
    return path


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
@pytest.mark.parametrize("kind", [{}, {"posedirs": True}, {"static": True}, {"c": 0}])
def test_a_written_model_reads_back(kind: dict[str, Any], suffix: str, random_body: Build, tmp_path: Path) -> None:
    arrays, path = random_body(**kind), tmp_path / f"model{suffix}"
    write_model(BodyModel(arrays, torch.float64), path)
    same(
        read_model(path, torch.float64).arrays(), arrays, rtol=1e-7
    )  # weights, regressor and joints are float32 in files
    again = tmp_path / f"again{suffix}"
    write_model(read_model(path, torch.float64), again)
    same(read_model(again, torch.float64).arrays(), read_model(path, torch.float64).arrays(), rtol=0)


@pytest.mark.parametrize("name", ["SMILy_STICK.pkl", "SMILy_Mouse_static_joints_REPOSE_LONG.pkl"])
def test_a_real_model_is_rewritten_as_the_original_reads_it(name: str, tmp_path: Path) -> None:
    if not (MODELS / name).is_file():
        pytest.skip(f"{name} is not in {MODELS}: get it from github.com/FabianPlum/SMILify")
    write_model(read_model(MODELS / name, torch.float64), tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the original's file asks for numpy.core
        theirs = pickle.loads((MODELS / name).read_bytes(), encoding="latin1")
    ours = pickle.loads((tmp_path / name).read_bytes(), encoding="latin1")
    for key, value in theirs.items():
        if isinstance(value, list) and not value:
            assert key not in ours  # empty lists mean absent
        elif isinstance(value, np.ndarray):
            assert ours[key].dtype == value.dtype, key
            assert_array_equal(ours[key], value, err_msg=key)
        else:
            assert ours[key] == value, key


def test_a_written_file_has_the_originals_types_and_the_numpy_names_of_old(random_body: Build, tmp_path: Path) -> None:
    raw = content(random_body(), tmp_path / "model.pkl")
    assert {key: value.dtype.type for key, value in raw.items() if isinstance(value, np.ndarray)} == SMIL_TYPES
    assert raw["posedirs"].shape == (0,)
    assert raw["kintree_table"][0, 0] == -1
    assert isinstance(raw["J_names"], list)
    assert b"numpy._core" not in (tmp_path / "model.pkl").read_bytes()


def test_a_mano_file_is_read(random_body: Build, tmp_path: Path) -> None:
    arrays = random_body(v=60, j=16, c=10, posedirs=True)
    hands = {"hands_components": np.eye(45), "hands_mean": np.linspace(0, 1, 45)}
    raw = content(arrays, tmp_path / "model.pkl") | hands
    raw |= {"kintree_table": raw["kintree_table"].astype(np.uint32), "f": raw["f"].astype(np.uint32)}
    assert raw["kintree_table"][0, 0] == 4294967295
    raw["J_regressor"] = scipy.sparse.csc_matrix(raw["J_regressor"])
    for key in ("J_names", "scaledirs", "transdirs"):
        del raw[key]
    model = read_model(save(raw, tmp_path / "MANO_RIGHT.pkl"))
    assert model.parents[0] == -1
    assert model.joint_names[15] == "joint_15"
    assert_array_equal(model.hands_components, hands["hands_components"])
    assert_allclose(model.hands_mean, hands["hands_mean"], rtol=1e-6)
    assert_allclose(model.joint_regressor, arrays.joint_regressor, rtol=1e-6)
    assert model.posedirs is not None
    assert_allclose(model.posedirs, arrays.posedirs, rtol=1e-6)
    assert model.scaledirs is None


def test_absent_fields_may_be_empty_lists(random_body: Build, tmp_path: Path) -> None:
    raw = content(random_body(), tmp_path / "model.pkl") | {"scaledirs": [], "transdirs": [], "posedirs": []}
    model = read_model(save(raw, tmp_path / "model.pkl"))
    assert (model.scaledirs, model.transdirs, model.posedirs) == (None, None, None)


@pytest.mark.parametrize("c", [2, 3, 7])
def test_limb_directions_are_told_apart_by_the_joints_not_by_the_three(
    c: int, random_body: Build, tmp_path: Path
) -> None:
    arrays = random_body(j=7, c=c)
    assert arrays.scaledirs is not None
    raw = content(arrays, tmp_path / "model.pkl")
    assert_allclose(read_model(tmp_path / "model.pkl", torch.float64).scaledirs, arrays.scaledirs)
    if c != 7:  # with as many coefficients as joints the file's own order holds
        raw["scaledirs"] = raw["scaledirs"].transpose(1, 0, 2)
        assert_allclose(read_model(save(raw, tmp_path / "t.pkl"), torch.float64).scaledirs, arrays.scaledirs)


def test_stored_joints_count_only_in_models_with_static_joints(random_body: Build, tmp_path: Path) -> None:
    for static in (False, True):
        raw = content(random_body(static=static), tmp_path / "model.pkl")
        model = read_model(tmp_path / "model.pkl", torch.float64)
        rest = torch.eye(3, dtype=torch.float64).expand(1, 7, 3, 3)
        betas = torch.ones(1, 3, dtype=torch.float64)
        body = model(rest, betas, torch.zeros(1, 3, dtype=torch.float64))
        expected = raw["J"] if static else model.joint_regressor @ body.vertices[0]
        assert_allclose(body.skeleton[0], expected, atol=1e-6)  # a file's float32 weights sum to 1 to 6e-8
        assert model.has_static_joints is static


def test_joints_in_any_order_give_the_same_body(
    random_body: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrays = random_body(posedirs=True)
    raw = content(arrays, tmp_path / "model.pkl")
    order = [0, 6, 5, 4, 3, 2, 1]
    new_place = np.argsort(order)
    old_parents = raw["kintree_table"][0][order]
    blocks = (np.array(order[1:]) - 1)[:, None] * 9 + np.arange(9)
    shuffled = raw | {
        "kintree_table": np.stack([np.where(old_parents < 0, -1, new_place[old_parents]), np.arange(7)]),
        "weights": raw["weights"][:, order],
        "J_regressor": raw["J_regressor"][order],
        "J": raw["J"][order],
        "J_names": [raw["J_names"][joint] for joint in order],
        "posedirs": raw["posedirs"][:, :, blocks.ravel()],
        "scaledirs": raw["scaledirs"][:, order],
        "transdirs": raw["transdirs"][:, order],
    }
    plain = read_model(tmp_path / "model.pkl", torch.float64)
    assert not caplog.records
    model = read_model(save(shuffled, tmp_path / "shuffled.pkl"), torch.float64)
    assert "shuffled.pkl: kintree_table: parents come after their children; moved joints bone_" in caplog.text
    assert all(parent < joint for joint, parent in enumerate(model.parents.tolist()))
    place = [plain.joint_names.index(name) for name in model.joint_names]
    generator = torch.Generator().manual_seed(0)
    rotations = torch.linalg.qr(torch.randn(1, 7, 3, 3, generator=generator, dtype=torch.float64))[0]
    scales = 0.1 * torch.randn(1, 7, 3, generator=generator, dtype=torch.float64)
    still = torch.zeros(1, 3, dtype=torch.float64)
    before = plain(rotations, still, still, scales, scales)
    after = model(rotations[:, place], still, still, scales[:, place], scales[:, place])
    assert_allclose(after.vertices, before.vertices, atol=1e-12)
    assert_allclose(after.joints, before.joints[:, place], atol=1e-12)
    assert_allclose(model.scaledirs, plain.scaledirs[:, place])


def test_parents_may_be_named_by_ids(random_body: Build, tmp_path: Path) -> None:
    raw = content(random_body(), tmp_path / "model.pkl")
    expected, ids = raw["kintree_table"][0].tolist(), np.array([10, 11, 12, 13, 14, 15, 16])
    parents = np.where(raw["kintree_table"][0] < 0, -1, ids[raw["kintree_table"][0]])
    raw["kintree_table"] = np.stack([parents, ids])
    assert read_model(save(raw, tmp_path / "model.pkl")).parents.tolist() == expected


def change(key: str, edit: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda raw: raw | {key: edit(raw[key])}


def put(index: Any, value: float) -> Callable[[Any], Any]:
    def edit(array: Any) -> Any:
        array = array.copy()
        array[index] = value
        return array

    return edit


DAMAGE = {
    "a missing key": (lambda raw: {k: raw[k] for k in raw if k != "weights"}, "weights: missing; expected an array"),
    "no regressor": (
        change("J_regressor", lambda _: np.zeros((7, 40))),
        "J_regressor: row 0 is zero, expected weights",
    ),
    "a model cut short": (
        change("weights", lambda w: w[:30]),
        "weights: shape (30, 7), expected (40, 7) (40 vertices, 7 joints)",
    ),
    "weights that miss a bone": (change("weights", put((3, slice(None)), 0)), "weights: row 3 sums to 0, expected 1"),
    "a face of another mesh": (change("f", put((5, 1), 40)), "f: vertex ids from 0 to 40, expected 0 to 39"),
    "not a number": (change("v_template", put((4, 2), np.nan)), "v_template: nan at (4, 2), expected finite numbers"),
    "two roots": (change("kintree_table", put((0, 3), -1)), "kintree_table: 2 roots (joints [0, 3]), expected one"),
    "a loop": (
        change("kintree_table", put((0, 6), 6)),
        "kintree_table: joints [6] are their own ancestors, expected a tree",
    ),
    "an unknown parent": (
        change("kintree_table", put((0, 3), 9)),
        "kintree_table: parents from -1 to 9, expected -1 to 6",
    ),
    "joint ids twice": (
        change("kintree_table", put((1, 3), 1)),
        "kintree_table: joint ids [0, 1, 2, 1, 4, 5, 6] repeat",
    ),
    "text for numbers": (
        change("v_template", lambda _: "mesh"),
        "v_template: <U4 of shape (); expected numbers with 2 axes",
    ),
    "faces as floats": (
        change("f", lambda f: f / 2),
        "f: float64 of shape (80, 3); expected whole numbers with 2 axes",
    ),
    "ragged lists": (
        change("shapedirs", lambda _: [[1], [1, 2]]),
        "shapedirs: setting an array element with a sequence",
    ),
    "axis of three first": (
        change("transdirs", lambda s: np.zeros((3, 7, 4))),
        "transdirs: shape (3, 7, 4); expected (coefficients, 7, 3)",
    ),
    "pose blend shapes of another body": (
        change("posedirs", lambda _: np.zeros((40, 3, 207))),
        "posedirs: shape (40, 3, 207), expected (40, 3, 54) (40 vertices, 7 joints)",
    ),
    "names of another body": (
        change("J_names", lambda names: names[:-1]),
        "J_names: 6 names, expected 7 as kintree_table",
    ),
    "a number for names": (change("J_names", lambda _: 7), "J_names: int64 of shape (); expected a list of names"),
    "static without joints": (
        lambda raw: {k: raw[k] for k in raw if k != "J"} | {"static_joint_locs": True},
        "J: missing, expected (7, 3) because static_joint_locs is set",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_model_is_told_by_file_and_key_in_one_line(kind: str, random_body: Build, tmp_path: Path) -> None:
    damage, message = DAMAGE[kind]
    path = save(damage(content(random_body(), tmp_path / "model.pkl")), tmp_path / "model.pkl")
    with pytest.raises(InputError) as caught:
        read_model(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)


def test_several_problems_are_told_at_once(random_body: Build, tmp_path: Path) -> None:
    raw = content(random_body(), tmp_path / "model.pkl")
    raw["f"] = put((0, 0), -1)(raw["f"])
    raw["v_template"] = put((0, 0), np.inf)(raw["v_template"])
    with pytest.raises(InputError) as caught:
        read_model(save(raw, tmp_path / "model.pkl"))
    assert [problem.split(": ")[1] for problem in caught.value.problems] == ["v_template", "f"]


def test_files_that_are_none_are_told(tmp_path: Path, random_body: Build) -> None:
    with pytest.raises(InputError, match=r"gone.pkl: no such file; expected a body model"):
        read_model(tmp_path / "gone.pkl")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match=r"text.npz: not a readable .npz"):
        read_model(tmp_path / "text.npz")
    np.savez(tmp_path / "objects.npz", v_template=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"objects.npz: not a readable .npz: Object arrays cannot be loaded"):
        read_model(tmp_path / "objects.npz")
    with pytest.raises(InputError, match=r"model.json: unknown kind of file '.json'; expected .pkl or .npz"):
        write_model(BodyModel(random_body()), tmp_path / "model.json")


def test_arrays_that_do_not_fit_make_no_model(random_body: Build) -> None:
    arrays = random_body()
    with pytest.raises(ValueError, match=r"weights: shape \(40, 6\), expected \(40, 7\)"):
        BodyModel(replace(arrays, weights=arrays.weights[:, :6]))
    with pytest.raises(ValueError, match="expected parents before children"):
        BodyModel(replace(arrays, parents=np.array([-1, 2, 0, 0, 0, 0, 0])))
