"""Points in space from where the views of an object see them: differentiable, and deaf to views that disagree.

Rays instead of the DLT of posecore.cameras.triangulate (the metric's solver, float64): the 3x3 system stays well
conditioned in float32, its ridge keeps the gradient finite where all rays are parallel, and on clean data both agree.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posecore.cameras import project, transform, unproject

RIDGE = 1e-6
"""Beside weights of about 1: it moves a point by about a millionth of its distance from the origin."""


@dataclass(frozen=True)
class RobustPoints:
    """Points of k tokens and how well v views agree about them; lengths in the world's unit."""

    points: Float[Tensor, "*batch k 3"]
    counted: Bool[Tensor, "*batch k"]
    """Enough views agree, along rays that differ enough in direction."""
    projected_px: Float[Tensor, "*batch v k 2"]
    errors_px: Float[Tensor, "*batch v k"]
    """Distances of the projected points from what was seen; without meaning where the weight is 0."""
    weights: Float[Tensor, "*batch v k"]
    """After the last round, no gradient; 0 where a point lies behind the camera."""


def triangulate_rays(
    uv: Float[Tensor, "*batch v k 2"],
    K: Float[Tensor, "*#batch #v 3 3"],
    cam_from_world: Float[Tensor, "*#batch v 4 4"],
    weights: Float[Tensor, "*batch v k"],
    ridge: float = RIDGE,
) -> Float[Tensor, "*batch k 3"]:
    """The points nearest to their rays: `A^-1 sum w (I - d d^T) C` with `A = sum w (I - d d^T) + ridge I`.

    `uv` are pixels (x, y) of cameras with centres C and intrinsics K (`K[None]` where all views share it), d the rays'
    unit directions, w >= 0 the weights. Without any weight the answer is the origin, with zero gradient.
    """
    across, centres = _across_rays(uv, K, cam_from_world, weights)
    return _meet(across, centres, ridge)


def view_weights(confidence: Float[Tensor, "*batch v k"], min_confidence: float = 0.1) -> Float[Tensor, "*batch v k"]:
    """Weights of views from their maps' heights: as they are, 0 below `min_confidence` times the token's best view.

    No gradient: a map shall not grow because its place fits.
    """
    height = confidence.detach()
    return torch.where(height >= min_confidence * height.amax(-2, keepdim=True), height, 0)


def robust_points(
    uv: Float[Tensor, "*batch v k 2"],
    K: Float[Tensor, "*#batch #v 3 3"],
    cam_from_world: Float[Tensor, "*#batch v 4 4"],
    weights: Float[Tensor, "*batch v k"],
    width_px: float,
    robust_width: float = 0.03,
    rounds: int = 4,
    min_views: int = 3,
    min_angle: float = 0.02,
    ridge: float = RIDGE,
) -> RobustPoints:
    """Triangulate, then `rounds` times again with weights `w q^2 / (q^2 + e^2)`, e the reprojection error.

    So hidden and mirrored views drop out. q is `robust_width` times `width_px`, the views' width in the pixels of uv and
    K. A point is counted where at least `min_views` views keep more than half their weight and the least eigenvalue of
    `sum w (I - d d^T) / sum w` is above `min_angle` (1/2 (1 - cos) of the angle between two rays). Gradients reach the
    points through uv, not through the weights. Only ratios of weights matter: the ridge is relative to the best view's.
    """
    q = robust_width * width_px
    given = weights.detach()
    best = given.amax(-2, keepdim=True)
    given = given / torch.where(best > 0, best, 1)
    across, centres = _across_rays(uv, K, cam_from_world, torch.ones_like(given))
    kept = given
    for _ in range(rounds):
        with torch.no_grad():
            points = _meet(across * kept[..., None, None], centres, ridge)
            _, errors, in_front = _reproject(points, uv, K, cam_from_world)
            kept = torch.where(in_front, given * q**2 / (q**2 + errors**2), 0)
    points = _meet(across * kept[..., None, None], centres, ridge)
    projected, errors, in_front = _reproject(points, uv, K, cam_from_world)
    kept = torch.where(in_front, kept, 0)
    enough = ((kept > given / 2) & (given > 0)).sum(-2) >= min_views
    wide = _least_eigenvalue(across, kept) > min_angle
    return RobustPoints(points, enough & wide, projected, errors, kept * best)


def _across_rays(uv: Tensor, K: Tensor, cam_from_world: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """`w (I - d d^T)` of each ray (v k 3 3), and camera centres (v 3)."""
    rotation = cam_from_world[..., :3, :3]
    directions = unproject(uv, torch.ones_like(weights), K) @ rotation  # rows: R^T x
    directions = torch.nn.functional.normalize(directions, dim=-1)
    eye = torch.eye(3, dtype=uv.dtype, device=uv.device)
    across = (eye - directions[..., :, None] * directions[..., None, :]) * weights[..., None, None]
    centres = -(rotation.mT @ cam_from_world[..., :3, 3:])[..., 0]
    return across, centres


def _meet(across: Tensor, centres: Tensor, ridge: float) -> Tensor:
    eye = torch.eye(3, dtype=across.dtype, device=across.device)
    right = (across @ centres[..., None, :, None]).sum(-4)
    solution, _ = torch.linalg.solve_ex(across.sum(-4) + ridge * eye, right)  # never singular: the ridge
    points: Tensor = solution[..., 0]
    return points


def _reproject(points: Tensor, uv: Tensor, K: Tensor, cam_from_world: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (v k 2), distances from uv (v k), and whether the points are in front (v k)."""
    projected, in_front = project(transform(cam_from_world, points[..., None, :, :]), K)
    return projected, torch.linalg.vector_norm(projected - uv, dim=-1), in_front


@torch.no_grad()
def _least_eigenvalue(across: Tensor, weights: Tensor) -> Tensor:
    """Of `sum w (I - d d^T) / sum w` (k), at most 2/3; 0 without any weight. Closed form for symmetric 3x3 (Smith 1961)."""
    total = weights.sum(-2)
    mean = (across * weights[..., None, None]).sum(-4) / torch.where(total > 0, total, 1)[..., None, None]
    eye = torch.eye(3, dtype=mean.dtype, device=mean.device)
    centre = mean.diagonal(dim1=-2, dim2=-1).mean(-1)
    off = mean - centre[..., None, None] * eye
    radius = ((off**2).sum((-2, -1)) / 6).sqrt()
    safe = torch.where(radius > 0, radius, 1)
    cosine = (torch.linalg.det(off / safe[..., None, None]) / 2).clamp(-1, 1)
    least: Tensor = centre + 2 * radius * torch.cos((torch.acos(cosine) + 2 * torch.pi) / 3)
    return least
