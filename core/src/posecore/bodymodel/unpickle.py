"""Reading a pickle without running anything that the file names.

Every global of the file becomes a freshly made recorder class: it keeps the arguments and the state that the pickle
hands to it and does nothing else. A second pass turns the recorded calls of an allow-list into plain numpy values.
Thus no name of the file is imported, called or changed, whatever the order of its opcodes.
"""

import io
import math
import pickle
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Shaped

from posecore.errors import InputError

_SPARSE = re.compile(r"(csc|csr|coo)_(matrix|array)")
_KINDS = {
    ("numpy", "dtype"): "dtype",
    ("numpy", "ndarray"): "ndarray",
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy.core.numeric", "_frombuffer"): "buffer",
    ("_codecs", "encode"): "bytes",
    ("builtins", "bytes"): "empty bytes",  # how protocols below 3 write b""
    ("__builtin__", "bytes"): "empty bytes",
    ("chumpy.ch", "Ch"): "chumpy",
    ("chumpy.reordering", "Select"): "chumpy select",
    ("copyreg", "_reconstructor"): "old object",
    ("copy_reg", "_reconstructor"): "old object",
    ("builtins", "object"): "class",
    ("__builtin__", "object"): "class",
    ("builtins", "set"): "set",
    ("__builtin__", "set"): "set",
}
# Fixed-width numbers and text only: an object dtype would hand out what the file likes, a structured one can hide it.
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU]\d{1,4})")
_MAX_DEPTH = 16
_DAMAGE = (
    OSError,
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
)


def load_arrays(path: Path) -> dict[str, Any]:
    """The dict of a model's pickle, its arrays as numpy (sparse matrices dense, chumpy nodes as their values).

    Raises InputError where the file is no pickle of a dict, is damaged, or names a global that no model needs.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: not a readable pickle: {error}; expected a body model's .pkl") from error
    content = _load(data, str(path), "a model file", "a body model's .pkl")
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}; expected a dict with v_template, f, weights, ...")
    decoder, arrays = _Decoder(), {}
    for key, value in content.items():
        try:
            arrays[str(key)] = decoder.decode(value)
        except _DAMAGE as error:
            raise InputError(f"{path}: {key}: {error}") from error
    return arrays


def load_list(data: bytes, name: str) -> list[Any]:
    """The items of a pickled list: numbers, text, bytes and arrays.

    Raises InputError, which names `name`, where it is no pickle of a list, is damaged, or names any other global.
    """
    content = _load(data, name, "a list of pictures or arrays", "a list")
    if not isinstance(content, list | tuple):
        raise InputError(f"{name}: holds a {type(content).__name__}; expected a list")
    decoder = _Decoder()
    try:
        return [decoder.decode(item) for item in content]
    except _DAMAGE as error:
        raise InputError(f"{name}: {error}") from error


def load_items(data: bytes, name: str, keys: Collection[str]) -> dict[str, Any]:
    """The items of a pickled dict that `keys` names and it has; the others are not looked at.

    Raises InputError, which names `name`, where it is no pickle of a dict, is damaged, or names any other global
    anywhere.
    """
    content = _load(data, name, "a file of numbers", "a dict of numbers and arrays")
    if not isinstance(content, dict):
        raise InputError(f"{name}: holds a {type(content).__name__}; expected a dict with {', '.join(keys)}")
    decoder, items = _Decoder(), {}
    for key in [key for key in keys if key in content]:
        try:
            items[key] = decoder.decode(content[key])
        except _DAMAGE as error:
            raise InputError(f"{name}: {key}: {error}") from error
    return items


def _load(data: bytes, name: str, kind: str, expected: str) -> Any:
    try:
        return _Recorder(data, name, kind).load()
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(f"{name}: not a readable pickle: {error}; expected {expected}") from error


class _Recorded:
    """Stands for what a global of the file would have made."""

    kind: ClassVar[str]
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> "_Recorded":
        made = super().__new__(cls)
        made.args, made.state = args, None
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Recorder(pickle.Unpickler):
    def __init__(self, data: bytes, name: str, kind: str) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.name, self.kind = name, kind

    def find_class(self, module: str, name: str) -> type[_Recorded]:
        known = _KINDS.get((module.replace("numpy._core", "numpy.core"), name))
        if module.split(".")[:2] == ["scipy", "sparse"] and _SPARSE.fullmatch(name):
            known = name[:3]
        if known is None:
            raise InputError(f"{self.name}: {module}.{name}: not allowed in {self.kind}; expected numpy arrays only")
        # A new class each time: a pickle can set attributes on classes, and must not reach one that anybody else holds.
        return type(name, (_Recorded,), {"kind": known})


class _Decoder:
    """Recorded calls to values. Each node is decoded once, so that shared ones cost nothing and cycles end."""

    def __init__(self) -> None:
        self.done: dict[int, Any] = {}
        self.depth = 0

    def decode(self, value: Any) -> Any:
        if value is None or isinstance(value, str | bytes | bytearray | bool | int | float):
            return value
        if id(value) not in self.done:
            if self.depth == _MAX_DEPTH:
                raise ValueError(f"nested deeper than {_MAX_DEPTH} levels; no model file is")
            self.depth += 1
            self.done[id(value)] = self._decode_new(value)
            self.depth -= 1
        return self.done[id(value)]

    def _decode_new(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self.decode(item) for item in value]
        if isinstance(value, dict):
            return {str(key): self.decode(item) for key, item in value.items()}
        if isinstance(value, set | frozenset):
            return value
        if isinstance(value, _Recorded):
            return self._call(value)
        raise ValueError(f"a bare {getattr(value, '__name__', type(value).__name__)} where a value belongs")

    def _call(self, node: _Recorded) -> Any:
        kind, args = node.kind, node.args
        if kind == "old object":  # Python 2's way to make an instance; the state follows as for any other
            kind = args[0].kind
        match kind:
            case "dtype":
                return _dtype(args[0], node.state)
            case "array":
                shape, dtype, fortran, raw = node.state[-4:]
                return _array(shape, self._dtype(dtype), self._bytes(raw), "F" if fortran else "C")
            case "buffer":
                raw, dtype, shape, order, *axes = args
                if order not in ("C", "F") or any(axis is not None for axis in axes):
                    raise ValueError(f"array in memory order {order!r}; expected C or F")
                return _array(shape, self._dtype(dtype), self._bytes(raw), order)
            case "scalar":
                return _array((), self._dtype(args[0]), self._bytes(args[1]), "C")[()]
            case "bytes":
                return str(args[0]).encode("latin1")
            case "empty bytes" if not args:
                return b""
            case "set":
                return self.decode(args[0]) if args else []
            case "csc" | "csr" | "coo":
                return _dense(kind, self.decode(node.state))
            case "chumpy":
                return self._chumpy(node.state)
            case "chumpy select":
                state = self.decode(node.state)
                return np.ravel(state["a"])[state["idxs"]].reshape(state["preferred_shape"])
        raise ValueError(f"{type(node).__name__} is no array")

    def _dtype(self, node: Any) -> "np.dtype[Any]":
        dtype = self.decode(node)
        if not isinstance(dtype, np.dtype):
            raise ValueError(f"array of type {dtype!r}; expected a numpy dtype")
        return dtype

    def _bytes(self, node: Any) -> bytes:
        raw = self.decode(node)
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 wrote bytes as str
        if not isinstance(raw, bytes | bytearray):
            raise ValueError(f"array content is a {type(raw).__name__}; expected bytes (object arrays are not read)")
        return bytes(raw)

    def _chumpy(self, state: Any) -> Any:
        """A chumpy node is worth its field x, or the first array among its state."""
        if isinstance(state, dict) and "x" in state:
            return self.decode(state["x"])
        items = list(state.values()) if isinstance(state, dict) else list(state or ())
        for value in map(self.decode, items):
            if isinstance(value, np.ndarray):
                return value
        raise ValueError("chumpy node without an array")


def _dtype(code: Any, state: Any) -> "np.dtype[Any]":
    """numpy.dtype(code), with the byte order that the state of its pickle holds."""
    if not isinstance(code, str) or not _DTYPE.fullmatch(code):
        raise ValueError(f"array of dtype {code!r}; expected fixed-size numbers or text")
    order = state[1] if state else "="
    if order not in ("<", ">", "=", "|"):
        raise ValueError(f"byte order {order!r}; expected one of < > = |")
    return np.dtype(order + code.lstrip("<>=|"))


def _array(shape: Any, dtype: "np.dtype[Any]", raw: bytes, order: Any) -> Shaped[np.ndarray, "..."]:
    shape = tuple(int(n) for n in ([shape] if isinstance(shape, int) else shape))
    if min(shape, default=0) < 0 or len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(raw)} bytes for shape {shape} of {dtype}")
    flat = np.frombuffer(raw, dtype) if raw else np.zeros(0, dtype)
    return flat.reshape(shape, order=order)


def _dense(kind: str, state: Mapping[str, Any]) -> Shaped[np.ndarray, "rows cols"]:
    """A scipy.sparse matrix from its attributes; entries at the same place add up, as in scipy."""
    rows, cols = (int(n) for n in state.get("_shape", state.get("shape")))
    data = np.asarray(state["data"])
    if kind == "coo":
        row, col = state["coords"] if "coords" in state else (state["row"], state["col"])
    else:
        lengths = np.diff(state["indptr"])
        if len(lengths) != (cols if kind == "csc" else rows):
            raise ValueError(f"sparse matrix of shape ({rows}, {cols}) with {len(lengths)} index pointers")
        major = np.repeat(np.arange(len(lengths)), lengths)
        row, col = (state["indices"], major) if kind == "csc" else (major, state["indices"])
    dense = np.zeros((rows, cols), data.dtype)
    if len(data) and (np.min(row) < 0 or np.min(col) < 0):
        raise ValueError("sparse matrix with a negative index")
    np.add.at(dense, (row, col), data)
    return dense
