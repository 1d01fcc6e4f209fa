"""MANO's files: read, checked, converted and written; what is wrong or missing is told by file and key."""

import dataclasses
import logging
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from handvit.hand import HandModel, convert_mano, mano_info, mirror_arrays, read_hand, write_hand
from handvit.joints import MANO_JOINT_NAMES
from handvit.standin import LABEL, standin_arrays, write_standin
from posecore.bodymodel import BodyArrays, BodyModel, read_content
from posecore.errors import InputError


def same_hand(found: HandModel, expected: BodyArrays) -> None:
    arrays = found.body.arrays()
    for field in dataclasses.fields(BodyArrays):
        mine, other = getattr(arrays, field.name), getattr(expected, field.name)
        if isinstance(other, np.ndarray):
            np.testing.assert_array_equal(mine, other, err_msg=field.name)
        else:
            assert mine == other, field.name


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_a_written_hand_reads_back_exactly_and_is_still_marked(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"hand{suffix}"
    write_standin(path, seed=3)
    hand = read_hand(path, dtype=torch.float64)
    same_hand(hand, dataclasses.replace(standin_arrays(3), joints=hand.body.arrays().joints))
    assert hand.is_standin
    assert hand.body.label == f"{LABEL} 3"
    write_hand(hand, tmp_path / f"again{suffix}")
    same_hand(read_hand(tmp_path / f"again{suffix}", dtype=torch.float64), hand.body.arrays())


def test_the_pickle_has_the_keys_and_types_of_manos_file(tmp_path: Path) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    write_standin(path)
    raw = pickle.loads(path.read_bytes(), encoding="latin1")
    shapes = {
        "v_template": (np.float64, (778, 3)),
        "shapedirs": (np.float64, (778, 3, 10)),
        "posedirs": (np.float64, (778, 3, 135)),
        "J": (np.float64, (16, 3)),
        "weights": (np.float64, (778, 16)),
        "kintree_table": (np.uint32, (2, 16)),
        "f": (np.uint32, (1538, 3)),
        "hands_components": (np.float64, (45, 45)),
        "hands_mean": (np.float64, (45,)),
        "hands_coeffs": (np.float64, (1, 45)),
    }
    assert {
        key: (value.dtype.type, value.shape) for key, value in raw.items() if isinstance(value, np.ndarray)
    } == shapes
    assert isinstance(raw["J_regressor"], scipy.sparse.csc_matrix)
    assert raw["J_regressor"].shape == (16, 778)
    assert (raw["bs_style"], raw["bs_type"], raw["label"]) == ("lbs", "lrotmin", f"{LABEL} 0")
    assert raw["kintree_table"][0, 0] == 2**32 - 1
    np.testing.assert_allclose(raw["J_regressor"] @ raw["v_template"], raw["J"], rtol=0, atol=1e-15)


@pytest.fixture
def chumpy(monkeypatch: pytest.MonkeyPatch) -> Callable[[np.ndarray], Any]:
    """A Python object as chumpy pickles one: the released file holds its shape directions so."""

    class Ch:
        def __init__(self, x: np.ndarray) -> None:
            self.x = x

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module = types.ModuleType("chumpy.ch")
    module.Ch = Ch  # type: ignore[attr-defined]
    package = types.ModuleType("chumpy")
    package.ch = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "chumpy", package)
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    return Ch


def test_a_file_with_chumpy_is_converted_to_plain_arrays_with_nothing_lost(
    chumpy: Callable[[np.ndarray], Any], tmp_path: Path
) -> None:
    source, target, again = (tmp_path / name for name in ("MANO_RIGHT.pkl", "mano.npz", "again.pkl"))
    write_standin(source)
    raw = pickle.loads(source.read_bytes(), encoding="latin1")
    plain = dict(raw)
    raw |= {"shapedirs": chumpy(raw["shapedirs"]), "hands_coeffs": np.arange(90.0).reshape(2, 45)}
    del raw["label"]
    source.write_bytes(pickle.dumps(raw, protocol=2))
    convert_mano(source, target)
    convert_mano(target, again)
    with np.load(target, allow_pickle=False) as stored:
        assert set(stored.files) == set(raw)
        np.testing.assert_array_equal(stored["shapedirs"], plain["shapedirs"])
        np.testing.assert_array_equal(stored["hands_coeffs"], raw["hands_coeffs"])
        assert stored["f"].dtype == np.uint32
        assert str(stored["bs_type"]) == "lrotmin"
    assert set(read_content(again)) == set(raw)
    first, second = (read_hand(path, dtype=torch.float64) for path in (source, again))
    same_hand(second, first.body.arrays())
    assert not second.is_standin


def test_keys_that_are_no_numbers_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    write_standin(path)
    raw = pickle.loads(path.read_bytes(), encoding="latin1") | {"notes": {"made": "by hand"}, "ragged": [[1], [1, 2]]}
    path.write_bytes(pickle.dumps(raw, protocol=2))
    with caplog.at_level(logging.WARNING):
        convert_mano(path, tmp_path / "mano.npz")
    assert "left out notes, ragged" in caplog.text
    with np.load(tmp_path / "mano.npz", allow_pickle=False) as stored:
        assert set(stored.files) == set(raw) - {"notes", "ragged"}


def test_a_folder_holds_both_hands_and_the_left_gets_its_own_shapes(tmp_path: Path) -> None:
    right = standin_arrays()
    models = tmp_path / "models"
    models.mkdir()
    released = dataclasses.replace(mirror_arrays(right), shapedirs=right.shapedirs)
    write_hand(right, models / "MANO_RIGHT.pkl")
    write_hand(released, models / "MANO_LEFT.npz")
    for path in (tmp_path, models, models / "MANO_LEFT.npz"):
        fixed = read_hand(path, "left", dtype=torch.float64)
        np.testing.assert_array_equal(fixed.body.shapedirs, mirror_arrays(right).shapedirs)
    as_released = read_hand(tmp_path, "left", fix_left_shapes=False, dtype=torch.float64)
    np.testing.assert_array_equal(as_released.body.shapedirs, right.shapedirs)
    same_hand(
        read_hand(tmp_path, dtype=torch.float64),
        dataclasses.replace(right, joints=right.joint_regressor @ right.template),
    )


def test_a_missing_file_says_what_where_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_hand(tmp_path / "MANO_RIGHT.pkl")
    assert str(caught.value) == (
        f"MANO_RIGHT: not found (looked for {tmp_path}/MANO_RIGHT.pkl); its licence lets nobody pass it on: register at "
        "https://mano.is.tue.mpg.de, download it and set hand.mano_path to the file (null: the stand-in hand)"
    )
    with pytest.raises(InputError, match=r"MANO_LEFT: .*models/MANO_LEFT\.npz.* set --left to the file"):
        read_hand(tmp_path, "left", config_field="--left")


def test_a_left_hand_alone_asks_for_the_right_one_that_its_fix_needs(tmp_path: Path) -> None:
    path, right = tmp_path / "MANO_LEFT.pkl", tmp_path / "elsewhere.npz"
    write_hand(mirror_arrays(standin_arrays()), path)
    with pytest.raises(InputError, match="MANO_RIGHT: not found"):
        read_hand(path, "left")
    write_standin(right)
    assert read_hand(path, "left", right_path=right).faces.shape == (1538, 3)
    assert read_hand(path, "left", fix_left_shapes=False).faces.shape == (1538, 3)


def test_a_hand_of_the_other_side_is_refused(tmp_path: Path) -> None:
    write_standin(tmp_path / "MANO_LEFT.npz")
    with pytest.raises(InputError, match=r"MANO_LEFT\.npz: v_template: a right hand, expected a left one"):
        read_hand(tmp_path, "left", fix_left_shapes=False)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "mean": ({"hands_mean": None}, r"hands_mean: missing, expected \(45,\)"),
    "components": ({"hands_components": np.eye(45)[:6]}, r"hands_components: 6 rows, expected \(45, 45\)"),
    "pose": ({"posedirs": None}, "posedirs: missing"),
    "shape": ({"shapedirs": np.zeros((778, 3, 20))}, "shapedirs: 20 shape directions, expected 10"),
    "faces": ({"f": np.zeros((1554, 3), np.uint32)}, "f: 1554 faces, expected 1538"),
    "tree": (
        {"kintree_table": np.stack([np.arange(-1, 15) % 2**32, np.arange(16)])},
        r"kintree_table: parents \[-1, 0, 1, 2, 3,",
    ),
    "template": ({"v_template": np.zeros((777, 3))}, r"weights: shape \(778, 16\), expected \(777, 16\)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_file_that_is_no_mano_hand_is_told_by_key(kind: str, tmp_path: Path) -> None:
    changes, message = WRONG[kind]
    write_standin(tmp_path / "hand.npz")
    content = {
        key: value for key, value in (read_content(tmp_path / "hand.npz") | changes).items() if value is not None
    }
    np.savez(tmp_path / "MANO_RIGHT.npz", **content)
    for use in (read_hand, mano_info, lambda path: convert_mano(path, tmp_path / "out.npz")):
        with pytest.raises(InputError, match=rf"MANO_RIGHT\.npz: {message}"):
            use(tmp_path / "MANO_RIGHT.npz")


def test_a_body_that_is_no_hand_is_told_all_at_once() -> None:
    body = BodyModel(dataclasses.replace(standin_arrays(), hands_mean=None, hands_components=None, posedirs=None))
    with pytest.raises(ValueError, match=r"(?s)posedirs: missing.*hands_mean: missing.*hands_components: missing"):
        HandModel(body)


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hand\.obj: unknown kind of file '\.obj'; expected \.pkl or \.npz"):
        write_standin(tmp_path / "hand.obj")


@pytest.mark.parametrize("from_file", [True, False])
def test_the_info_tells_what_the_file_holds(from_file: bool, tmp_path: Path) -> None:
    path = tmp_path / "MANO_RIGHT.pkl" if from_file else None
    if path:
        write_standin(path)
    info = mano_info(path)
    assert (info["side"], info["vertices"], info["faces"], info["pose_components"]) == ("right", 778, 1538, 45)
    assert info["joints"] == list(MANO_JOINT_NAMES)
    assert info["root_rest_mm"] == [95.7, 6.4, 6.2]
    assert info["label"] == f"{LABEL} 0"
    assert info["is_standin"]
    assert info["path"] == (None if path is None else str(path))
