"""A start for the solver out of nothing: many poses from a few random pairs each; the best for all pairs wins."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from posecore.data.counter_random import normals, uniforms
from vpog.pnp.cost import adaptive_delta, pose_costs, used
from vpog.pnp.lm import in_solver_precision, solve_lm
from vpog.pnp.records import Correspondences
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
        given = sound(in_solver_precision(correspondences), settings.min_points).correspondences
        few = _few_pairs(given, seeds, start)
        rotations = normals(seeds, ROTATION_STREAM, start.num_proposals * 4).to(given.pixels)
        rotations = torch.nn.functional.normalize(rotations.reshape(-1, start.num_proposals, 4), dim=-1)
        trans = centre_translation(given)[:, None].expand(-1, start.num_proposals, 3)
        first = torch.cat([trans, rotations], -1).flatten(0, 1)
        coarse = LmSettings(start.num_iterations, False, settings.z_min, settings.relative_delta, min_points=1)
        poses = solve_lm(few, first, coarse).pose.reshape(-1, start.num_proposals, 7)
        is_pose = poses.isfinite().all(-1)
        delta = adaptive_delta(given, settings.relative_delta)
        blocks = torch.split(torch.where(is_pose[..., None], poses, 1), POSES_AT_ONCE, 1)
        costs = torch.cat([pose_costs(given, block, delta, settings.z_min) for block in blocks], 1)
        best = torch.where(is_pose, costs, torch.inf).argmin(-1)
        return poses[torch.arange(len(best), device=best.device), best].to(correspondences.points_obj.dtype)


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
