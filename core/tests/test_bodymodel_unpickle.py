"""A model's pickle may come from anywhere: nothing that it names runs, and what it holds is read."""

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal

from posecore.bodymodel.unpickle import load_arrays, load_items, load_list
from posecore.errors import InputError

PROTOCOLS = pytest.mark.parametrize("protocol", [0, 2, 4, 5])


class Command:
    """Pickles to a call, with arguments of the attacker's choice."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def dump(path: Path, content: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@PROTOCOLS
@pytest.mark.parametrize("function", [os.system, eval, exec, os.mkdir, getattr], ids=lambda function: function.__name__)
def test_a_pickled_command_is_refused_and_does_not_run(
    function: Callable[..., Any], protocol: int, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    statement = f"__import__('os').mkdir({str(mark)!r})"
    argument = {"system": f"mkdir {mark}", "mkdir": str(mark)}.get(function.__name__, statement)
    file = dump(tmp_path / "model.pkl", {"v_template": Command(function, argument)}, protocol)
    with pytest.raises(InputError, match=rf"model.pkl: \w+\.{function.__name__}: not allowed in a model file"):
        load_arrays(file)
    assert not mark.exists()
    if function is os.mkdir:
        pickle.loads(file.read_bytes())
        assert mark.exists(), "the attack of this test does nothing"


def test_a_command_inside_an_object_array_does_not_run(tmp_path: Path) -> None:
    array = np.array([Command(os.mkdir, str(tmp_path / "ran"))], dtype=object)
    with pytest.raises(InputError, match=r"posix.mkdir: not allowed"):
        load_arrays(dump(tmp_path / "model.pkl", {"J": array}))
    assert not (tmp_path / "ran").exists()


def test_object_arrays_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model.pkl: J: array of dtype 'O8'; expected fixed-size numbers or text"):
        load_arrays(dump(tmp_path / "model.pkl", {"J": np.array([{"a": 1}], dtype=object)}))


def test_setting_attributes_of_an_allowed_name_reaches_nobody(tmp_path: Path) -> None:
    # A state of (None, {name: value}): pickle calls setattr with it on whatever lies on the stack, here a function.
    state = b"N}X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86b"
    attack = b"\x80\x02}X\x01\x00\x00\x00Jcnumpy._core.numeric\n_frombuffer\n" + state + b"s."
    before = np._core.numeric._frombuffer.__defaults__
    (tmp_path / "model.pkl").write_bytes(attack)
    with pytest.raises(InputError, match=r"model.pkl: not a readable pickle"):
        load_arrays(tmp_path / "model.pkl")
    assert np._core.numeric._frombuffer.__defaults__ == before
    pickle.loads(attack)
    changed, np._core.numeric._frombuffer.__defaults__ = np._core.numeric._frombuffer.__defaults__, before
    assert changed == (1,), "the attack of this test does nothing"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scipy.sparse.linalg\nsvds", r"scipy.sparse.linalg.svds: not allowed"),
        ("numpy\nload", r"numpy.load: not allowed"),
        ("posecore.bodymodel.unpickle\nload_arrays", r"load_arrays: not allowed"),
        ("numpy.core.multiarray\nscalar.__class__", r"scalar.__class__: not allowed"),
    ],
)
def test_names_near_the_allowed_ones_are_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"\x80\x02c" + name.encode() + b"\n)R.")
    with pytest.raises(InputError, match=message):
        load_arrays(tmp_path / "model.pkl")


def test_lists_that_hold_themselves_are_refused(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InputError, match="nested deeper than 16 levels"):
        load_arrays(dump(tmp_path / "model.pkl", {"f": loop}))


def test_lists_that_double_at_each_level_are_read_once(tmp_path: Path) -> None:
    doubling: list[Any] = []
    for _ in range(14):
        doubling = [doubling] * 1000
    assert len(load_arrays(dump(tmp_path / "model.pkl", {"f": doubling}))["f"]) == 1000


@PROTOCOLS
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "u4", "i2", ">f8", "b1", "U5"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3)])
def test_arrays_come_back_as_they_were(shape: tuple[int, ...], dtype: str, protocol: int, tmp_path: Path) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    content = {"plain": array, "fortran": np.asfortranarray(array), "number": array.dtype.type(1)}
    back = load_arrays(dump(tmp_path / "model.pkl", content, protocol))
    for key, value in content.items():
        assert_array_equal(back[key], value)
        assert np.asarray(back[key]).dtype == np.asarray(value).dtype


@PROTOCOLS
@pytest.mark.parametrize("kind", ["csc_matrix", "csr_matrix", "coo_matrix", "csc_array"])
def test_sparse_matrices_come_back_dense(kind: str, protocol: int, tmp_path: Path) -> None:
    dense = np.random.default_rng(0).binomial(1, 0.2, (5, 8)) * 0.5
    back = load_arrays(dump(tmp_path / "model.pkl", {"J_regressor": getattr(scipy.sparse, kind)(dense)}, protocol))
    assert_array_equal(back["J_regressor"], dense)


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_the_chumpy_nodes_of_mano_are_read_without_chumpy(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = {"ch": "Ch", "reordering": "Select"}
    made: dict[str, Any] = {}
    monkeypatch.setitem(sys.modules, "chumpy", ModuleType("chumpy"))
    for module, name in nodes.items():
        monkeypatch.setitem(sys.modules, f"chumpy.{module}", ModuleType(f"chumpy.{module}"))
        made[name] = type(name, (), {"__module__": f"chumpy.{module}"})
        setattr(sys.modules[f"chumpy.{module}"], name, made[name])
    source = np.arange(24.0).reshape(4, 3, 2)
    node, select, old = made["Ch"](), made["Select"](), made["Ch"]()
    node.__dict__.update(x=source, _dirty_vars={"x"}, _itr=None)
    select.__dict__.update(a=node, idxs=np.arange(0, 24, 2), preferred_shape=(4, 3, 1))
    old.__dict__.update(dterms=("x",), value=source[0])
    file = dump(tmp_path / "model.pkl", {"v_template": node, "shapedirs": select, "old": old}, protocol)
    monkeypatch.undo()
    back = load_arrays(file)
    assert_array_equal(back["v_template"], source)
    assert_array_equal(back["shapedirs"], source[..., :1])
    assert_array_equal(back["old"], source[0])


def test_python_2_text_pickles_are_read(tmp_path: Path) -> None:
    raw = np.array([1.5, -2.0]).tobytes()
    escaped = "".join(f"\\x{byte:02x}" for byte in raw)
    text = (
        "(dp0\nS'J'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nRp7\n"
        "(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'f8'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nb"
        f"I00\nS'{escaped}'\np15\ntp16\nbs."
    )
    (tmp_path / "model.pkl").write_bytes(text.encode())
    assert_array_equal(load_arrays(tmp_path / "model.pkl")["J"], [1.5, -2.0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable pickle: Ran out of input"),
        (b"\x80\x02}X\x01\x00", "not a readable pickle: pickle data was truncated"),
        (b"<html>not here</html>", "not a readable pickle"),
        (b"\x80\x02]\x95.", "not a readable pickle"),
        (b"\x80\x02]q\x00.", "holds a list; expected a dict with v_template"),
        (b"\x80\x02}X\x01\x00\x00\x00Jcnumpy.core.multiarray\n_reconstruct\n)Rs.", "J: "),
        (b"\x80\x02}X\x01\x00\x00\x00Jcnumpy\ndtype\nX\x02\x00\x00\x00V8\x85Rs.", "J: array of dtype 'V8'"),
        (b"\x80\x02}X\x01\x00\x00\x00Jcnumpy\nndarray\n)Rs.", "J: ndarray is no array"),
    ],
)
def test_damaged_files_are_told_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_arrays(tmp_path / "model.pkl")
    assert str(caught.value).startswith(f"{tmp_path / 'model.pkl'}: {message}")
    assert "\n" not in str(caught.value)


def test_an_array_with_too_few_bytes_is_told(tmp_path: Path) -> None:
    pickled = pickle.dumps({"J": np.arange(4.0)}, protocol=5)
    (tmp_path / "model.pkl").write_bytes(pickled.replace(b"K\x04\x85", b"K\x05\x85"))
    with pytest.raises(InputError, match=r"J: 32 bytes for shape \(5,\) of float64"):
        load_arrays(tmp_path / "model.pkl")


@PROTOCOLS
def test_a_list_of_bytes_and_arrays_comes_back(protocol: int) -> None:
    items = [b"\xff\xd8", b"", np.arange(4, dtype=np.uint8)]
    first, empty, array = load_list(pickle.dumps(items, protocol), "frames")
    assert (first, empty) == (b"\xff\xd8", b"")
    np.testing.assert_array_equal(array, items[2])


def test_a_list_that_is_none_or_names_a_command_is_told() -> None:
    for content, message in (
        ({}, "frames: holds a dict; expected a list"),
        ([os.system], "system: not allowed in a list"),
    ):
        with pytest.raises(InputError, match=message):
            load_list(pickle.dumps(content), "frames")
    with pytest.raises(InputError, match="frames: not a readable pickle"):
        load_list(b"nothing", "frames")


@PROTOCOLS
def test_named_items_of_a_dict_come_back_and_the_others_are_not_read(protocol: int) -> None:
    content = {"pose": np.arange(3.0), "none": None, "box": [np.int64(3), 4], "odd": np.array([{}], dtype=object)}
    items = load_items(pickle.dumps(content, protocol), "meta.pkl", ("pose", "none", "box", "missing"))
    assert items.keys() == {"pose", "none", "box"}
    np.testing.assert_array_equal(items["pose"], content["pose"])
    assert items["none"] is None
    assert items["box"] == [3, 4]


def test_a_command_among_the_items_that_nobody_asked_for_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps({"pose": 1.0, "objName": Command(os.mkdir, str(tmp_path / "ran"))})
    with pytest.raises(InputError, match=r"meta.pkl: posix.mkdir: not allowed in a file of numbers"):
        load_items(data, "meta.pkl", ("pose",))
    with pytest.raises(InputError, match=r"meta.pkl: holds a list; expected a dict with pose"):
        load_items(pickle.dumps([1]), "meta.pkl", ("pose",))
    with pytest.raises(InputError, match=r"meta.pkl: odd: array of dtype 'O8'"):
        load_items(pickle.dumps({"odd": np.array([{}], dtype=object)}), "meta.pkl", ("odd",))
    assert not (tmp_path / "ran").exists()
