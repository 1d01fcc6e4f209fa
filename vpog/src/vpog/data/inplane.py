"""Turning a template in its picture's plane: the picture AND its pose, so that every label stays right."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

from posecore.errors import InputError
from vpog.data.template_set import TemplateSet
from vpog.data.warping import crop_depth, crop_mask, warp_rgb
from vpog.views import rotations_about_axis


class RotatedTemplate(NamedTuple):
    """The same object and camera axis, turned."""

    rgb: UInt8[np.ndarray, "size size 3"]
    """Black outside the mask."""
    mask: Bool[np.ndarray, "size size"]
    depth_mm: Float32[np.ndarray, "size size"]
    """Unchanged values: a turn about the axis leaves z."""
    K: Float64[np.ndarray, "3 3"]
    cam_from_obj_mm: Float64[np.ndarray, "4 4"]


def rotate_template_inplane(
    rgb: UInt8[np.ndarray, "size size 3"],
    mask: Bool[np.ndarray, "size size"],
    depth_mm: Float32[np.ndarray, "size size"],
    K: Float[np.ndarray, "3 3"],
    cam_from_obj_mm: Float[np.ndarray, "4 4"],
    angle: float,
    *,
    refit: bool = True,
) -> RotatedTemplate:
    """A template turned counter-clockwise by `angle` (radians) about its principal point; its pose by Rz(-angle).

    Pixels move by K Rz(-angle) K^-1, which is exact also where fx and fy differ a little.

    Args:
        refit: Scale and shift the turned silhouette so that its square fills the picture again, K with it; without it
            K stays, and what turns out of the picture is lost.

    Convention: by pi / 2, with the principal point in the middle, what was at the right is at the top, and an object
    at t = (1, 0, 5) comes to (0, -1, 5).

    Raises:
        InputError: The mask is empty.
    """
    K = np.asarray(K, dtype=np.float64)
    size = len(mask)
    turn = rotations_about_axis(np.array([-angle]))[0]
    out_from_picture = K @ turn @ np.linalg.inv(K)
    if refit:
        out_from_picture = _refitted(out_from_picture, mask) @ out_from_picture
        K = out_from_picture @ K @ turn.T
    turned_mask = crop_mask(mask, out_from_picture, size)
    turned_pose = np.asarray(cam_from_obj_mm, dtype=np.float64).copy()
    turned_pose[:3] = turn @ turned_pose[:3]
    return RotatedTemplate(
        warp_rgb(rgb, out_from_picture, size) * turned_mask[..., None],
        turned_mask,
        crop_depth(depth_mm, out_from_picture, size),
        K,
        turned_pose,
    )


def rotate_templates(templates: TemplateSet, angles: Float[np.ndarray, " v"], *, refit: bool = True) -> TemplateSet:
    """Each view turned by its own angle (radians), as `rotate_template_inplane` does it."""
    turned = [
        rotate_template_inplane(
            templates.rgb[i],
            templates.mask[i],
            templates.depth_mm[i],
            templates.K[i],
            templates.cam_from_obj_mm[i],
            float(angles[i]),
            refit=refit,
        )
        for i in range(len(templates))
    ]
    rgb, mask, depth_mm, K, cam_from_obj_mm = (np.stack(column) for column in zip(*turned, strict=True))
    return TemplateSet(templates.obj_id, templates.view_ids, rgb, mask, depth_mm, K, cam_from_obj_mm)


def _refitted(out_from_picture: Float64[np.ndarray, "3 3"], mask: np.ndarray) -> Float64[np.ndarray, "3 3"]:
    """Scale and shift after which the silhouette's longer side fills the picture."""
    rows = np.flatnonzero(mask.any(1))
    if len(rows) == 0:
        raise InputError("template mask: no pixel is set; a template without an object cannot be fitted to its picture")
    first, last = mask[rows].argmax(1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(1)
    ends = np.stack([np.concatenate([first, last]), np.concatenate([rows, rows])], axis=-1)  # no pixel lies further out
    pixels = ends @ out_from_picture[:2, :2].T + out_from_picture[:2, 2]
    low, high = pixels.min(0) - 0.5, pixels.max(0) + 0.5
    scale = len(mask) / (high - low).max()
    shift = (len(mask) - 1) / 2 - scale * (low + high) / 2
    return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]], [0.0, 0.0, 1.0]])
