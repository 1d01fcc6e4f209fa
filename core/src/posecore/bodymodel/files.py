"""Body model files: the .pkl of SMPL, MANO, SMAL and SMIL, or the same keys in an .npz."""

import logging
import pickle
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped

from posecore.bodymodel.arrays import FILE_KEYS, Array, BodyArrays, find_problems, parents_first, reorder_joints
from posecore.bodymodel.model import BodyModel
from posecore.bodymodel.unpickle import load_arrays
from posecore.errors import InputError

logger = logging.getLogger(__name__)

_NO_PARENT = 4294967295  # -1 where a file holds uint32
_FLOATS = {  # optional fields by rank; an empty list or array means that the field is absent
    "joints": 2,
    "posedirs": 3,
    "shape_cov": 2,
    "shape_mean": 1,
    "hands_components": 2,
    "hands_mean": 1,
}
_KEYS = frozenset(
    {"v_template", "f", "weights", "kintree_table", "shapedirs", "J_names", "J_regressor", "static_joint_locs"}
    | {"scaledirs", "transdirs", "sym_verts", "label"}
    | {FILE_KEYS.get(field, field) for field in _FLOATS}
)


def read_model(path: str | Path, dtype: torch.dtype = torch.float32) -> BodyModel:
    """The model in `path` (.pkl or .npz), its arrays rounded to `dtype`.

    Joints whose parent comes later are put in an order where parents come first, with a warning: then address joints by
    name. Raises InputError, one line a problem that names the file and the key.
    """
    return BodyModel(read_arrays(path), dtype)


def read_arrays(path: str | Path) -> BodyArrays:
    """The arrays of `read_model`, as the file has them: to change them before they become a model."""
    path = Path(path)
    arrays = _parse(read_content(path, _KEYS), path)
    if problems := find_problems(arrays):
        raise InputError([f"{path}: {problem}" for problem in problems])
    if (arrays.parents >= np.arange(len(arrays.parents))).any():
        order = parents_first(arrays.parents)
        moved = [arrays.joint_names[old] for new, old in enumerate(order) if new != old]
        logger.warning("%s: kintree_table: parents come after their children; moved joints %s", path, ", ".join(moved))
        arrays = reorder_joints(arrays, order)
    return arrays


def read_content(path: str | Path, keys: Collection[str] | None = None) -> dict[str, Any]:
    """The keys of a .pkl or .npz as arrays, texts and numbers, read without running anything; not checked further.

    `keys`: only these of an .npz are read. Raises InputError where the file is missing or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a body model (.pkl or .npz)")
    return _load_npz(path, keys) if path.suffix == ".npz" else load_arrays(path)


def write_model(model: BodyModel, path: str | Path) -> None:
    """Write `path`: .pkl (protocol 2, plain numpy, the keys and types of SMIL files) or .npz (no pickled objects)."""
    path = Path(path)
    content = _to_keys(model.arrays())
    if path.suffix == ".npz":
        np.savez(path, **content)
    elif path.suffix == ".pkl":
        path.write_bytes(to_pickle(content | {"J_names": list(model.joint_names)}))
    else:
        raise InputError(f"{path}: unknown kind of file {path.suffix!r}; expected .pkl or .npz")


def to_pickle(content: Mapping[str, Any]) -> bytes:
    """Protocol 2, with names that NumPy 1 and 2 know.

    NumPy 2 calls its core numpy._core, which NumPy before 1.26 cannot import; both know the old name. The first
    occurrence is the import itself, for it comes before the bytes of the first array.
    """
    written = pickle.dumps(dict(content), protocol=2)
    return written.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1)


def _load_npz(path: Path, keys: Collection[str] | None) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files if keys is None or key in keys}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable .npz: {error}; expected arrays without pickled objects") from error


def _parse(raw: Mapping[str, Any], path: Path) -> BodyArrays:
    """Types and file conventions; whether the arrays fit together is for `find_problems`."""
    parents = _parents(_numbers(raw, "kintree_table", 2, path, whole=True), path)
    static = bool(np.any(raw.get("static_joint_locs", False)))
    optional = {field: _optional(raw, FILE_KEYS.get(field, field), rank, path) for field, rank in _FLOATS.items()}
    template = _numbers(raw, "v_template", 2, path)
    no_shape = np.zeros((*template.shape, 0))
    shapedirs = _optional(raw, "shapedirs", 3, path)
    return BodyArrays(
        template=template,
        faces=_numbers(raw, "f", 2, path, whole=True),
        weights=_numbers(raw, "weights", 2, path),
        parents=parents,
        joint_names=_names(raw, len(parents), path),
        shapedirs=no_shape if shapedirs is None else shapedirs,
        static_joints=static,
        joint_regressor=None if static else _numbers(raw, "J_regressor", 2, path),
        scaledirs=_limb_directions(raw, "scaledirs", len(parents), path),
        transdirs=_limb_directions(raw, "transdirs", len(parents), path),
        sym_verts=_optional(raw, "sym_verts", 1, path, whole=True),
        label=str(raw["label"]) if "label" in raw else None,
        **optional,
    )


def _names(raw: Mapping[str, Any], joints: int, path: Path) -> tuple[str, ...]:
    """Joint names; files of MANO, SMPL and the first SMAL have none, and their joints are called by number."""
    names = np.asarray(raw.get("J_names", []))
    if names.size and (names.dtype.kind != "U" or names.ndim != 1):
        raise InputError(f"{path}: J_names: {names.dtype} of shape {names.shape}; expected a list of names")
    return tuple(names.tolist()) or tuple(f"joint_{i}" for i in range(joints))


def _optional(
    raw: Mapping[str, Any], key: str, rank: int, path: Path, whole: bool = False
) -> Shaped[Array, "..."] | None:
    """As `_numbers`; None where the key is missing or empty."""
    value = raw.get(key)
    empty = value is None or (isinstance(value, list) and not value) or (isinstance(value, Array) and not value.size)
    return None if empty else _numbers(raw, key, rank, path, whole)


def _numbers(raw: Mapping[str, Any], key: str, rank: int, path: Path, whole: bool = False) -> Shaped[Array, "..."]:
    """`raw[key]` as float64, or as int64 where whole numbers are asked for."""
    if key not in raw:
        raise InputError(f"{path}: {key}: missing; expected an array with {rank} axes (found {', '.join(sorted(raw))})")
    try:
        value = np.asarray(raw[key])
    except ValueError as error:
        raise InputError(f"{path}: {key}: {error}; expected an array with {rank} axes") from error
    kinds, wanted = ("iu", "whole numbers") if whole else ("fiu", "numbers")
    if value.dtype.kind not in kinds or value.ndim != rank:
        raise InputError(f"{path}: {key}: {value.dtype} of shape {value.shape}; expected {wanted} with {rank} axes")
    numbers: Shaped[Array, "..."] = value.astype(np.int64 if whole else np.float64)
    return numbers


def _parents(table: Int[Array, "rows j"], path: Path) -> Int[Array, " j"]:
    """Row 0 names each joint's parent by the ids of row 1; the root's parent is -1 or its unsigned form."""
    if len(table) != 2 or table.shape[1] == 0:
        raise InputError(f"{path}: kintree_table: shape {table.shape}; expected (2, J): parents and joint ids")
    parents: Array = np.where(table[0] == _NO_PARENT, -1, table[0])
    ids = table[1]
    if len(set(ids.tolist())) != len(ids):
        raise InputError(f"{path}: kintree_table: joint ids {ids.tolist()} repeat; expected each once")
    if np.array_equal(ids, np.arange(len(ids))):
        return parents
    unknown = set(parents.tolist()) - set(ids.tolist()) - {-1}
    if unknown:
        raise InputError(
            f"{path}: kintree_table: parents {sorted(unknown)} are no joint ids; expected ids of row 1 or -1"
        )
    column = {int(joint): index for index, joint in enumerate(ids)} | {-1: -1}
    return np.array([column[int(parent)] for parent in parents])


def _limb_directions(raw: Mapping[str, Any], key: str, joints: int, path: Path) -> Float[Array, "s j 3"] | None:
    """(s, j, 3), or (j, s, 3) turned round. Which axis is which is told by the joints: s may be 3 as well."""
    value = _optional(raw, key, 3, path)
    if value is None or (value.shape[1], value.shape[2]) == (joints, 3):
        return value
    if (value.shape[0], value.shape[2]) == (joints, 3):
        return value.transpose(1, 0, 2)
    raise InputError(f"{path}: {key}: shape {value.shape}; expected (coefficients, {joints}, 3)")


def _to_keys(arrays: BodyArrays) -> dict[str, Any]:
    """The dict of a file, typed as the original's exporter types it."""
    regressor = arrays.joint_regressor
    if regressor is None:
        regressor = np.zeros(arrays.weights.T.shape)
    joints = regressor @ arrays.template if arrays.joints is None else arrays.joints
    content: dict[str, Any] = {
        "f": arrays.faces.astype(np.int32),
        "J_regressor": regressor.astype(np.float32),
        "kintree_table": np.stack([arrays.parents, np.arange(len(arrays.parents))]).astype(np.int32),
        "J": joints.astype(np.float32),
        "bs_style": "lbs",
        "weights": arrays.weights.astype(np.float32),
        "posedirs": np.zeros(0) if arrays.posedirs is None else arrays.posedirs,
        "v_template": arrays.template,
        "shapedirs": arrays.shapedirs,
        "bs_type": "lrotmin",
        "J_names": np.array(arrays.joint_names),
    }
    if arrays.static_joints:
        content["static_joint_locs"] = True
    if arrays.label is not None:
        content["label"] = arrays.label
    for field in ("sym_verts", "scaledirs", "transdirs", "shape_cov", "shape_mean", "hands_components", "hands_mean"):
        if (value := getattr(arrays, field)) is not None:
            content[FILE_KEYS.get(field, field)] = value
    return content
