"""From errors of frames to the numbers of a report."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handvit.data.sample import Batch
from handvit.hand import HandModel
from handvit.joints import JOINT_NAMES, WRIST
from handvit.metrics.frames import frames_of
from handvit.metrics.measure import Measurements, joint_auc, measure
from handvit.metrics.motion import motion_errors, mrrpe
from handvit.posing import PosedHands

DEPTH_EDGES_MM = (0.0, 500.0, 700.0, 900.0, 1100.0, np.inf)
JOINT_METRICS = {
    "mpjpe_mm": "joint",
    "mpjpe_rel_mm": "joint_rel",
    "pa_mpjpe_mm": "joint_pa",
    "mpjpe_depth_aligned_mm": "joint_depth_aligned",
    "mpjpe_scale_aligned_mm": "joint_scale_aligned",
    "error_2d_px": "joint_px",
}
FRAME_METRICS = {
    "rte_mm": "root",
    "depth_mm": "depth",
    "mpvpe_mm": "vertex",
    "pa_mpvpe_mm": "vertex_pa",
    "auc_vertices": "vertex_auc",
    "auc_vertices_pa": "vertex_pa_auc",
    "f@5": "f_5",
    "f@15": "f_15",
    "pa_f@5": "f_5_pa",
    "pa_f@15": "f_15_pa",
}
METRICS_OF_DATASETS = ("mpjpe_mm", "mpjpe_rel_mm", "pa_mpjpe_mm", "rte_mm")
"""What validation tells of each data set."""
AUC_METRICS = {"auc": "joint", "auc_rel": "joint_rel", "auc_pa": "joint_pa"}


def summarise(m: Measurements) -> dict[str, float]:
    """One number a metric; a metric without any label is left out.

    Joint errors are averaged per keypoint over frames, then over keypoints, as official scripts do. Joints that are
    predicted behind the camera have no pixel: `behind_camera_percent` counts them instead.
    """
    out = {name: keypoint_mean(getattr(m, column)) for name, column in JOINT_METRICS.items()}
    out |= {name: _mean(getattr(m, column)) for name, column in FRAME_METRICS.items()}
    out |= {name: joint_auc(getattr(m, column)) for name, column in AUC_METRICS.items()}
    out["depth_abs_mm"] = _mean(np.abs(m.depth))
    motion = motion_errors(m)
    out["acceleration_mm"] = _mean(motion["acceleration"])
    out["acceleration_mm_s2"] = _mean(motion["acceleration_s2"])
    out["jitter_mm"] = _mean(motion["jitter"])
    out["mrrpe_mm"] = _mean(mrrpe(m))
    pixels = m.joint_px[~np.isnan(m.joint_px)]
    out["behind_camera_percent"] = 100 * _mean(np.isinf(pixels).astype(float))
    out["implausible_size_percent"] = 100 * _mean((~m.size_valid).astype(float))
    return {name: value for name, value in out.items() if np.isfinite(value)}


def breakdown(m: Measurements) -> list[dict[str, Any]]:
    """A row for each dataset, range of true root depth and side: `group`, `value`, `samples`, then metrics."""
    rows: list[dict[str, Any]] = []
    for group, value, mine in _groups(m):
        if mine.any():
            rows.append({"group": group, "value": value, "samples": int(mine.sum())} | summarise(select(m, mine)))
    return rows


def by_joint(m: Measurements) -> list[dict[str, Any]]:
    """A row for each joint."""
    return [
        {"joint": joint} | {name: _mean(getattr(m, column)[:, i]) for name, column in JOINT_METRICS.items()}
        for i, joint in enumerate(JOINT_NAMES)
    ]


def select(m: Measurements, mine: Bool[np.ndarray, " n"]) -> Measurements:
    """Some frames."""
    changes: dict[str, Any] = {}
    for field in fields(Measurements):
        value = getattr(m, field.name)
        picked = tuple(np.array(value, object)[mine]) if isinstance(value, tuple) else value[mine]
        changes[field.name] = picked
    return replace(m, **changes)


def sums_and_counts(m: Measurements) -> dict[str, tuple[float, float]]:
    """Sum and count of all joints and frames: parts add up over batches and processes. For official means: `summarise`."""
    columns = JOINT_METRICS | FRAME_METRICS
    return {name: _sum_and_count(getattr(m, column)) for name, column in columns.items()}


def validation_sums(
    posed: PosedHands, batch: Batch, hand: HandModel, datasets: Sequence[str] = ()
) -> dict[str, tuple[Tensor, Tensor]]:
    """What training watches: sums and counts of a batch's errors, float64, on the CPU. Meshes count where they were posed.

    Those of a data set that are told for each are named `DATASET/NAME`.
    """
    measured = measure(frames_of(batch, posed, hand), with_f_scores=False)
    sums = sums_and_counts(measured)
    absent = ("f_",) if posed.vertices_cam_mm is not None else ("f_", "vertex")
    left_out = {name for name, column in FRAME_METRICS.items() if column.startswith(absent)}
    kept = {name: pair for name, pair in sums.items() if name not in left_out}
    for dataset in datasets:
        mine = np.array([name == dataset for name in measured.data_source])
        if mine.any():
            own = sums_and_counts(select(measured, mine))
            kept |= {f"{dataset}/{name}": own[name] for name in METRICS_OF_DATASETS}
    pairs = {name: tuple(torch.tensor(x, dtype=torch.float64) for x in pair) for name, pair in kept.items()}
    return {name: (total, count) for name, (total, count) in pairs.items()}


def keypoint_mean(errors: Float[np.ndarray, "n k"]) -> float:
    """Mean over frames of each keypoint, then over the keypoints that have any."""
    known = np.isfinite(errors)
    counts = known.sum(0)
    if not counts.any():
        return float("nan")
    means = np.where(known, errors, 0).sum(0)[counts > 0] / counts[counts > 0]
    return float(means.mean())


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows; cells that a row lacks, and NaN, are empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()})


def _groups(m: Measurements) -> list[tuple[str, str, Bool[np.ndarray, " n"]]]:
    sources = np.array(m.data_source, object)
    groups = [("dataset", name, sources == name) for name in sorted(set(m.data_source))]
    depth = m.true_joint_cam_mm[:, WRIST, 2]
    for low, high in pairwise(DEPTH_EDGES_MM):
        name = f"{low:g}-{high:g} mm" if np.isfinite(high) else f"{low:g} mm and more"
        groups.append(("depth", name, (depth >= low) & (depth < high)))
    return [*groups, ("side", "right", ~m.is_left), ("side", "left", m.is_left)]


def _sum_and_count(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return float(known.sum()), float(known.size)


def _mean(values: np.ndarray) -> float:
    total, count = _sum_and_count(values)
    return total / count if count else float("nan")
