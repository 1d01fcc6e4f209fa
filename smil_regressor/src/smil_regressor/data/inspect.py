"""A look inside a data file: what it holds in numbers, and pictures of its samples."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from posecore.draw import draw_keypoints, draw_mask_outline, draw_skeleton, joint_colors, tile
from smil_regressor.data.files import open_file
from smil_regressor.data.multiview_file import MultiViewFile
from smil_regressor.data.pose_file import PoseFile
from smil_regressor.data.sample import Sample

CHECKED_SAMPLES = 200
"""Samples whose labels `describe` reads, evenly spread."""


def describe(path: Path) -> dict[str, Any]:
    """Contents of a file as plain values: sizes, sessions, cameras, joints, and the share of samples with each label.

    Raises:
        InputError: The file or one of the checked samples is damaged.
    """
    file = open_file(path)
    n, v = file.view_mask.shape
    checked = np.unique(np.linspace(0, n - 1, min(n, CHECKED_SAMPLES)).round().astype(int))
    samples = [read_labels(file, int(index)) for index in checked]
    version = file.table.attribute("layout_version")
    return {
        "path": str(path),
        "kind": "multi-view" if isinstance(file, MultiViewFile) else "single-view",
        "layout": "original" if version is None else f"version {version}",
        "samples": n,
        "sessions": dict(Counter(file.sessions)),
        "views": {"slots": v, "fewest": int(file.view_mask.sum(1).min()), "mean": float(file.view_mask.sum(1).mean())},
        "cameras": {name: int((file.slots == i).sum()) for i, name in enumerate(file.camera_order)},
        "joints": file.num_joints,
        "joint_names": list(file.joint_names) if file.joint_names else None,
        "betas": file.num_betas,
        "target_resolution": file.table.attribute("target_resolution"),
        "world_scale_m": file.world_scale,
        "world_frame": file.world_frame,
        "checked_samples": len(samples),
        "labels": _availability(samples),
    }


def overlay(
    path: Path, index: int, parents: Sequence[int] | None = None, resolution: int = 384
) -> UInt8[np.ndarray, "h w 3"]:
    """All views of a sample on one sheet, with keypoints, mask outline and, where `parents` are given, the skeleton.

    Raises:
        InputError: The sample is damaged.
    """
    file = open_file(path)
    views = np.flatnonzero(file.view_mask[index])
    sample = file.read(index, views, resolution)
    colors = joint_colors(file.joint_names or [str(j) for j in range(file.num_joints)])
    pictures = [draw_labels(sample, view, colors, parents) for view in range(len(views))]
    captions = [
        f"{file.camera_order[slot]}: {int((sample.visibility[view] > 0).sum())}/{file.num_joints} joints"
        + ("" if sample.has_camera[view] else ", no camera")
        for view, slot in enumerate(sample.camera_slots)
    ]
    return tile(pictures, captions)


def draw_labels(
    sample: Sample, view: int, colors: Int[np.ndarray, "j 3"], parents: Sequence[int] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """One view of a sample with its 2D labels."""
    picture = sample.images[view]
    if sample.has_mask[view]:
        picture = draw_mask_outline(picture, sample.masks[view])
    points, visible = sample.keypoints_px[view], sample.visibility[view] > 0
    if parents is None:
        return draw_keypoints(picture, points, visible, colors)
    return draw_skeleton(picture, points, parents, visible, colors)


def read_labels(file: PoseFile, index: int) -> Sample:
    """All valid views of a sample without pictures."""
    return file.read(index, np.flatnonzero(file.view_mask[index]), 1, pictures=False)


def _availability(samples: list[Sample]) -> dict[str, float]:
    """Share of samples (views, keypoints) with each label."""
    flags = {
        **{"global_rot": "has_root_rotation", "joint_rot": "has_joint_rotations", "betas": "has_betas"},
        **{"trans": "has_translation", "log_beta_scales": "has_log_scales", "betas_trans": "has_joint_offsets"},
        **{"cameras": "has_camera", "silhouette": "has_mask", "keypoint_3d": "has_keypoints_world"},
    }
    shares = {name: _share([getattr(s, flag) for s in samples]) for name, flag in flags.items()}
    return shares | {"keypoint_2d": _share([s.visibility > 0 for s in samples])}


def _share(flags: list[Any]) -> float:
    return float(np.concatenate([np.atleast_1d(flag).ravel() for flag in flags]).mean())
