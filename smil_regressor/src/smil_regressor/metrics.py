"""What an evaluation reports: per-joint errors of each sample, and their summary.

Everything is measured per sample, view and joint first (NaN where there is no ground truth) and averaged only in
`summarise`, so that reports by joint, view and session come from the same numbers. Predictions are never clamped.
3D lengths are measured in the data's unit; summaries say it in their names: `_mm` where the unit's size is known
(`mm_per_unit`), else `_units`.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posecore.alignment import procrustes
from posecore.cameras import project, transform, triangulate
from posecore.rotations import geodesic_distance
from smil_regressor.data.sample import Batch

PCK_THRESHOLDS_PX = (1, 2, 5, 10, 20, 30, 40, 50)
PCK_SHARES = (0.1, 0.15)
"""Thresholds of the normalised PCK, as shares of the square root of the mask's area or of the keypoint box's side."""
AUC_RANGE_PX = 50
PERCENTILES = (50, 75, 90, 95, 99)


@dataclass(frozen=True)
class Measurements:
    """Errors of n samples: v view slots, j joints, e bones; NaN where something is unknown."""

    key: tuple[str, ...]
    session: tuple[str, ...]
    px_input: Float[np.ndarray, "n v j"]
    """2D distance in pixels of the network's input; infinite where the joint is predicted behind the camera."""
    px_native: Float[np.ndarray, "n v j"]
    """2D distance in pixels of the original picture or crop."""
    mask_side_px: Float[np.ndarray, "n v"]
    """Square root of the mask's area, input pixels."""
    box_side_px: Float[np.ndarray, "n v"]
    """Square root of the keypoint box's area, input pixels."""
    mpjpe: Float[np.ndarray, "n j"]
    root_aligned: Float[np.ndarray, "n j"]
    scale_aligned: Float[np.ndarray, "n j"]
    """Root and mean distance from it aligned."""
    pa_mpjpe: Float[np.ndarray, "n j"]
    iou: Float[np.ndarray, "n v"]
    angle_deg: Float[np.ndarray, "n j"]
    bone_length_percent: Float[np.ndarray, "n e"]
    triangulation: Float[np.ndarray, "n j"]
    """Distance of the triangulated 2D ground truth, in the predicted cameras, from the 3D ground truth."""
    reprojection_px: Float[np.ndarray, "n v j"]
    """Leave-one-out: each view's 2D ground truth against the triangulation of the other views, predicted cameras."""


def measure(
    batch: Batch,
    joints_world: Float[Tensor, "b j 3"],
    rotations: Float[Tensor, "b j 3 3"],
    K: Float[Tensor, "b v 3 3"],
    cam_from_world: Float[Tensor, "b v 4 4"],
    masks: Bool[Tensor, "b v h w"] | None,
    parents: Sequence[int],
) -> Measurements:
    """Compare predictions with a batch's ground truth; all predictions as the network gave them, in float64 here."""
    joints, K, cameras = joints_world.double(), K.double(), cam_from_world.double()
    truth = batch.keypoints_world.double()
    known = batch.has_keypoints_world
    pixels, in_front = project(transform(cameras, joints[:, None].expand(-1, cameras.shape[1], -1, -1)), K)
    labelled = (batch.visibility > 0) & batch.view_mask[..., None]
    offset = pixels - batch.keypoints_px.double()
    height, width = batch.images.shape[2:4]
    to_native = batch.native_size_wh.double() / torch.tensor([width, height], device=offset.device)
    px = torch.where(labelled & in_front, offset.norm(dim=-1), torch.nan)
    px = torch.where(labelled & ~in_front, torch.inf, px)
    native = torch.where(torch.isfinite(px), (offset * to_native[:, :, None]).norm(dim=-1), px)
    three_d = _errors_3d(joints, truth, known)
    tri, reprojection = _triangulation_errors(batch, pixels, in_front, K, cameras, truth, known)
    return Measurements(
        key=batch.key,
        session=batch.session,
        px_input=_np(px),
        px_native=_np(native),
        mask_side_px=_np(_mask_side(batch)),
        box_side_px=_np(_box_side(batch, labelled)),
        **{name: _np(value) for name, value in three_d.items()},
        iou=_np(_iou(batch, masks)),
        angle_deg=_np(_angles(batch, rotations)),
        bone_length_percent=_np(_bone_lengths(joints, truth, known, parents)),
        triangulation=_np(tri),
        reprojection_px=_np(reprojection),
    )


def concatenate(parts: Sequence[Measurements]) -> Measurements:
    """Join the measurements of several batches."""
    columns: dict[str, Any] = {}
    for field in fields(Measurements):
        values = [getattr(part, field.name) for part in parts]
        columns[field.name] = sum(values, ()) if field.name in ("key", "session") else np.concatenate(values)
    return Measurements(**columns)


def length_unit(mm_per_unit: float | None) -> tuple[str, float]:
    """Suffix and factor of lengths in summaries."""
    return ("units", 1.0) if mm_per_unit is None else ("mm", mm_per_unit)


def summarise(m: Measurements, mm_per_unit: float | None = None) -> dict[str, float]:
    """One number a metric; a metric without any ground truth is left out.

    Joints predicted behind a camera have no pixel: they miss every PCK threshold, and are counted by
    `behind_camera_percent` instead of entering means. A percentile that falls on one is left out.
    """
    unit, factor = length_unit(mm_per_unit)
    lengths = ("mpjpe", "root_aligned", "scale_aligned", "pa_mpjpe", "triangulation")
    out = {f"{name}_{unit}": _mean(getattr(m, name)) * factor for name in lengths}
    for name in ("px_input", "px_native", "iou", "angle_deg", "bone_length_percent", "reprojection_px"):
        out[name] = _mean(getattr(m, name))
    out["behind_camera_percent"] = 100 * (1 - _share_below(m.px_input, np.finfo(float).max))
    for resolution, errors in (("native", m.px_native), ("input", m.px_input)):
        for threshold in PCK_THRESHOLDS_PX:
            out[f"pck_{resolution}@{threshold}px"] = _share_below(errors, threshold)
        out[f"pck_{resolution}_auc"] = _auc(errors, AUC_RANGE_PX)
        for percentile in PERCENTILES:
            out[f"px_{resolution}_p{percentile}"] = _percentile(errors, percentile)
    for name, side in (("mask", m.mask_side_px), ("box", m.box_side_px)):
        for share in PCK_SHARES:
            out[f"pck_{name}@{share:g}"] = _share_below(m.px_input / side[..., None], share)
    for percentile in PERCENTILES:
        out[f"mpjpe_p{percentile}_{unit}"] = _percentile(m.mpjpe, percentile) * factor
    return {name: value for name, value in out.items() if np.isfinite(value)}


def by_joint(m: Measurements, names: Sequence[str], mm_per_unit: float | None = None) -> list[dict[str, Any]]:
    """A row for each joint."""
    unit, factor = length_unit(mm_per_unit)
    return [
        {
            "joint": name,
            f"mpjpe_{unit}": _mean(m.mpjpe[:, i]) * factor,
            "px_input": _mean(m.px_input[:, :, i]),
            "px_native": _mean(m.px_native[:, :, i]),
            "angle_deg": _mean(m.angle_deg[:, i]),
        }
        for i, name in enumerate(names)
    ]


def by_view(m: Measurements, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each canonical view."""
    return [
        {"view": name, "px_input": _mean(m.px_input[:, i]), "px_native": _mean(m.px_native[:, i]),
         "iou": _mean(m.iou[:, i]), "reprojection_px": _mean(m.reprojection_px[:, i])}
        for i, name in enumerate(names)
    ]  # fmt: skip


def by_session(m: Measurements, mm_per_unit: float | None = None) -> list[dict[str, Any]]:
    """A row for each session."""
    unit, factor = length_unit(mm_per_unit)
    rows: list[dict[str, Any]] = []
    for session in sorted(set(m.session)):
        mine = np.array([s == session for s in m.session])
        rows.append(
            {
                "session": session,
                "samples": int(mine.sum()),
                f"mpjpe_{unit}": _mean(m.mpjpe[mine]) * factor,
                "px_native": _mean(m.px_native[mine]),
                "iou": _mean(m.iou[mine]),
            }
        )
    return rows


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of equal keys; NaN becomes an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()})


def _errors_3d(joints: Tensor, truth: Tensor, known: Tensor) -> dict[str, Tensor]:
    weights = known.double()
    has_root = known[:, :1]
    centred = [x - x[:, :1] for x in (joints, truth)]
    sizes = [torch.where(known, x.norm(dim=-1), 0).sum(1) / weights.sum(1) for x in centred]
    enough = (known.sum(1) >= 3) & (sizes[0] > 0)
    ratio = torch.where(enough, sizes[1] / sizes[0].where(enough, torch.ones_like(sizes[0])), torch.nan)
    aligned = torch.full_like(joints, torch.nan)
    if enough.any():
        fit = procrustes(joints[enough], truth[enough], weights[enough], on_degenerate="nan")
        aligned[enough] = fit.apply(joints[enough])
    distance = {
        "mpjpe": joints - truth,
        "root_aligned": torch.where(has_root[..., None], centred[0] - centred[1], torch.nan),
        "scale_aligned": torch.where(has_root[..., None], centred[0] * ratio[:, None, None] - centred[1], torch.nan),
        "pa_mpjpe": aligned - truth,
    }
    return {name: torch.where(known, value.norm(dim=-1), torch.nan) for name, value in distance.items()}


def _triangulation_errors(
    batch: Batch, pixels: Tensor, in_front: Tensor, K: Tensor, cameras: Tensor, truth: Tensor, known: Tensor
) -> tuple[Tensor, Tensor]:
    labelled = ((batch.visibility > 0) & batch.view_mask[..., None]).double()
    views = pixels.shape[1]
    if views < 2:
        return torch.full_like(truth[..., 0], torch.nan), torch.full_like(labelled, torch.nan)
    projections = K @ cameras[:, :, :3]
    seen = labelled * in_front
    points, valid = triangulate(batch.keypoints_px.double(), projections, seen)
    error = torch.where(valid & known, (points - truth).norm(dim=-1), torch.nan)
    others = 1 - torch.eye(views, dtype=K.dtype, device=K.device)
    held_out, valid_out = triangulate(
        batch.keypoints_px.double()[:, None].expand(-1, views, -1, -1, -1),
        projections[:, None].expand(-1, views, -1, -1, -1),
        seen[:, None] * others[None, :, :, None],
    )
    again, in_view = project(transform(cameras, held_out), K)
    usable = valid_out & in_view & (labelled > 0)
    return error, torch.where(usable, (again - batch.keypoints_px.double()).norm(dim=-1), torch.nan)


def _mask_side(batch: Batch) -> Tensor:
    area = batch.masks.flatten(2).sum(-1).double()
    return torch.where(batch.has_mask & (area > 0), area.sqrt(), torch.nan)


def _box_side(batch: Batch, labelled: Tensor) -> Tensor:
    points = batch.keypoints_px.double()
    low = torch.where(labelled[..., None], points, torch.inf).amin(2)
    high = torch.where(labelled[..., None], points, -torch.inf).amax(2)
    area = (high - low).prod(-1)
    return torch.where((labelled.sum(2) >= 2) & (area > 0), area, torch.nan).sqrt()


def _iou(batch: Batch, masks: Tensor | None) -> Tensor:
    if masks is None:
        return torch.full(batch.has_mask.shape, torch.nan, dtype=torch.float64)
    both = (masks & batch.masks).flatten(2).sum(-1).double()
    either = (masks | batch.masks).flatten(2).sum(-1).double()
    return torch.where(batch.has_mask & (either > 0), both / either, torch.nan)


def _angles(batch: Batch, rotations: Tensor) -> Tensor:
    angle = geodesic_distance(rotations.double(), batch.rotations.double()).rad2deg()
    known = batch.has_joint_rotations[:, None].expand_as(angle).clone()
    known[:, 0] = batch.has_root_rotation
    return torch.where(known, angle, torch.nan)


def _bone_lengths(joints: Tensor, truth: Tensor, known: Tensor, parents: Sequence[int]) -> Tensor:
    children = [i for i, p in enumerate(parents) if p >= 0]
    above = [parents[i] for i in children]
    found = (joints[:, children] - joints[:, above]).norm(dim=-1)
    wanted = (truth[:, children] - truth[:, above]).norm(dim=-1)
    usable = known[:, children] & known[:, above] & (wanted > 0)
    return torch.where(usable, 100 * (found - wanted).abs() / wanted, torch.nan)


def _np(value: Tensor) -> Float[np.ndarray, "..."]:
    array: Float[np.ndarray, "..."] = value.detach().cpu().double().numpy()
    return array


def _mean(values: Float[np.ndarray, "..."]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _share_below(values: Float[np.ndarray, "..."], threshold: float) -> float:
    known = values[~np.isnan(values)]
    return float((known <= threshold).mean()) if known.size else float("nan")


def _percentile(values: Float[np.ndarray, "..."], percentile: float) -> float:
    known = values[~np.isnan(values)]
    with np.errstate(invalid="ignore"):  # between two infinite errors
        return float(np.percentile(known, percentile)) if known.size else float("nan")


def _auc(values: Float[np.ndarray, "..."], high: float) -> float:
    """Area under PCK over thresholds from 0 to `high`, exact: the mean of max(0, 1 - error / high)."""
    known = values[~np.isnan(values)]
    return float(np.maximum(0, 1 - known / high).mean()) if known.size else float("nan")
