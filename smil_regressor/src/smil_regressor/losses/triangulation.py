"""Differentiable triangulation of keypoints with predicted cameras.

Linear (DLT) with the fourth coordinate fixed to 1: the normal equations are solved, so the gradient has none of the
poles of a singular value decomposition. The defaults compute what the published model's loss computes.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MIN_VIEWS = 2


@dataclass(frozen=True)
class Triangulation:
    """How to triangulate. The defaults are the published model's; the rest makes it sounder, and is off by default."""

    regulariser: float = 1e-6
    """Added to the normal matrix's diagonal; pulls points to the origin (`relative`: to the rays' midpoint)."""
    relative: bool = False
    """Centre the equations on the midpoint of the rays, and take `regulariser` relative to their size."""
    reweight_passes: int = 0
    """Divide each view's equations by the point's depth in it, so often: errors are then in image units."""
    use_confidence: bool = False
    """Weigh views by the confidence of their keypoint, not just by whether there is one."""
    double: bool = False
    """Solve in float64."""
    min_angle_deg: float | None = None
    """Rays that meet at a smaller angle give no valid point."""
    in_front: bool = False
    """A point behind a camera that sees it is not valid."""
    huber_delta: float | None = None
    """The loss grows linearly beyond this distance (world units)."""
    max_distance: float = 25.0
    """Points farther from the body's centre than so many of its radii do not count."""


def triangulate_keypoints(
    pixels: Float[Tensor, "b v j 2"],
    K: Float[Tensor, "b v 3 3"],
    cam_from_world: Float[Tensor, "b v 4 4"],
    weights: Float[Tensor, "b v j"],
    size_wh: Float[Tensor, " 2"],
    options: Triangulation,
) -> tuple[Float[Tensor, "b j 3"], Bool[Tensor, "b j"]]:
    """World points, and which are valid: seen in at least two views (weight > 0), and what the options ask for."""
    dtype = torch.float64 if options.double else pixels.dtype
    with torch.autocast(pixels.device.type, enabled=False):
        used = weights > 0
        K, cam_from_world = K.to(dtype), cam_from_world.to(dtype)
        # Pixels of unused views may be nan, as missing keypoints often are.
        pixels = torch.where(used[..., None], pixels, 0).to(dtype)
        rows = _equations(pixels, K @ cam_from_world[..., :3, :], size_wh.to(dtype))
        scale = weights.to(dtype) if options.use_confidence else used.to(dtype)
        rows = rows * scale.sqrt()[..., None, None]
        centre, rays = _midpoint(pixels, K, cam_from_world, used)
        if not options.relative:
            centre = torch.zeros_like(centre)
        points = _solve(rows, centre, options)
        for _ in range(options.reweight_passes):
            depth = _depth(points.detach(), cam_from_world)
            inverse = torch.where(depth > 0, 1 / torch.where(depth > 0, depth, 1), 0)
            points = _solve(rows * inverse[..., None, None], centre, options)
        valid = used.sum(1) >= MIN_VIEWS
        if options.in_front:
            valid = valid & ((_depth(points, cam_from_world) > 0) | ~used).all(1)
        if options.min_angle_deg is not None:
            valid = valid & (_widest_angle_deg(rays, used) >= options.min_angle_deg)
        return points, valid


def _equations(pixels: Tensor, projection: Tensor, size_wh: Tensor) -> Tensor:
    """(b v j 2 4): (u P3 - P1) 2/W and (v P3 - P2) 2/H: the published scaling, of coordinates from -1 to 1."""
    rows = pixels[..., None] * projection[:, :, None, 2:3] - projection[:, :, None, :2]
    return rows * (2 / size_wh)[:, None]


def _solve(rows: Tensor, centre: Tensor, options: Triangulation) -> Tensor:
    """(b j 3): least squares of A (X - centre) = -(a + A centre), regularised."""
    A, a = rows[..., :3], rows[..., 3] + torch.einsum("bvjrk,bjk->bvjr", rows[..., :3], centre)
    normal = torch.einsum("bvjrk,bvjrl->bjkl", A, A)
    eye = torch.eye(3, dtype=rows.dtype, device=rows.device)
    strength = torch.full_like(normal[..., 0, 0], options.regulariser)
    if options.relative:
        trace = normal.diagonal(dim1=-2, dim2=-1).sum(-1).detach() / 3
        strength = torch.where(trace > 0, trace, 1) * options.regulariser
    right = torch.einsum("bvjrk,bvjr->bjk", A, a)
    shift: Tensor = torch.linalg.solve(normal + strength[..., None, None] * eye, right)
    return centre - shift


def _depth(points: Tensor, cam_from_world: Tensor) -> Tensor:
    return torch.einsum("bvk,bjk->bvj", cam_from_world[..., 2, :3], points) + cam_from_world[..., 2, 3, None]


@torch.no_grad()
def _midpoint(pixels: Tensor, K: Tensor, cam_from_world: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Point nearest to a joint's rays (b j 3), and their directions (b v j 3) in the world."""
    rotation, translation = cam_from_world[..., :3, :3], cam_from_world[..., :3, 3]
    origin = -torch.einsum("bvik,bvi->bvk", rotation, translation)[:, :, None]
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
    rays = torch.linalg.solve(K, homogeneous.transpose(-1, -2)).transpose(-1, -2) @ rotation
    rays = rays / torch.linalg.vector_norm(rays, dim=-1, keepdim=True)
    eye = torch.eye(3, dtype=rays.dtype, device=rays.device)
    across = (eye - rays[..., :, None] * rays[..., None, :]) * used[..., None, None]
    # Parallel rays leave one direction open: it is held by a tiny pull to the mean of the camera centres.
    pull = 1e-6 * eye
    mean = origin.mean(1)
    right = torch.einsum("bvjkl,bvjl->bjk", across, (origin - mean[:, None]).expand_as(rays))
    return mean + torch.linalg.solve(across.sum(1) + pull, right), rays


def _widest_angle_deg(rays: Tensor, used: Tensor) -> Tensor:
    """(b j): the largest angle between two used rays, as lines."""
    cosine = torch.einsum("bvjk,bwjk->bjvw", rays, rays).abs()
    both = used.transpose(1, 2)[..., :, None] & used.transpose(1, 2)[..., None, :]
    smallest = torch.where(both, cosine, 1.0).amin((-2, -1)).clamp(max=1)  # rounding may give a cosine above 1
    return torch.rad2deg(torch.acos(smallest))
