"""Points from their pixels in several calibrated views."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

RIDGE = 1e-10
"""Relative to the mean eigenvalue of the 3x3 system; far below what the angle gate lets through: it moves no point."""


def triangulate(
    pixels: Float[Tensor, "*batch v n 2"],
    projections: Float[Tensor, "*batch v 3 4"],
    weights: Float[Tensor, "*batch v n"],
    passes: int = 2,
    min_angle_deg: float = 2.0,
) -> tuple[Float[Tensor, "*batch n 3"], Bool[Tensor, "*batch n"]]:
    """Linear triangulation: 3x3 weighted least squares of `(u P3 - P1) X = 0`, `(v P3 - P2) X = 0` over the views.

    `projections` are `K @ cam_from_world[:3]`. A weight of 0 leaves an observation out (its pixel may be NaN, and the
    projection of a view without any observation may be anything); else it multiplies the squared residual. The first
    pass measures residuals in the world, at the point's depth; each further one divides them by the depth that the last
    one found, which makes them distances in the image. Solved in float64 about the mean camera centre, with a relative
    ridge: the answer does not depend on the world's unit or origin.

    A point is valid where at least two views see it, in front of every one of them, along rays that meet at
    `min_angle_deg` or more. Without two such rays the point is the mean camera centre, with zero gradient.
    """
    if passes < 1:
        raise ValueError(f"passes: {passes} is less than 1")
    if not bool((weights >= 0).all()):
        raise ValueError("weights: negative or NaN; 0 leaves an observation out")
    dtype = pixels.dtype
    weights = weights.double().mT  # (n v): a point's observations lie together from here on
    used = weights > 0
    pixels = torch.where(used[..., None], pixels.transpose(-3, -2), 0).double()
    projections = _metric(projections.double(), used.any(-2))
    origin = _mean_centre(projections, used.any(-2))
    shifted = projections[..., 3] + (projections[..., :3] @ origin[..., None])[..., 0]
    projections = torch.cat((projections[..., :3], shifted[..., None]), -1)  # of points measured from the origin

    wide = _spread(pixels, projections[..., :3], used) >= math.sin(math.radians(min_angle_deg)) ** 2
    solvable = (used.sum(-1) >= 2) & wide
    rows = _rows(pixels, projections)
    row_weights = weights
    for _ in range(passes):
        points = _solve(rows, row_weights, solvable)
        depth = points @ projections[..., 2, :3].mT + projections[..., None, :, 2, 3]
        row_weights = weights / torch.where(used & (depth > 0), depth, 1) ** 2
    in_front = ((depth > 0) | ~used).all(-1)
    return (points + origin).to(dtype), solvable & in_front


def _metric(projections: Tensor, view_used: Tensor) -> Tensor:
    """Scale each projection so that its third row measures depth, positive in front; unused ones become [I | 0]."""
    unused = torch.eye(3, 4, dtype=projections.dtype, device=projections.device)
    projections = torch.where(view_used[..., None, None], projections, unused)
    third = torch.linalg.vector_norm(projections[..., 2, :3], dim=-1)
    sign = torch.where(torch.linalg.det(projections[..., :3]) < 0, -1.0, 1.0)
    scaled: Tensor = projections * (sign / third)[..., None, None]
    return scaled


@torch.no_grad()
def _mean_centre(projections: Tensor, view_used: Tensor) -> Tensor:
    """Mean camera centre (1 3), `-M^-1 p` for each `P = [M | p]`; a constant, on which the answer does not depend."""
    centres = -torch.linalg.solve(projections[..., :3], projections[..., 3]) * view_used[..., None]
    mean: Tensor = centres.sum(-2, keepdim=True) / view_used.sum(-1).clamp(min=1)[..., None, None]
    return mean


def _rows(pixels: Tensor, projections: Tensor) -> Tensor:
    """The equations `row . (X, 1) = 0` (n v 2 4).

    Dividing by the focal length brings them to unit length, so that views with long lenses do not outvote the others.
    """
    focal = torch.linalg.det(projections[..., :3]).sqrt()
    scaled = (projections / focal[..., None, None])[..., None, :, :, :]
    rows: Tensor = pixels[..., None] * scaled[..., 2:, :] - scaled[..., :2, :]
    return rows


def _solve(rows: Tensor, weights: Tensor, solvable: Tensor) -> Tensor:
    """Minimise the weighted squares of all rows; zero, with zero gradient, where a point is not solvable."""
    weighted = (rows * weights[..., None, None]).flatten(-3, -2)
    normal = weighted.mT @ rows.flatten(-3, -2)  # (n 4 4): the 3x3 system and, in the last column, minus its right side
    eye = torch.eye(3, dtype=rows.dtype, device=rows.device)
    ridge = RIDGE / 3 * normal.diagonal(dim1=-2, dim2=-1)[..., :3].sum(-1)
    left = torch.where(solvable[..., None, None], normal[..., :3, :3] + ridge[..., None, None] * eye, eye)
    points: Tensor = torch.linalg.solve(left, torch.where(solvable[..., None], -normal[..., :3, 3], 0))
    return points


@torch.no_grad()
def _spread(pixels: Tensor, matrices: Tensor, used: Tensor) -> Tensor:
    """Squared sine of the angle between two rays that would fix a point as well as all used rays do.

    For unit directions d the matrix `I - mean(d d^T)` has determinant `sin^2(angle) / 4` for two rays.
    """
    back = torch.linalg.inv(matrices)[..., None, :, :, :]
    rays = back[..., 2] + pixels[..., :1] * back[..., 0] + pixels[..., 1:] * back[..., 1]
    directions = torch.nn.functional.normalize(rays, dim=-1) * used[..., None]
    mean = directions.mT @ directions / used.sum(-1).clamp(min=1)[..., None, None]
    eye = torch.eye(3, dtype=pixels.dtype, device=pixels.device)
    spread: Tensor = 4 * torch.linalg.det(eye - mean)
    return spread
