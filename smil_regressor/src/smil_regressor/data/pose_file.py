"""What sources ask of a file of samples, and the checks that its readers share."""

import json
from typing import Any, Literal, Protocol, cast, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from posecore.data.hdf5 import Hdf5Reader
from posecore.errors import InputError
from smil_regressor.data.sample import Sample

WorldFrame = Literal["world", "first_view"]
"""The frame of a sample's 3D labels: one world for the whole data set (of a calibration, or of the body), or the frame
of the sample's first calibrated view in the order of cameras, whose camera is then the identity."""

ORTHONORMAL_WITHIN = 1e-3
"""Largest deviation of R R^T from the identity in a file; float32 and text formats stay far below."""


@runtime_checkable
class PoseFile(Protocol):
    """A file of n samples with up to v views each; lengths are scaled to metres where the file knows its unit."""

    table: Hdf5Reader
    joint_names: tuple[str, ...] | None
    """None: the file does not say; its joints are taken to be the model's."""
    num_joints: int
    num_betas: int
    camera_order: tuple[str, ...]
    """Names that `slots` points into."""
    world_scale: float | None
    """Metres per unit of the file's lengths; None: unknown, lengths stay in the file's unit."""
    world_frame: WorldFrame
    sessions: list[str]
    frames: Int[np.ndarray, " n"]
    view_mask: Bool[np.ndarray, "n v"]
    slots: Int[np.ndarray, "n v"]

    def __len__(self) -> int: ...

    def read(
        self, index: int, views: Int[np.ndarray, " k"], resolution: int, pictures: bool = True, masks: bool = True
    ) -> Sample:
        """These views of a sample, in the file's order of joints; without pictures, images and masks are 0 x 0.

        Without `masks` none is read, and `has_mask` is False.
        """
        ...


def joint_names_of(table: Hdf5Reader, num_joints: int) -> tuple[str, ...] | None:
    """Names in `metadata.joint_names`, checked against the arrays."""
    text = table.attribute("joint_names")
    if text is None:
        return None
    names = tuple(json_list(table, "joint_names", text))
    if len(names) != num_joints:
        raise InputError(
            f"{table.path}: metadata.joint_names: {len(names)} names, but the keypoints have {num_joints} joints"
        )
    return names


def json_list(table: Hdf5Reader, name: str, text: str) -> list[str]:
    try:
        values = json.loads(text)
    except (TypeError, json.JSONDecodeError):
        values = None
    if not isinstance(values, list):
        raise InputError(f"{table.path}: metadata.{name}: a JSON list of names is needed, found {text!r}")
    return [str(value) for value in values]


def world_scale_of(table: Hdf5Reader, given: float | None) -> float | None:
    """The file's own attribute, or the caller's where the file has none; two that differ are an error."""
    stored = table.attribute("world_scale")
    if stored is None or given is None or abs(stored - given) <= 1e-9 * abs(stored):
        return given if stored is None else float(stored)
    raise InputError(f"{table.path}: metadata.world_scale is {stored:g}, but {given:g} was asked for; leave it out")


def world_frame_of(table: Hdf5Reader) -> WorldFrame | None:
    """`metadata.world_frame`; None where the file does not say it."""
    stored = table.attribute("world_frame")
    if stored is not None and stored not in get_args(WorldFrame):
        raise InputError(f"{table.path}: metadata.world_frame: {stored!r}; one of {', '.join(get_args(WorldFrame))}")
    return cast(WorldFrame | None, stored)


def check_cameras(
    where: str, K: Float[np.ndarray, "k 3 3"], R: Float[np.ndarray, "k 3 3"], t: Float[np.ndarray, "k 3"]
) -> None:
    """Cameras that are said to be known must be finite, focal lengths positive and rotations proper.

    Args:
        where: Start of the message: file, sample and group.
    """
    for name, values in (("camera_intrinsics", K), ("camera_extrinsics_R", R), ("camera_extrinsics_t", t)):
        if not np.isfinite(values).all():
            raise InputError(f"{where}/{name}: {_odd(values)}; a calibrated camera has finite numbers")
    if (K[:, [0, 1], [0, 1]] <= 0).any():
        raise InputError(f"{where}/camera_intrinsics: focal lengths {K[:, [0, 1], [0, 1]].min():g}; positive is right")
    error = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max(initial=0)
    if error > ORTHONORMAL_WITHIN or (np.linalg.det(R) < 0).any():
        raise InputError(
            f"{where}/camera_extrinsics_R: not a rotation (R R^T is off the identity by {error:.2g}, "
            f"smallest determinant {np.linalg.det(R).min():.2f})"
        )


def _odd(values: Float[np.ndarray, "..."]) -> str:
    return "NaN" if np.isnan(values).any() else "an infinite number"


def known_points(
    points: Float[np.ndarray, "j 3"], flags: Bool[np.ndarray, " j"] | None
) -> tuple[Float[np.ndarray, "j 3"], Bool[np.ndarray, " j"]]:
    """3D keypoints and which of them exist; without flags, NaN and (0, 0, 0) are missing, as SMILify writes them."""
    finite = np.isfinite(points).all(1)
    known = finite & (np.abs(points).max(1) > 0 if flags is None else flags)
    return np.where(known[:, None], points, 0.0), known


def labelled_points(
    yx01: Float[np.ndarray, "*k j 2"], visibility: Float[np.ndarray, "*k j"]
) -> Float[np.ndarray, "*k j"]:
    """Visibility, 0 where the 2D keypoint is NaN or (0, 0), which is how SMILify writes a missing one."""
    missing = ~np.isfinite(yx01).all(-1) | (yx01 == 0).all(-1) | ~(visibility > 0)
    return np.where(missing, 0.0, visibility)


def finite(key: str, name: str, values: Any) -> Any:
    """The values, or an error that names sample and dataset."""
    if not np.isfinite(values).all():
        raise InputError(f"{key}: {name}: NaN or infinite; finite numbers are needed")
    return values
