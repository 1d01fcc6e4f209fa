"""MANO's files: found, read without running anything, checked, written and converted."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse
import torch

from handvit.hand import mirror
from handvit.hand.model import HandModel, JointSource, find_hand_problems
from handvit.joints import FINGERTIPS, MANO_JOINT_NAMES
from posecore.bodymodel import BodyArrays, BodyModel, read_arrays, read_content, to_pickle
from posecore.errors import InputError

logger = logging.getLogger(__name__)

Side = Literal["right", "left"]
MANO_PAGE = "https://mano.is.tue.mpg.de"
_NO_PARENT = 4294967295
_SUFFIXES = (".pkl", ".npz")
_STORABLE = "biufUS"


def read_hand(
    path: Path | None,
    side: Side = "right",
    fix_left_shapes: bool = True,
    *,
    right_path: Path | None = None,
    tips: tuple[int, ...] = FINGERTIPS["smplx"],
    joint_source: JointSource = "kinematic",
    dtype: torch.dtype = torch.float32,
    config_field: str = "hand.mano_path",
) -> HandModel:
    """The hand of a MANO file (.pkl or .npz), or of a folder that holds MANO_RIGHT and MANO_LEFT.

    None: the embedded stand-in. `fix_left_shapes` gives a left hand the mirrored shape directions that the released file
    lacks, by comparison with the right hand's file (`right_path`, or MANO_RIGHT beside it); labels fitted before that was
    known (DexYCB) want False. `config_field` is what messages tell the user to set.

    Raises:
        InputError: The file is missing, no MANO hand, or the other side's; names the file and the key.
    """
    if path is None:
        from handvit.standin import standin_arrays

        arrays = standin_arrays()
        arrays = mirror.mirror_arrays(arrays) if side == "left" else arrays
    else:
        arrays = _read_side(find_hand_file(path, side, config_field), side)
        if side == "left" and fix_left_shapes:
            right_file = find_hand_file(right_path or _beside(path), "right", config_field)
            arrays = mirror.fix_left_shapes(arrays, _read_side(right_file, "right"))
    return HandModel(BodyModel(arrays, dtype), tips=tips, joint_source=joint_source)


def find_hand_file(path: Path, side: Side, config_field: str = "hand.mano_path") -> Path:
    """The file itself, or MANO_RIGHT / MANO_LEFT in a folder or its `models`.

    Raises:
        InputError: There is none; says where it was looked for and where to get it.
    """
    name = f"MANO_{side.upper()}"
    candidates = [path]
    if path.suffix not in _SUFFIXES:
        candidates = [folder / f"{name}{suffix}" for folder in (path, path / "models") for suffix in _SUFFIXES]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise InputError(
            f"{name}: not found (looked for {', '.join(map(str, candidates))}); its licence lets nobody pass it on: "
            f"register at {MANO_PAGE}, download it and set {config_field} to the file (null: the stand-in hand)"
        )
    return found


def _beside(left: Path) -> Path:
    return left.parent if left.suffix in _SUFFIXES else left


def _read_side(path: Path, side: Side) -> BodyArrays:
    arrays = read_hand_arrays(path)
    if (found := hand_side(arrays)) != side:
        raise InputError(f"{path}: v_template: a {found} hand, expected a {side} one")
    return arrays


def read_hand_arrays(path: Path) -> BodyArrays:
    """The arrays of a MANO file of either side, as they are.

    Raises:
        InputError: Not a MANO hand; names the file and the key.
    """
    arrays = read_arrays(path)
    if problems := find_hand_problems(BodyModel(arrays)):
        raise InputError([f"{path}: {problem}" for problem in problems])
    return dataclasses.replace(arrays, joint_names=MANO_JOINT_NAMES)


def hand_side(arrays: BodyArrays) -> Side:
    """Told by the flat hand: MANO's right fingers point to -x, its left ones to +x."""
    regressor = arrays.joint_regressor
    assert regressor is not None  # read_arrays
    wrist, middle = regressor[[0, MANO_JOINT_NAMES.index("middle1")]] @ arrays.template[:, 0]
    return "right" if wrist > middle else "left"


def write_hand(hand: HandModel | BodyArrays, path: Path) -> None:
    """Write `path` (.pkl or .npz) in MANO's layout: its keys and types, the regressor sparse in a .pkl."""
    arrays = hand.body.arrays() if isinstance(hand, HandModel) else hand
    regressor = arrays.joint_regressor
    assert regressor is not None  # find_hand_problems
    content: dict[str, Any] = {
        "v_template": arrays.template,
        "shapedirs": arrays.shapedirs,
        "posedirs": arrays.posedirs,
        "J_regressor": regressor,
        "J": regressor @ arrays.template,
        "weights": arrays.weights,
        "kintree_table": np.stack([np.where(arrays.parents < 0, _NO_PARENT, arrays.parents), np.arange(16)]),
        "f": arrays.faces,
        "hands_components": arrays.hands_components,
        "hands_mean": arrays.hands_mean,
        "hands_coeffs": np.zeros((1, 45)),  # of the mean pose: nobody was scanned
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }
    if arrays.label is not None:
        content["label"] = arrays.label
    for key in ("kintree_table", "f"):
        content[key] = content[key].astype(np.uint32)
    _write_content(content, path)


def convert_mano(source: Path, target: Path) -> None:
    """Rewrite a MANO file as .npz (or .pkl) with plain arrays of the same types: no chumpy, no Python objects.

    Keys that hold neither numbers nor text are left out with a warning.

    Raises:
        InputError: The source is no MANO hand, or the target neither .pkl nor .npz.
    """
    read_hand_arrays(source)
    content = read_content(source)
    strange = sorted(key for key, value in content.items() if not _is_storable(value))
    if strange:
        logger.warning("%s: left out %s: neither numbers nor text", source, ", ".join(strange))
    _write_content({key: value for key, value in content.items() if key not in strange}, target)


def _is_storable(value: Any) -> bool:
    try:
        return np.asarray(value).dtype.kind in _STORABLE
    except ValueError:  # a ragged list
        return False


def _write_content(content: Mapping[str, Any], path: Path) -> None:
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in content.items()}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".pkl":
        plain = {key: value.tolist() if value.dtype.kind in "US" else value for key, value in arrays.items()}
        path.write_bytes(to_pickle(plain | {"J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"])}))
    else:
        raise InputError(f"{path}: unknown kind of file {path.suffix!r}; expected .pkl or .npz")


def mano_info(path: Path | None) -> dict[str, Any]:
    """What a MANO file holds (None: the embedded stand-in), as plain values for JSON: lengths in mm, shape zero.

    Raises:
        InputError: Not a MANO hand.
    """
    if path is None:
        from handvit.standin import standin_arrays

        arrays = standin_arrays()
    else:
        arrays = read_hand_arrays(path)
    hand = HandModel(BodyModel(arrays, torch.float64))
    zero = torch.zeros(10, dtype=torch.float64)
    regressor = arrays.joint_regressor
    assert regressor is not None  # read_arrays
    assert arrays.posedirs is not None  # find_hand_problems
    return {
        "path": None if path is None else str(path),
        "label": arrays.label,
        "is_standin": hand.is_standin,
        "side": hand_side(arrays),
        "vertices": len(arrays.template),
        "faces": len(arrays.faces),
        "joints": list(arrays.joint_names),
        "shape_directions": arrays.shapedirs.shape[2],
        "pose_directions": arrays.posedirs.shape[2],
        "pose_components": len(hand.hands_components),
        "regressor_entries": int(np.count_nonzero(regressor)),
        "most_weights_per_vertex": int((arrays.weights > 0).sum(axis=1).max()),
        "middle_finger_mm": float(hand.rest_size_mm(zero)),
        "root_rest_mm": [round(1000 * value, 3) for value in hand.root_rest_m(zero).tolist()],
        "largest_shape_direction_mm": float(1000 * np.abs(arrays.shapedirs).max()),
    }
