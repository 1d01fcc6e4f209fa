"""Cameras, poses and boxes as BOP writes them, in shards and in scene folders alike.

Convention: `cam_R_m2c` has 9 numbers row by row, `cam_t_m2c` millimetres; both map the model to the camera.
Source: docs/bop_datasets_format.md of the BOP toolkit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from posecore.errors import InputError
from vpog.data.annotation_json import describe, entry, number, numbers, rows, whole_number
from vpog.data.records import InstanceRecord
from vpog.data.rle import Rle

ROTATION_TOLERANCE = 1e-3
"""Largest entry of R R^T - I: files with four digits pass, a scaled matrix does not."""


@dataclass(frozen=True)
class CameraLabels:
    """Of one picture."""

    K: Float[np.ndarray, "3 3"]
    depth_scale: float | None
    """Millimetres that one count of the depth picture stands for; None: the file does not say."""


@dataclass(frozen=True)
class ObjectLabels:
    """All objects of one picture, in the order of the file."""

    obj_id: Int64[np.ndarray, " n"]
    cam_from_obj_mm: Float[np.ndarray, "n 4 4"]
    visib_fract: Float[np.ndarray, " n"]
    bbox_visib_xywh: Float[np.ndarray, "n 4"]
    bbox_obj_xywh: Float[np.ndarray, "n 4"]

    def __len__(self) -> int:
        return len(self.obj_id)


def camera_labels(value: Any, where: str) -> CameraLabels:
    """Of {cam_K, depth_scale}.

    Raises:
        InputError: A field is missing or wrong.
    """
    K = check_K(numbers(entry(value, "cam_K", where), (9,), f"{where}: cam_K").reshape(3, 3), f"{where}: cam_K")
    scale = value.get("depth_scale")
    if scale is not None and number(scale, f"{where}: depth_scale") <= 0:
        raise InputError(f"{where}: depth_scale: is {scale}, expected millimetres per count, above 0")
    return CameraLabels(K, None if scale is None else float(scale))


def check_K(K: Float[np.ndarray, "3 3"], where: str) -> Float[np.ndarray, "3 3"]:
    """
    Raises:
        InputError: No focal length above 0, or a last row other than 0 0 1.
    """
    if not (K[0, 0] > 0 and K[1, 1] > 0):
        raise InputError(f"{where}: has focal lengths {K[0, 0]:g} and {K[1, 1]:g} px, expected both above 0")
    if not np.array_equal(K[2], [0.0, 0.0, 1.0]):
        raise InputError(f"{where}: its last row is {K[2].tolist()}, expected 0 0 1 (9 numbers row by row)")
    return K


def check_rotation(rotation: Float[np.ndarray, "3 3"], where: str) -> Float[np.ndarray, "3 3"]:
    """
    Raises:
        InputError: It is no rotation: scaled, sheared or a mirror.
    """
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    determinant = np.linalg.det(rotation)
    if error > ROTATION_TOLERANCE or determinant < 0:
        raise InputError(
            f"{where}: is no rotation (R R^T differs from 1 by {error:.2g}, determinant {determinant:.3g}); "
            "expected 9 numbers row by row of an orthonormal, right-handed matrix"
        )
    return rotation


def object_labels(gt: Any, gt_info: Any, where_gt: str, where_info: str) -> ObjectLabels:
    """Of the two lists of one picture.

    Raises:
        InputError: They differ in length, or a field is missing or wrong.
    """
    obj_id, visib_fract, bbox_visib_xywh = visible_objects(gt, gt_info, where_gt, where_info)
    poses = np.tile(np.eye(4), (len(obj_id), 1, 1))
    bbox_obj_xywh = np.zeros((len(obj_id), 4))
    for place, (pose, info) in enumerate(zip(gt, gt_info, strict=True)):
        here, there = f"{where_gt}[{place}]", f"{where_info}[{place}]"
        rotation = numbers(entry(pose, "cam_R_m2c", here), (9,), f"{here}.cam_R_m2c").reshape(3, 3)
        poses[place, :3, :3] = check_rotation(rotation, f"{here}.cam_R_m2c")
        poses[place, :3, 3] = numbers(entry(pose, "cam_t_m2c", here), (3,), f"{here}.cam_t_m2c")
        bbox_obj_xywh[place] = numbers(entry(info, "bbox_obj", there), (4,), f"{there}.bbox_obj")
    return ObjectLabels(obj_id, poses, visib_fract, bbox_visib_xywh, bbox_obj_xywh)


def visible_objects(
    gt: Any, gt_info: Any, where_gt: str, where_info: str
) -> tuple[Int64[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, "n 4"]]:
    """Only object ids, visible fractions and visible boxes (x, y, w, h) of one picture: all that an index needs.

    Raises:
        InputError: As `object_labels`.
    """
    if len(rows(gt, where_gt)) != len(rows(gt_info, where_info)):
        raise InputError(
            f"{where_info}: has {len(gt_info)} entries, {where_gt} has {len(gt)}; both list the same objects"
        )
    ids = [
        whole_number(entry(row, "obj_id", f"{where_gt}[{i}]"), f"{where_gt}[{i}].obj_id") for i, row in enumerate(gt)
    ]
    visible = [visible_fraction(row, f"{where_info}[{i}]") for i, row in enumerate(gt_info)]
    boxes = np.zeros((len(ids), 4))
    for place, row in enumerate(gt_info):
        here = f"{where_info}[{place}]"
        boxes[place] = numbers(entry(row, "bbox_visib", here), (4,), f"{here}.bbox_visib")
    return np.array(ids, dtype=np.int64), np.array(visible, dtype=np.float64), boxes


def visible_fraction(row: Any, where: str) -> float:
    """
    Raises:
        InputError: It is missing or not in 0..1.
    """
    value = number(entry(row, "visib_fract", where), f"{where}.visib_fract")
    if not 0.0 <= value <= 1.0:
        raise InputError(f"{where}.visib_fract: is {value:g}, expected 0 to 1")
    return value


def instance_masks(value: Any, visib_fract: Float[np.ndarray, " n"], size_hw: tuple[int, int], where: str) -> list[Rle]:
    """Of {"0": run lengths, ...}; null stands for an object without a visible pixel.

    Raises:
        InputError: One is missing, damaged, or of another size than the picture.
    """
    return [
        _mask(entry(value, str(place), where), bool(fraction == 0), size_hw, f"{where}[{place}]")
        for place, fraction in enumerate(visib_fract)
    ]


def _mask(value: Any, is_invisible: bool, size_hw: tuple[int, int], where: str) -> Rle:
    if value is None and is_invisible:
        return Rle((size_hw[0] * size_hw[1],), size_hw)
    mask = Rle.from_json(value, where)
    check_size(mask.size_hw, size_hw, where)
    return mask


def check_size(found_hw: Sequence[int], size_hw: tuple[int, int], where: str) -> None:
    """
    Raises:
        InputError: They differ.
    """
    if tuple(found_hw) != size_hw:
        raise InputError(
            f"{where}: is {found_hw[0]} x {found_hw[1]} (height x width), the picture is {size_hw[0]} x {size_hw[1]}"
        )


def instance_records(
    labels: ObjectLabels, masks_visib: Sequence[Rle], masks: Sequence[Rle] | None
) -> tuple[InstanceRecord, ...]:
    """One record an object, with arrays of its own: labels may be kept and read again."""
    return tuple(
        InstanceRecord(
            gt_index=place,
            obj_id=int(labels.obj_id[place]),
            cam_from_obj_mm=labels.cam_from_obj_mm[place].copy(),
            visib_fract=float(labels.visib_fract[place]),
            bbox_visib_xywh=labels.bbox_visib_xywh[place].copy(),
            bbox_obj_xywh=labels.bbox_obj_xywh[place].copy(),
            mask_visib=masks_visib[place],
            mask=None if masks is None else masks[place],
        )
        for place in range(len(labels))
    )


def scene_and_image(key: str, where: str) -> tuple[int, int]:
    """Of a key `SSSSSS_IIIIII`.

    Raises:
        InputError: It is none.
    """
    scene, _, image = key.rpartition("/")[2].partition("_")
    if not (scene.isdecimal() and image.isdecimal()):
        raise InputError(f"{where}: its key {describe(key)} is not SCENE_IMAGE in digits, as in 000012_000045")
    return int(scene), int(image)


def image_key(scene_id: int, image_id: int) -> str:
    return f"{scene_id:06d}_{image_id:06d}"
