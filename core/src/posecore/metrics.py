"""What benchmarks report: joint errors, aligned and not, shares of correct points, surfaces, motion, masks.

Lengths are in the unit of the points. `valid` masks leave points out: those may be NaN, and a mean over none is NaN.
Shares (`pck`, `auc`, `f_score`) are float64, all else has the dtype of the predictions.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posecore.alignment import OnDegenerate, procrustes

PAIRS_AT_ONCE = {"cpu": 2**20, "cuda": 2**26}
"""Distances that `f_score` holds at a time: as many as a processor's cache takes (8 MB), or enough to fill a GPU."""


def point_errors(
    pred: Float[Tensor, "*batch d"], target: Float[Tensor, "*batch d"], valid: Bool[Tensor, "*batch"] | None = None
) -> Float[Tensor, "*batch"]:
    """Euclidean distance of every point, in 2D or 3D; 0 where a point is not valid."""
    _same_shape(pred, target)
    apart = pred - target
    errors: Tensor = torch.linalg.vector_norm(apart if valid is None else _zeroed(apart, valid), dim=-1)
    return errors


def mpjpe(
    pred: Float[Tensor, "*batch n d"],
    target: Float[Tensor, "*batch n d"],
    valid: Bool[Tensor, "*batch n"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Mean distance over the points of each sample. Take `root_aligned` of both for the root-relative error."""
    return _mean(point_errors(pred, target, valid), valid)


def pa_mpjpe(
    pred: Float[Tensor, "*batch n 3"],
    target: Float[Tensor, "*batch n 3"],
    valid: Bool[Tensor, "*batch n"] | None = None,
    on_degenerate: OnDegenerate = "raise",
) -> Float[Tensor, "*batch"]:
    """`mpjpe` after the best similarity of each sample (no reflection).

    Samples with fewer than three valid points, or with all points on a line, raise ValueError or, with "nan", are NaN.
    """
    weights = None if valid is None else valid.to(pred.dtype)
    aligned = procrustes(pred, target, weights, on_degenerate=on_degenerate).apply(pred)
    return mpjpe(aligned, target, valid)


def root_aligned(points: Float[Tensor, "*batch n d"], root: int = 0) -> Float[Tensor, "*batch n d"]:
    """Points measured from the point with index `root`."""
    return points - points[..., root, :].unsqueeze(-2)


def scale_aligned(
    pred: Float[Tensor, "*batch n d"],
    target: Float[Tensor, "*batch n d"],
    valid: Bool[Tensor, "*batch n"] | None = None,
) -> Float[Tensor, "*batch n d"]:
    """Predictions moved and scaled, but not turned, to fit the target best (least squares over the valid points).

    The scale is negative where the two point away from each other. Predictions all at one place stay there: NaN.
    """
    pred_mean, pred_centred = _centred(pred, valid)
    target_mean, target_centred = _centred(target, valid)
    scale = (pred_centred * target_centred).sum((-2, -1)) / (pred_centred**2).sum((-2, -1))
    return scale[..., None, None] * (pred - pred_mean) + target_mean


def pck(
    pred: Float[Tensor, "*batch n d"],
    target: Float[Tensor, "*batch n d"],
    threshold: float | Float[Tensor, "*#batch #n"],
    valid: Bool[Tensor, "*batch n"] | None = None,
) -> Float[Tensor, ""]:
    """Share of all valid points that lie within the threshold (<=), over the whole batch.

    A threshold tensor (say 0.1 of each sample's box, with a last axis of 1) broadcasts against the points.
    """
    return _mean((point_errors(pred, target) <= threshold).double(), valid, whole_batch=True)


def auc(
    errors: Float[Tensor, "*batch"],
    lo: float,
    hi: float,
    steps: int = 100,
    valid: Bool[Tensor, "*batch"] | None = None,
) -> Float[Tensor, ""]:
    """Area under the PCK curve of all errors between two thresholds, 1 if every error is at most `lo`.

    PCK (<=) at `steps` thresholds, both ends included, by the trapezoid rule (FreiHAND, DexYCB: 0 to 50 mm, 100 steps).
    """
    if steps < 2 or hi <= lo:
        raise ValueError(f"auc: needs lo < hi and two steps or more, got lo {lo}, hi {hi}, steps {steps}")
    values = (errors if valid is None else errors[valid]).flatten().double()
    thresholds = torch.linspace(lo, hi, steps, dtype=torch.float64, device=values.device)
    curve = torch.searchsorted(values.sort().values, thresholds, right=True).double() / values.numel()
    return torch.trapezoid(curve, thresholds) / (hi - lo)


@torch.no_grad()
def f_score(
    pred: Float[Tensor, "*batch n 3"], target: Float[Tensor, "*batch m 3"], threshold: float
) -> Float[Tensor, "*batch"]:
    """Harmonic mean of precision and recall of two point clouds, each point against the nearest of the other (<).

    0 where both are 0. Distances are right to 1e-8 of the clouds' size. No gradient.
    """
    n, m = pred.shape[-2], target.shape[-2]
    batch = pred.shape[:-2]
    if batch != target.shape[:-2]:
        raise ValueError(f"f_score: pred {tuple(pred.shape)} and target {tuple(target.shape)} differ in their batch")
    chunk = max(1, PAIRS_AT_ONCE[pred.device.type] // (n * m))
    pairs = zip(torch.split(pred.reshape(-1, n, 3), chunk), torch.split(target.reshape(-1, m, 3), chunk), strict=True)
    return torch.cat([_f_score(some, others, threshold) for some, others in pairs]).reshape(batch)


def acceleration_error(
    pred: Float[Tensor, "*batch t n d"],
    target: Float[Tensor, "*batch t n d"],
    valid: Bool[Tensor, "*batch t n"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Mean |second difference of pred - of target| over frames and points of each sequence, in units per frame^2.

    Multiply by the frame rate squared for units per second^2. A point counts where it is valid in three frames in a row.
    """
    _same_shape(pred, target)
    if pred.shape[-3] < 3:
        raise ValueError(f"acceleration_error: needs three frames or more, got shape {tuple(pred.shape)}")
    three = None if valid is None else (valid[..., :-2, :] & valid[..., 1:-1, :] & valid[..., 2:, :]).flatten(-2)
    pred_acceleration, target_acceleration = _second_difference(pred), _second_difference(target)
    return mpjpe(pred_acceleration.flatten(-3, -2), target_acceleration.flatten(-3, -2), three)


def silhouette_iou(
    a: Float[Tensor, "*batch h w"] | Bool[Tensor, "*batch h w"],
    b: Float[Tensor, "*batch h w"] | Bool[Tensor, "*batch h w"],
    threshold: float = 0.5,
) -> Float[Tensor, "*batch"]:
    """Intersection over union of two masks, each `alpha > threshold`; 1 where both are empty. No gradient."""
    _same_shape(a, b)
    in_a, in_b = a > threshold, b > threshold
    union = (in_a | in_b).sum((-2, -1))
    shared = (in_a & in_b).sum((-2, -1))
    return torch.where(union > 0, shared / union.clamp(min=1), 1.0)


def _same_shape(pred: Tensor, target: Tensor) -> None:
    if pred.shape != target.shape:
        raise ValueError(f"pred {tuple(pred.shape)} and target {tuple(target.shape)} differ in shape")


def _mean(values: Tensor, valid: Tensor | None, whole_batch: bool = False) -> Tensor:
    """Mean over the last axis, or over all; NaN where nothing is valid."""
    axes = tuple(range(values.ndim)) if whole_batch else (-1,)
    if valid is None:
        return values.mean(axes)
    return torch.where(valid, values, 0).sum(axes) / valid.sum(axes)


def _centred(points: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean of the valid points (1 d), and all points measured from it, zero where not valid."""
    if valid is None:
        mean = points.mean(-2, keepdim=True)
        return mean, points - mean
    mean = _zeroed(points, valid).sum(-2, keepdim=True) / valid.sum(-1)[..., None, None]
    return mean, _zeroed(points - mean, valid)


def _zeroed(points: Tensor, valid: Tensor) -> Tensor:
    """Zero, with zero gradient, where not valid: NaN there does not spread."""
    return torch.where(valid[..., None], points, 0)


def _f_score(pred: Tensor, target: Tensor, threshold: float) -> Tensor:
    # |p|^2 + |t|^2 - 2 p.t in float64 and about the middle: five times as fast as cdist without the matrix product.
    middle = target.double().mean(-2, keepdim=True)
    pred, target = pred.double() - middle, target.double() - middle
    lengths = (pred**2).sum(-1)[..., :, None] + (target**2).sum(-1)[..., None, :]
    squared = torch.baddbmm(lengths, pred, target.mT, alpha=-2)
    precision = (squared.amin(-1) < threshold**2).double().mean(-1)
    recall = (squared.amin(-2) < threshold**2).double().mean(-1)
    total = precision + recall
    return torch.where(total > 0, 2 * precision * recall / torch.where(total > 0, total, 1), 0)


def _second_difference(points: Tensor) -> Tensor:
    return points[..., 2:, :, :] - 2 * points[..., 1:-1, :, :] + points[..., :-2, :, :]
