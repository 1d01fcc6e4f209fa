"""Errors of every frame and joint; they are averaged only afterwards, so that all reports come from the same numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handvit.joints import WRIST
from handvit.metrics.frames import Frames, joined_columns
from handvit.metrics.surfaces import f_scores
from posecore.alignment import procrustes
from posecore.metrics import auc

AUC_RANGE_MM = (0.0, 50.0)
AUC_STEPS = 100
F_THRESHOLDS_MM = (5.0, 15.0)
MESHES_AT_ONCE = 64
"""Meshes that are aligned together: few enough for the processor's cache."""


@dataclass(frozen=True)
class Measurements:
    """Errors of n frames in mm, float64; NaN where there is no label. Predictions are measured as they are."""

    key: tuple[str, ...]
    sequence: tuple[str, ...]
    image: tuple[str, ...]
    data_source: tuple[str, ...]
    is_left: Bool[np.ndarray, " n"]
    timestamp_ms: Float[np.ndarray, " n"]
    size_valid: Bool[np.ndarray, " n"]
    joint_cam_mm: Float[np.ndarray, "n 21 3"]
    """Predicted."""
    true_joint_cam_mm: Float[np.ndarray, "n 21 3"]
    """NaN where a joint has no label."""
    joint: Float[np.ndarray, "n 21"]
    """In the camera frame."""
    joint_rel: Float[np.ndarray, "n 21"]
    """Minus the wrist."""
    joint_pa: Float[np.ndarray, "n 21"]
    """After the best similarity."""
    joint_depth_aligned: Float[np.ndarray, "n 21"]
    """After the best shift along z: what is left if depth were known."""
    joint_scale_aligned: Float[np.ndarray, "n 21"]
    """After the best scaling about the camera, which leaves the picture as it is."""
    root: Float[np.ndarray, " n"]
    depth: Float[np.ndarray, " n"]
    """Of the wrist, signed: positive is too far."""
    joint_px: Float[np.ndarray, "n 21"]
    """Patch px; infinite for joints behind the camera."""
    vertex: Float[np.ndarray, " n"]
    """Mean over the mesh, as all that follow."""
    vertex_pa: Float[np.ndarray, " n"]
    vertex_auc: Float[np.ndarray, " n"]
    vertex_pa_auc: Float[np.ndarray, " n"]
    f_5: Float[np.ndarray, " n"]
    f_15: Float[np.ndarray, " n"]
    f_5_pa: Float[np.ndarray, " n"]
    f_15_pa: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.key)


@torch.no_grad()
def measure(frames: Frames, *, allow_reflection: bool = False, with_f_scores: bool = True) -> Measurements:
    """Errors of predicted frames.

    Args:
        allow_reflection: Alignment may mirror, as the official scripts of FreiHAND, HO3D and DexYCB do: a mirrored hand is
            then perfect.
        with_f_scores: Of meshes; they take most of the time.
    """
    pred, truth = _double(frames.joint_cam_mm), _double(frames.true_joint_cam_mm)
    known = torch.from_numpy(frames.joint_3d_valid)
    with_root = known & known[:, WRIST : WRIST + 1]
    truth = torch.where(known[..., None], truth, torch.nan)
    offset = pred - truth
    root = offset[:, WRIST]
    values = {
        "joint": offset.norm(dim=-1),
        "joint_rel": torch.where(with_root, (offset - root[:, None]).norm(dim=-1), torch.nan),
        "joint_pa": (pa_aligned(pred, truth, known, allow_reflection) - truth).norm(dim=-1),
        "joint_depth_aligned": (depth_aligned(pred, truth, known) - truth).norm(dim=-1),
        "joint_scale_aligned": (camera_scaled(pred, truth, known) - truth).norm(dim=-1),
        "root": root.norm(dim=-1),
        "depth": root[:, 2],
        "joint_px": _pixel_errors(frames),
    }
    meshes = _mesh_errors(frames, allow_reflection, with_f_scores)
    return Measurements(
        key=frames.key,
        sequence=frames.sequence,
        image=frames.image,
        data_source=frames.data_source,
        is_left=frames.is_left,
        timestamp_ms=frames.timestamp_ms.astype(np.float64),
        size_valid=frames.size_valid,
        joint_cam_mm=pred.numpy(),
        true_joint_cam_mm=truth.numpy(),
        **{name: value.numpy() for name, value in (values | meshes).items()},
    )


def concatenate(parts: Sequence[Measurements]) -> Measurements:
    """Join the measurements of several batches."""
    return Measurements(**joined_columns(parts))


def pa_aligned(
    pred: Float[Tensor, "n k 3"],
    target: Float[Tensor, "n k 3"],
    known: Bool[Tensor, "n k"] | None = None,
    allow_reflection: bool = False,
) -> Float[Tensor, "n k 3"]:
    """Predictions after the similarity that fits the known points best; NaN where fewer than three are known."""
    weights = None if known is None else known.to(pred.dtype)
    fit = procrustes(pred, target, weights, on_degenerate="nan", allow_reflection=allow_reflection)
    return fit.apply(pred)


def depth_aligned(
    pred: Float[Tensor, "n k 3"], target: Float[Tensor, "n k 3"], known: Bool[Tensor, "n k"]
) -> Float[Tensor, "n k 3"]:
    """Predictions moved along z by the mean error of the known points."""
    offset = torch.where(known, target[..., 2] - pred[..., 2], 0).sum(-1) / known.sum(-1)
    moved = pred.clone()
    moved[..., 2] += offset[:, None]
    return moved


def camera_scaled(
    pred: Float[Tensor, "n k 3"], target: Float[Tensor, "n k 3"], known: Bool[Tensor, "n k"]
) -> Float[Tensor, "n k 3"]:
    """Predictions times the factor that fits the known points best (hand and distance together)."""
    used = known[..., None]
    product = torch.where(used, pred * target, 0).sum((-2, -1))
    square = torch.where(used, pred * pred, 0).sum((-2, -1))
    return pred * (product / square)[:, None, None]


def _pixel_errors(frames: Frames) -> Tensor:
    pred, truth = _double(frames.joint_patch), _double(frames.true_joint_patch)
    seen = torch.isfinite(pred).all(-1)
    error = torch.where(seen, (torch.where(seen[..., None], pred, 0) - truth).norm(dim=-1), torch.inf)
    return torch.where(torch.from_numpy(frames.joint_2d_valid), error, torch.nan)


def _mesh_errors(frames: Frames, allow_reflection: bool, with_f_scores: bool) -> dict[str, Tensor]:
    names = ("vertex", "vertex_pa", "vertex_auc", "vertex_pa_auc", "f_5", "f_15", "f_5_pa", "f_15_pa")
    out = {name: torch.full((len(frames),), torch.nan, dtype=torch.float64) for name in names}
    if frames.vertices_mm is None or frames.true_vertices_mm is None:
        return out
    for rows in torch.split(torch.from_numpy(np.flatnonzero(frames.has_mano)), MESHES_AT_ONCE):
        pred, truth = _double(frames.vertices_mm[rows]), _double(frames.true_vertices_mm[rows])
        aligned = pa_aligned(pred, truth, allow_reflection=allow_reflection)
        for suffix, points in (("", pred), ("_pa", aligned)):
            errors = (points - truth).norm(dim=-1)
            out[f"vertex{suffix}"][rows] = errors.mean(-1)
            out[f"vertex{suffix}_auc"][rows] = _auc_rows(errors)
            if with_f_scores:
                scores = torch.from_numpy(f_scores(points.numpy(), truth.numpy(), F_THRESHOLDS_MM)[..., 0])
                out[f"f_5{suffix}"][rows], out[f"f_15{suffix}"][rows] = scores.unbind(-1)
    return out


def _auc_rows(errors: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """`auc` of every row: with equal numbers of points, the mean of these is the AUC over all.

    What one error adds to the area depends only on the first threshold that it meets, so no sorting is needed.
    """
    thresholds = torch.linspace(*AUC_RANGE_MM, AUC_STEPS, dtype=torch.float64)
    reached = torch.ones(AUC_STEPS, AUC_STEPS, dtype=torch.float64).triu()
    area = torch.trapezoid(reached, thresholds) / (AUC_RANGE_MM[1] - AUC_RANGE_MM[0])
    area = torch.cat([area, torch.zeros(1, dtype=torch.float64)])
    return area[torch.bucketize(errors, thresholds)].mean(-1)


def joint_auc(errors: Float[np.ndarray, "n k"], range_mm: tuple[float, float] = AUC_RANGE_MM) -> float:
    """AUC of each keypoint over the frames that have it, then the mean over keypoints; NaN if there are none."""
    scores = []
    for column in errors.T:
        known = torch.from_numpy(column[~np.isnan(column)])
        if len(known):
            scores.append(float(auc(known, *range_mm, AUC_STEPS)))
    return float(np.mean(scores)) if scores else float("nan")


def _double(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float64))
