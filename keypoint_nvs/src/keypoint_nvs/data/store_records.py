"""A sample as the arrays of its group, and back."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keypoint_nvs.data.records import Cameras, Keypoints, MultiviewSample
from posecore.errors import InputError


def arrays_of(sample: MultiviewSample) -> dict[str, np.ndarray]:
    """What is stored of it; the dtypes are the sample's own."""
    arrays = {"cond_imgs": sample.cond_imgs, "target_imgs": sample.target_imgs}
    if sample.cond_camera is not None:
        arrays["cond_cam_from_world"] = sample.cond_camera.cam_from_world[0]
        arrays["cond_K"] = sample.cond_camera.K[0]
    if sample.target_cameras is not None:
        arrays["target_cam_from_world"] = sample.target_cameras.cam_from_world
        arrays["target_K"] = sample.target_cameras.K
    if sample.keypoints is not None:
        arrays["keypoints_world"] = sample.keypoints.world
        arrays["keypoints_visible"] = sample.keypoints.visible.astype(np.uint8)
    return arrays


def attributes_of(sample: MultiviewSample) -> dict[str, str | float]:
    """Those that are known."""
    known: dict[str, str | float] = {}
    if sample.category:
        known["category"] = sample.category
    for name in ("azimuth_deg", "elevation_deg"):
        value = getattr(sample, name)
        if value is not None:
            known[name] = float(value)
    return known


def sample_of(
    sample_id: str, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any], where: str
) -> MultiviewSample:
    """
    Raises:
        InputError: An attribute is of another type, or an angle is not finite.
    """
    cond = arrays.get("cond_cam_from_world")
    target = arrays.get("target_cam_from_world")
    world = arrays.get("keypoints_world")
    return MultiviewSample(
        sample_id=sample_id,
        cond_imgs=arrays["cond_imgs"],
        target_imgs=arrays["target_imgs"],
        cond_camera=None if cond is None else Cameras(cond[None], arrays["cond_K"][None]),
        target_cameras=None if target is None else Cameras(target, arrays["target_K"]),
        keypoints=None if world is None else Keypoints(world, arrays["keypoints_visible"].astype(np.bool_)),
        category=_category(attributes, where),
        azimuth_deg=_angle(attributes, "azimuth_deg", where),
        elevation_deg=_angle(attributes, "elevation_deg", where),
    )


def _category(attributes: Mapping[str, Any], where: str) -> str:
    value = attributes.get("category", "")
    if not isinstance(value, str):
        raise InputError(f"{where}: attribute category is {value!r}; text is expected")
    return value


def _angle(attributes: Mapping[str, Any], name: str, where: str) -> float | None:
    value = attributes.get(name)
    if value is None:
        return None
    if not isinstance(value, float | int) or not math.isfinite(value):
        raise InputError(f"{where}: attribute {name} is {value!r}; a finite number of degrees is expected")
    return float(value)
