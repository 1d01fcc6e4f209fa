"""Which objects can be solved, and numbers that let a batch go on beside those that cannot."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vpog.pnp.cost import used
from vpog.pnp.records import Correspondences, Failure

THINNESS = 1e-6
"""Points whose scatter across their line is below this share of that along it (squared lengths) lie on a line."""


@dataclass(frozen=True)
class Sound:
    """All finite: padding is zero, and so are all weights of an object that failed."""

    correspondences: Correspondences
    failure: Int64[Tensor, " b"]


def sound(correspondences: Correspondences, min_points: int = 6) -> Sound:
    """Sort out what cannot be solved; gradients of the rest pass."""
    failure = failures(correspondences, min_points)
    keep = (used(correspondences) & (failure == Failure.NONE)[:, None])[..., None]
    eye = torch.eye(3, dtype=correspondences.K.dtype, device=correspondences.K.device)
    has_camera = correspondences.K.sum((-2, -1), keepdim=True).isfinite()
    return Sound(
        Correspondences(
            torch.where(keep, correspondences.points_obj, 0),
            torch.where(keep, correspondences.pixels, 0),
            torch.where(keep, correspondences.weights, 0),
            torch.where(has_camera, correspondences.K, eye),
        ),
        failure,
    )


@torch.no_grad()
def failures(correspondences: Correspondences, min_points: int) -> Int64[Tensor, " b"]:
    """A `Failure` for each object, judged by its pairs alone."""
    is_used = used(correspondences)
    given = (correspondences.points_obj.sum(-1) + correspondences.pixels.sum(-1)).isfinite()
    is_finite = (given | ~is_used).all(-1) & correspondences.weights.sum((-2, -1)).isfinite()
    is_finite &= correspondences.K.sum((-2, -1)).isfinite()
    points = torch.where((is_used & given)[..., None], correspondences.points_obj, 0)
    failure = torch.zeros_like(is_finite, dtype=torch.int64)
    failure = torch.where(_on_a_line(points, is_used), int(Failure.DEGENERATE), failure)
    failure = torch.where(is_used.sum(-1) < min_points, int(Failure.TOO_FEW_PAIRS), failure)
    return torch.where(is_finite, failure, int(Failure.NOT_FINITE))


def usable_start(start: Float[Tensor, "b 7"]) -> tuple[Float[Tensor, "b 7"], Int64[Tensor, " b"]]:
    """Starts that are not finite become a harmless pose, and a failure."""
    is_finite = start.isfinite().all(-1) & (start[:, 3:].abs().sum(-1) > 0)
    harmless = torch.tensor([0, 0, 1, 1, 0, 0, 0], dtype=start.dtype, device=start.device)
    failure = torch.where(is_finite, int(Failure.NONE), int(Failure.NOT_FINITE))
    return torch.where(is_finite[:, None], start, harmless), failure


def _on_a_line(points: Tensor, is_used: Tensor) -> Tensor:
    """By the principal minors of the scatter: their sum is that of the products of two eigenvalues."""
    weigh = is_used.double()[:, None]
    points = points.double()
    centre = weigh @ points / weigh.sum(-1, keepdim=True).clamp_min(1)
    spread = (points - centre) * weigh.mT
    scatter = spread.mT @ spread
    diagonal = scatter.diagonal(dim1=-2, dim2=-1)
    pairs = scatter.square().triu(1).sum((-2, -1))
    a, b, c = diagonal.unbind(-1)
    return a * b + a * c + b * c - pairs <= THINNESS * diagonal.sum(-1).square()
