"""What official scripts compute from aligned and raw points: mean error and area per keypoint, then over keypoints."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from handvit.joints import WRIST
from handvit.metrics.measure import F_THRESHOLDS_MM, joint_auc, pa_aligned
from handvit.metrics.summary import keypoint_mean
from handvit.metrics.surfaces import f_scores
from handvit.submission.hands import Hands
from posecore.errors import InputError

MIDDLE_BASE = 9
"""Canonical; the fourth joint in HO3D's order. Its distance from the wrist is what HO3D scales hands by."""


def joint_scores(name: str, pred: Float[np.ndarray, "n k 3"], truth: Float[np.ndarray, "n k 3"]) -> dict[str, float]:
    """Mean error in mm and AUC (0 to 50 mm)."""
    errors = np.linalg.norm(pred - truth, axis=-1)
    return {f"{name}_mean_mm": keypoint_mean(errors), f"{name}_auc": joint_auc(errors)}


def mesh_scores(pred: Hands, truth: Hands) -> dict[str, float]:
    """Vertices and F-scores, raw and after the best similarity."""
    if pred.vertices_mm is None or truth.vertices_mm is None:
        return {}
    aligned = procrustes_aligned(pred.vertices_mm, truth.vertices_mm)
    out = joint_scores("mesh", pred.vertices_mm, truth.vertices_mm)
    out |= joint_scores("mesh_al", aligned, truth.vertices_mm)
    for name, vertices in (("f", pred.vertices_mm), ("f_al", aligned)):
        means = f_scores(vertices, truth.vertices_mm, F_THRESHOLDS_MM)[..., 0].mean(0)
        out |= {f"{name}@{t:g}": float(value) for t, value in zip(F_THRESHOLDS_MM, means, strict=True)}
    return out


def procrustes_aligned(
    pred: Float[np.ndarray, "n k 3"], truth: Float[np.ndarray, "n k 3"]
) -> Float[np.ndarray, "n k 3"]:
    """The best similarity of each hand; it may mirror, as the official scripts let it."""
    moved, fixed = (torch.from_numpy(np.asarray(points, np.float64)) for points in (pred, truth))
    aligned: np.ndarray = pa_aligned(moved, fixed, allow_reflection=True).numpy()
    return aligned


def scaled_at_wrist(
    pred: Float[np.ndarray, "n k 3"], truth: Float[np.ndarray, "n k 3"], bone: tuple[int, int] = (WRIST, MIDDLE_BASE)
) -> Float[np.ndarray, "n k 3"]:
    """Scaled so that one bone has its true length, and moved to the true wrist (HO3D)."""
    lengths = [np.linalg.norm(points[:, bone[0]] - points[:, bone[1]], axis=-1) for points in (pred, truth)]
    scaled = pred * (lengths[1] / lengths[0])[:, None, None]
    return np.asarray(scaled - scaled[:, WRIST : WRIST + 1] + truth[:, WRIST : WRIST + 1])


def root_relative(points: Float[np.ndarray, "n k 3"]) -> Float[np.ndarray, "n k 3"]:
    return np.asarray(points - points[:, WRIST : WRIST + 1])


def check_pair(benchmark: Literal["FreiHAND", "HO3D", "DexYCB"], pred: Hands, truth: Hands) -> None:
    """
    Raises:
        InputError: Not as many predicted as true hands, or no hands.
    """
    if len(pred) != len(truth) or not len(truth):
        raise InputError(f"{benchmark}: {len(pred)} predicted hands, {len(truth)} true ones")
