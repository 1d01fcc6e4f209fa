"""Procrustes alignment of corresponding points: rigid or similarity, a reflection only where it is asked for."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.rotations import project_to_so3

COLLINEAR = 1e-6
"""Points whose second extent is less than this share of the first lie on a line: float32 coordinates resolve no less."""

OnDegenerate = Literal["raise", "nan"]


class Similarity(NamedTuple):
    """`x -> s R x + t`, one for each entry of the batch; R is a rotation, or a mirrored one where that was allowed."""

    R: Float[Tensor, "*batch 3 3"]
    t: Float[Tensor, "*batch 3"]
    s: Float[Tensor, "*batch"]

    def apply(self, points: Float[Tensor, "*batch n 3"]) -> Float[Tensor, "*batch n 3"]:
        moved: Tensor = self.s[..., None, None] * (points @ self.R.mT) + self.t[..., None, :]
        return moved


def procrustes(
    source: Float[Tensor, "*batch n 3"],
    target: Float[Tensor, "*batch n 3"],
    weights: Float[Tensor, "*batch n"] | None = None,
    scale: bool = True,
    on_degenerate: OnDegenerate = "raise",
    allow_reflection: bool = False,
) -> Similarity:
    """The similarity that minimises `sum_i w_i |s R source_i + t - target_i|^2` with det R = +1 (Umeyama 1991).

    Points of weight 0 may be NaN. Without `scale`, s is 1. Computed in float64, returned in the source's dtype;
    differentiable, also where the point sets fit exactly.

    With `allow_reflection`, R may also have det R = -1, as in the evaluation scripts of FreiHAND, HO3D and DexYCB
    (`scipy.linalg.orthogonal_procrustes`). Where one set lies in a plane, both signs fit alike and rounding decides.

    Fewer than three points with weight, or points on a line or at one place in either set, leave the rotation open:
    this raises ValueError naming the batch entries, or gives NaN for those entries with `on_degenerate="nan"`.
    """
    if on_degenerate not in ("raise", "nan"):
        raise ValueError(f"on_degenerate: {on_degenerate!r} is none of 'raise', 'nan'")
    if source.shape != target.shape:
        raise ValueError(f"source {tuple(source.shape)} and target {tuple(target.shape)} differ in shape")
    mass = _normalised(torch.ones_like(source[..., 0]) if weights is None else weights)
    source_mean, source_centred = _centre(source, mass)
    target_mean, target_centred = _centre(target, mass)
    determined = ((mass > 0).sum(-1) >= 3) & _spans_plane(source_centred, mass) & _spans_plane(target_centred, mass)
    if on_degenerate == "raise" and not bool(determined.all()):
        raise ValueError(_degenerate(determined))

    eye = torch.eye(3, dtype=torch.float64, device=source.device)
    covariance = target_centred.mT @ (mass[..., None] * source_centred)
    covariance = torch.where(determined[..., None, None], covariance, eye)
    mirror = torch.ones_like(mass[..., 0])
    if allow_reflection:  # -I mirrors space: the nearest mirrored rotation to M is minus the nearest rotation to -M
        mirror = torch.where(torch.linalg.det(covariance) < 0, -1.0, mirror)
    mirror = mirror[..., None, None]
    R = mirror * project_to_so3(mirror * covariance)
    s = torch.ones_like(mass[..., 0])
    if scale:
        variance = (mass[..., None] * source_centred**2).sum((-2, -1))
        s = (R * covariance).sum((-2, -1)) / torch.where(determined, variance, 1)
    t = target_mean - s[..., None] * (R @ source_mean[..., None])[..., 0]
    open_entry = ~determined
    return Similarity(
        R.masked_fill(open_entry[..., None, None], torch.nan).to(source.dtype),
        t.masked_fill(open_entry[..., None], torch.nan).to(source.dtype),
        s.masked_fill(open_entry, torch.nan).to(source.dtype),
    )


def _normalised(weights: Tensor) -> Tensor:
    """Weights in float64 that sum to 1 over the points (or to 0 where there are none)."""
    if not bool((weights >= 0).all()):
        raise ValueError("weights: negative or NaN; 0 leaves a point out")
    total = weights.double().sum(-1, keepdim=True)
    return weights.double() / torch.where(total > 0, total, 1)


def _centre(points: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean, and the points in float64 measured from it (zero where they have no weight)."""
    used = (mass > 0)[..., None]
    points = torch.where(used, points, 0).double()
    mean = (mass[..., None] * points).sum(-2)
    return mean, torch.where(used, points - mean[..., None, :], 0)


@torch.no_grad()
def _spans_plane(centred: Tensor, mass: Tensor) -> Tensor:
    """Are the points neither at one place nor on a line? From the eigenvalues of their covariance."""
    covariance = centred.mT @ (mass[..., None] * centred)
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    minors = (trace**2 - (covariance**2).sum((-2, -1))) / 2  # l1 l2 + l1 l3 + l2 l3
    return minors > COLLINEAR**2 * trace**2


def _degenerate(determined: Tensor) -> str:
    problem = "fewer than three points with weight, or all at one place or on a line: the rotation is open"
    if determined.ndim == 0:
        return f"procrustes: {problem}"
    entries = [tuple(entry) if len(entry) > 1 else entry[0] for entry in (~determined).nonzero().tolist()]
    shown = ", ".join(map(str, entries[:8])) + (f" and {len(entries) - 8} more" if len(entries) > 8 else "")
    return f"procrustes: batch entries {shown}: {problem}"
