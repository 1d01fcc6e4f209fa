"""Fitted poses as labels: the data file again, with parameters that a network can be trained on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from posecore.bodymodel import BodyModel
from posecore.errors import InputError
from smil_regressor.data.hdf5_multiview import MultiViewWriter
from smil_regressor.data.sample import Sample
from smil_regressor.data.source import MultiViewSource
from smil_regressor.fitting.optimise import Fit


def label_writer(
    path: Path, source: MultiViewSource, model: BodyModel, smal_sha256: str | None, origin: Path
) -> MultiViewWriter:
    """A multi-view file for the source's samples, in metres where the source knows its unit.

    Raises:
        InputError: The file would replace the one that is read.
    """
    if path.resolve() == origin.resolve():
        raise InputError(f"--write-labels {path}: is the file that is read; give another name")
    return MultiViewWriter(
        path,
        joint_names=model.joint_names,
        num_betas=model.num_betas,
        max_views=source.view_slots,
        canonical_camera_order=source.camera_order,
        target_resolution=source.resolution,
        world_scale=None if source.world_scale is None else 1.0,  # readers give metres
        world_frame=source.world_frame,
        smal_sha256=smal_sha256,
        metadata={"pose_labels": "fitted", "pose_labels_from": origin.name},
    )


def with_fit(sample: Sample, fit: Fit, row: int) -> Sample:
    """The sample with the fitted parameters and cameras in place of its own.

    Its keypoints stay what they are; 3D ones that were not fitted are left out, for they may contradict the fit.
    """

    def fitted(name: str) -> np.ndarray:
        value = getattr(fit.body, name)[row].cpu().numpy()
        return np.asarray(value, np.float32)

    has_limbs = fit.body.log_scales is not None
    limbs: dict[str, Any] = {
        name: fitted(name) if has_limbs else np.zeros_like(getattr(sample, name))
        for name in ("log_scales", "joint_offsets")
    }
    return replace(
        sample,
        cam_from_world=fit.cam_from_world[row].cpu().numpy(),
        has_keypoints_world=fit.problem.point_weights[row].cpu().numpy() > 0,
        rotations=fitted("rotations"),
        betas=fitted("betas"),
        translation=fitted("translation"),
        **limbs,
        has_root_rotation=True,
        has_joint_rotations=True,
        has_betas=True,
        has_translation=True,
        has_log_scales=has_limbs,
        has_joint_offsets=has_limbs,
    )
