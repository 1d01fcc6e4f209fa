"""Whether a sample is what the format says: the same checks for what is written and for what is read."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from keypoint_nvs.data.store_format import DTYPES, PAIRS, PICTURES, StoreHeader
from posecore.errors import InputError

ROTATION_TOLERANCE = 1e-3
"""Largest entry of R R^T - I; float32 cameras of other programs stay below 1e-5."""


LEAST_FOCAL = 0.1
"""Of focal lengths, in sides of the picture (a field of 157 degrees): below it K is in other units than pixels."""


@runtime_checkable
class Stored(Protocol):
    """An array, or a dataset that is not read yet."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...


def check_keys(names: Iterable[str], header: StoreHeader, where: str) -> None:
    """
    Raises:
        InputError: A key is missing or unknown, or half of a pair; names it and the key that was probably meant.
    """
    present, known = set(names), set(DTYPES)
    for name in sorted(present - known):
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"a sample has {', '.join(DTYPES)}"
        raise InputError(f"{where}: {name}: no such key; {hint}")
    needed = [*PICTURES, *(PAIRS[0] + PAIRS[1] if header.rig == "free" else ())]
    for name in needed:
        if name not in present:
            why = " (rig is free: each sample brings its cameras)" if name not in PICTURES else ""
            raise InputError(f"{where}: {name} is missing{why}")
    for pair in PAIRS:
        lacking = [name for name in pair if name not in present]
        if len(lacking) == 1:
            other = next(name for name in pair if name in present)
            raise InputError(f"{where}: {lacking[0]} is missing beside {other}; give both or none")


def check_layout(arrays: Mapping[str, Stored], header: StoreHeader, where: str) -> None:
    """
    Raises:
        InputError: Another dtype or shape than the format's; names the key.
    """
    num_keypoints = arrays["keypoints_world"].shape[:1] if "keypoints_world" in arrays else ()
    for name, shape in header.shapes().items():
        if name not in arrays:
            continue
        found = arrays[name]
        if found.dtype != np.dtype(DTYPES[name]):
            raise InputError(f"{where}: {name}: dtype is {found.dtype}, expected {DTYPES[name]}")
        expected = tuple(num_keypoints[0] if s == "J" and num_keypoints else s for s in shape)
        if tuple(found.shape) != expected:
            text = ", ".join(str(s) for s in shape)
            raise InputError(
                f"{where}: {name}: shape is {tuple(found.shape)}, expected ({text}){_hint(name, found.shape, expected)}"
            )
    if num_keypoints == (0,):
        raise InputError(f"{where}: keypoints_world has no keypoint; leave out both keys of a sample without")


def _hint(name: str, found: tuple[int, ...], expected: tuple[int | str, ...]) -> str:
    if name in PICTURES and len(found) == len(expected) and found[-1] == 4 and expected[-1] != 4:
        return "; channels come before rows"
    if name in PICTURES and len(found) == len(expected) and found[-3] == 3:
        return "; pictures are RGBA: alpha 255 where there is no transparency"
    if len(found) == len(expected) and name.startswith("target") and found[0] != expected[0]:
        return f"; a sample has {expected[0]} target views"
    return ""


def check_values(arrays: Mapping[str, np.ndarray], header: StoreHeader, where: str) -> None:
    """
    Raises:
        InputError: Cameras or keypoints are not finite, a rotation is none, intrinsics are none, or a visibility is
            neither 0 nor 1; names key and view.
    """
    for name, values in arrays.items():
        if values.dtype == np.float32 and not np.isfinite(values).all():
            place = np.argwhere(~np.isfinite(values))[0].tolist()
            raise InputError(f"{where}: {name}: {values[tuple(place)]} at {place}; a finite number is needed")
    for name in ("cond_cam_from_world", "target_cam_from_world"):
        if name in arrays:
            _check_rigid(arrays[name].reshape(-1, 4, 4), f"{where}: {name}")
    for name in ("cond_K", "target_K"):
        if name in arrays:
            _check_intrinsics(arrays[name].reshape(-1, 3, 3), header, f"{where}: {name}")
    visible = arrays.get("keypoints_visible")
    if visible is not None and (visible > 1).any():
        raise InputError(f"{where}: keypoints_visible: holds {int(visible.max())}; 0 is hidden, 1 visible")


def _check_rigid(cam_from_world: Float[np.ndarray, "v 4 4"], where: str) -> None:
    rot = cam_from_world[:, :3, :3].astype(np.float64)
    off = np.abs(rot @ rot.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    last_row = np.abs(cam_from_world[:, 3] - np.array([0, 0, 0, 1], np.float32)).max(1)
    wrong = (off > ROTATION_TOLERANCE) | (np.linalg.det(rot) < 0) | (last_row > 0)
    if wrong.any():
        view = int(np.argmax(wrong))
        raise InputError(
            f"{where}: view {view}: is no rigid map (rotation off by {off[view]:.2g}, determinant "
            f"{np.linalg.det(rot[view]):.2g}, last row {cam_from_world[view, 3].tolist()}; 0, 1 and [0, 0, 0, 1] are right)"
        )


def _check_intrinsics(K: Float[np.ndarray, "v 3 3"], header: StoreHeader, where: str) -> None:
    size = np.array([header.width, header.height])
    focal, centre = np.stack([K[:, 0, 0], K[:, 1, 1]], 1), K[:, :2, 2]
    wrong = (focal < LEAST_FOCAL * size).any(1) | (centre < -0.5).any(1) | (centre > size - 0.5).any(1)
    wrong |= (K[:, 1, 0] != 0) | (K[:, 2] != np.array([0, 0, 1], np.float32)).any(1)
    if wrong.any():
        view = int(np.argmax(wrong))
        raise InputError(
            f"{where}: view {view}: {K[view].tolist()} are no intrinsics in pixels of pictures {header.width} wide and "
            f"{header.height} high; [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] is right"
        )
