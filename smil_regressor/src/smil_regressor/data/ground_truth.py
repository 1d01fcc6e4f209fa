"""The self test of labels: stored parameters through the body model must hit the stored keypoints."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posecore.bodymodel import BodyModel
from posecore.cameras import project, transform
from posecore.errors import InputError
from smil_regressor.data.sample import Sample
from smil_regressor.data.source import PoseSource


@dataclass(frozen=True)
class GroundTruthErrors:
    """Largest and median differences between stored keypoints and those of the stored parameters.

    A field is NaN where no checked sample has what it needs (calibrated views for 2D, 3D keypoints for 3D).
    """

    num_samples: int
    """Samples with pose, shape and place."""
    max_px: float
    """Input pixels, over visible keypoints."""
    median_px: float
    max_relative_3d: float
    """Distance over the diagonal of the box around the sample's 3D keypoints."""
    median_relative_3d: float
    worst_2d: str
    """Key of the sample with `max_px`."""
    worst_3d: str


def ground_truth_errors(
    source: PoseSource, body: BodyModel, indices: Sequence[int] | None = None, body_scale: float = 1.0
) -> GroundTruthErrors:
    """Check samples (default: all) that have rotations, betas and translation.

    Args:
        body_scale: World units for one unit of the body model: its joints are placed as
            `body_scale (x - root) + translation`. Unreal data wants 10, data in metres the model's own scale.

    Raises:
        InputError: No checked sample has all parameters.
    """
    rows = range(len(source)) if indices is None else indices
    samples = [s for s in (source.labels(int(i)) for i in rows) if _is_complete(s)]
    if not samples:
        raise InputError("no sample has root and joint rotations, betas and translation: there is nothing to check")
    pixels: list[tuple[float, str]] = []
    relative: list[tuple[float, str]] = []
    for sample in samples:
        joints = _joints(sample, body, body_scale)
        pixels += [(error, sample.key) for error in _pixel_errors(sample, joints)]
        relative += [(error, sample.key) for error in _relative_errors(sample, joints)]
    worst_2d, worst_3d = max(pixels, default=(np.nan, "")), max(relative, default=(np.nan, ""))
    return GroundTruthErrors(
        len(samples), worst_2d[0], _median(pixels), worst_3d[0], _median(relative), worst_2d[1], worst_3d[1]
    )


def _is_complete(sample: Sample) -> bool:
    return sample.has_root_rotation and sample.has_joint_rotations and sample.has_betas and sample.has_translation


def _joints(sample: Sample, body: BodyModel, body_scale: float) -> Float[Tensor, "j 3"]:
    def batch(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(values))[None].to(body.template)

    joints: Tensor = body.keypoints(
        batch(sample.rotations),
        batch(sample.betas),
        torch.zeros_like(batch(sample.translation)),
        batch(sample.log_scales) if sample.has_log_scales else None,
        batch(sample.joint_offsets) if sample.has_joint_offsets else None,
    )[0]
    return body_scale * (joints - joints[:1]) + batch(sample.translation)


def _pixel_errors(sample: Sample, joints: Float[Tensor, "j 3"]) -> list[float]:
    known = sample.has_camera
    cameras, K = torch.from_numpy(sample.cam_from_world[known]).to(joints), torch.from_numpy(sample.K[known]).to(joints)
    pixels, in_front = project(transform(cameras, joints.expand(len(cameras), -1, -1)), K)
    errors = np.linalg.norm(pixels.numpy() - sample.keypoints_px[known], axis=-1)
    errors = np.where(in_front.numpy(), errors, np.inf)
    return [float(e) for e in errors[sample.visibility[known] > 0]]


def _relative_errors(sample: Sample, joints: Float[Tensor, "j 3"]) -> list[float]:
    known = sample.has_keypoints_world
    if known.sum() < 2:
        return []
    points = sample.keypoints_world[known]
    errors = np.linalg.norm(joints.numpy()[known] - points, axis=-1) / np.linalg.norm(np.ptp(points, axis=0))
    return [float(e) for e in errors]


def _median(errors: list[tuple[float, str]]) -> float:
    return float(np.median([error for error, _ in errors])) if errors else float("nan")
