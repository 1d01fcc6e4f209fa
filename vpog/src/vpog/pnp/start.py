"""A start for the solver out of nothing: many poses from a few random pairs each; the best for all pairs wins."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from posecore.data.counter_random import normals, uniforms
from vpog.pnp.cost import adaptive_delta, pose_costs, used
from vpog.pnp.lm import descend
from vpog.pnp.records import Correspondences, Failure
from vpog.pnp.settings import LmSettings, StartSettings
from vpog.pnp.soundness import sound

POINT_STREAM, ROTATION_STREAM = 7101, 7102
POSES_AT_ONCE = 8
"""Whose costs are computed together: 64 at once take five times as long on a CPU, where they leave the cache."""
MIN_SPREAD = 1e-9
"""Of normalised pixels that all lie in one place: they say nothing of the distance."""


def random_sample_start(
    correspondences: Correspondences, seeds: Int64[Tensor, " b"], start: StartSettings, settings: LmSettings
) -> Float[Tensor, "b 7"]:
    """Starting poses for `solve_lm`; NaN where the object cannot be solved.

    Pairs are drawn by their weight, rotations uniformly, translations from how far points and pixels spread.

    Args:
        seeds: An object's draws depend on its seed alone.
    """
    with torch.no_grad(), torch.autocast(correspondences.points_obj.device.type, enabled=False):
        checked = sound(correspondences, settings.min_points)
        given = in_single_precision(checked.correspondences)
        few = _few_pairs(given, seeds, start)
        first = _proposals(given, seeds, start.num_proposals)
        coarse = LmSettings(start.num_iterations, False, settings.z_min, settings.relative_delta)
        found = descend(few, first.flatten(0, 1), adaptive_delta(few, settings.relative_delta), coarse)
        poses = found.pose.reshape(-1, start.num_proposals, 7)
        best = poses[torch.arange(len(poses), device=poses.device), _costs(given, poses, settings).argmin(-1)]
        is_solvable = (checked.failure == Failure.NONE)[:, None] & best.isfinite().all(-1, keepdim=True)
        return torch.where(is_solvable, best, torch.nan).to(correspondences.points_obj.dtype)


def in_single_precision(c: Correspondences) -> Correspondences:
    """Enough for starts, and twice as fast."""
    return Correspondences(c.points_obj.float(), c.pixels.float(), c.weights.float(), c.K.float())


def centre_translation(correspondences: Correspondences) -> Float[Tensor, "b 3"]:
    """Where the object is if it is seen from a typical side: the pixels' centre, as far as they spread less than the points."""
    weigh = used(correspondences).to(correspondences.pixels)[..., None]
    count = weigh.sum(1).clamp_min(2)
    homogeneous = torch.nn.functional.pad(correspondences.pixels, (0, 1), value=1.0)
    rays: Tensor = torch.linalg.solve_ex(correspondences.K, homogeneous.mT).result
    normalised = rays.mT[..., :2]
    centre, point_centre = (
        (values * weigh).sum(1, keepdim=True) / count[:, None] for values in (normalised, correspondences.points_obj)
    )
    pixel_spread = ((normalised - centre) * weigh).square().sum((1, 2))
    point_spread = ((correspondences.points_obj - point_centre) * weigh).square().sum((1, 2))
    distance = (2 / 3 * point_spread / pixel_spread.clamp_min(MIN_SPREAD**2)).sqrt()
    return torch.nn.functional.pad(centre[:, 0], (0, 1), value=1.0) * distance[:, None]


def _proposals(given: Correspondences, seeds: Tensor, count: int) -> Float[Tensor, "b k 7"]:
    rotations = normals(seeds, ROTATION_STREAM, count * 4).reshape(-1, count, 4)
    trans = centre_translation(given)[:, None].expand(-1, count, 3)
    return torch.cat([trans, torch.nn.functional.normalize(rotations, dim=-1)], -1)


def _costs(given: Correspondences, poses: Float[Tensor, "b k 7"], settings: LmSettings) -> Float[Tensor, "b k"]:
    """For all pairs; infinite where the pose is none."""
    is_pose = poses.isfinite().all(-1)
    delta = adaptive_delta(given, settings.relative_delta)
    blocks = torch.split(torch.where(is_pose[..., None], poses, 1), POSES_AT_ONCE, 1)
    costs = torch.cat([pose_costs(given, block, delta, settings.z_min) for block in blocks], 1)
    return torch.where(is_pose, costs, torch.inf)


def _few_pairs(given: Correspondences, seeds: Tensor, start: StartSettings) -> Correspondences:
    """`num_points` pairs for each proposal, drawn by weight; (b * proposals) objects."""
    b, n = given.pixels.shape[:2]
    cumulative = given.weights.mean(-1).double().cumsum(-1)
    draws = uniforms(seeds, POINT_STREAM, start.num_proposals * start.num_points).double()
    chosen = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True).clamp_max(n - 1)
    rows = torch.arange(b, device=seeds.device)[:, None]
    points, pixels, weights = (
        values[rows, chosen].reshape(b * start.num_proposals, start.num_points, -1)
        for values in (given.points_obj, given.pixels, given.weights)
    )
    return Correspondences(points, pixels, weights, given.K.repeat_interleave(start.num_proposals, 0))
