"""From the matches of groups to poses: one hypothesis for each template, and one of all templates together."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vpog.config.inference import InferenceConfig
from vpog.inference.centre_pairs import centre_correspondences
from vpog.inference.objects import TemplateBank
from vpog.inference.scoring import PatchMatches, match_groups, patch_matches
from vpog.model.network import VpogNetwork
from vpog.model.prediction import DenseMatches
from vpog.pnp.lm import solve_lm
from vpog.pnp.poses import pose_to_matrix
from vpog.pnp.ransac import ransac
from vpog.pnp.records import Correspondences, Failure, Poses
from vpog.pnp.settings import LmSettings, RansacSettings, StartSettings, WiringSettings
from vpog.pnp.start import random_sample_start
from vpog.pnp.wiring import TemplateGeometry, matched_correspondences

TRAINED_CROP_PX = 224
"""The crop that pixel thresholds are given for."""


@dataclass(frozen=True)
class Query:
    """Crops of r detections as tensors on the network's device."""

    tokens: Float[Tensor, "r p d"]
    is_object: Bool[Tensor, "r p"]
    """Patches that may show the object."""
    K: Float[Tensor, "r 3 3"]
    """Of the crops."""
    diameter_mm: Float[Tensor, " r"]


@dataclass(frozen=True)
class Hypotheses:
    """h poses of some queries."""

    query: Int64[Tensor, " h"]
    view: Int64[Tensor, " h"]
    """Row of the template bank; of several templates the one that explains most."""
    cam_from_obj_mm: Float[Tensor, "h 4 4"]
    score: Float[Tensor, " h"]
    """0..1: share of the query's patches that are matched, by probability, times the share of the pairs' weight that
    agrees with the pose. 0 where there is no pose."""
    num_inliers: Int64[Tensor, " h"]
    num_pairs: Int64[Tensor, " h"]
    covariance: Float[Tensor, "h 6 6"]
    """Of translation (mm) and rotation (rad, in the camera's frame, from the left)."""
    failure: Int64[Tensor, " h"]
    """A `pnp.records.Failure` each."""


def solve_groups(
    network: VpogNetwork,
    query: Query,
    bank: TemplateBank,
    owner: Int64[Tensor, " g"],
    rows: Int64[Tensor, "g s"],
    config: InferenceConfig,
    seed: int = 0,
) -> Hypotheses:
    """Match g groups of views, each with the query that owns it, and solve them: g x (s + 1) hypotheses."""
    matching = match_groups(network, query.tokens[owner], bank, rows)
    matches = patch_matches(matching.logits, query.is_object[owner])
    pairs = _pairs(matches, config.min_probability)
    dense = network.dense(matching, pairs)
    probability = matches.probability[pairs[:, 0], pairs[:, 1], pairs[:, 2]]
    solve = partial(
        _solve, query, bank, owner, rows, matches, pairs, dense, probability, matching.pnp_scale, config,
        network.patch_size,
    )  # fmt: skip
    each = solve(joint=False, seed=seed)
    if rows.shape[1] == 1:
        return _hypotheses(query, owner, rows, matches, each, joint=False)
    together = solve(joint=True, seed=seed)
    return joined(
        _hypotheses(query, owner, rows, matches, each, joint=False),
        _hypotheses(query, owner, rows, matches, together, joint=True),
    )


def joined(*parts: Hypotheses) -> Hypotheses:
    names = Hypotheses.__dataclass_fields__
    return Hypotheses(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


@dataclass(frozen=True)
class _Solved:
    poses: Poses
    correspondences: Correspondences
    inliers: Bool[Tensor, "h n"]


def _pairs(matches: PatchMatches, least: float) -> Int64[Tensor, "m 4"]:
    group, template, patch = (matches.probability > least).nonzero(as_tuple=True)
    return torch.stack([group, template, patch, matches.patch[group, template, patch]], -1)


def _solve(
    query: Query,
    bank: TemplateBank,
    owner: Tensor,
    rows: Tensor,
    matches: PatchMatches,
    pairs: Tensor,
    dense: DenseMatches,
    probability: Tensor,
    pnp_scale: Tensor,
    config: InferenceConfig,
    patch_size: int,
    joint: bool,
    seed: int,
) -> _Solved:
    """`joint`: all templates of a group make one problem; else each makes its own."""
    size = rows.shape[1]
    if not joint:  # every template becomes a group of its own
        owner, rows = owner.repeat_interleave(size), rows.reshape(-1, 1)
        pnp_scale = pnp_scale.repeat_interleave(size, 0)
        pairs = torch.stack([pairs[:, 0] * size + pairs[:, 1], torch.zeros_like(pairs[:, 1]), *pairs[:, 2:].T], -1)
        matches = PatchMatches(matches.patch.flatten(0, 1)[:, None], matches.probability.flatten(0, 1)[:, None])
    geometry = TemplateGeometry(bank.depth_mm[rows], bank.K[rows], bank.cam_from_obj_mm[rows])
    found = _correspondences(query, owner, geometry, matches, pairs, dense, probability, pnp_scale, config, patch_size)
    crop_px = bank.depth_mm.shape[-1]
    threshold = config.inlier_px * crop_px / TRAINED_CROP_PX
    if config.solver == "ransac":
        solved = ransac(found, RansacSettings(threshold_px=threshold, max_iterations=config.iterations), LmSettings())
        return _Solved(solved.poses, found, solved.inliers)
    start = random_sample_start(found, place_among_own(owner) + seed, StartSettings(), LmSettings())
    poses = solve_lm(found, start, LmSettings())
    return _Solved(poses, found, agreeing(found, poses, threshold))


def place_among_own(owner: Int64[Tensor, " g"]) -> Int64[Tensor, " g"]:
    """How many problems of the same query come before each: seeds that do not depend on the other queries."""
    ordered, order = owner.sort(stable=True)
    place = torch.empty_like(owner)
    place[order] = torch.arange(len(owner), device=owner.device) - torch.searchsorted(ordered, ordered)
    return place


def _correspondences(
    query: Query,
    owner: Tensor,
    geometry: TemplateGeometry,
    matches: PatchMatches,
    pairs: Tensor,
    dense: DenseMatches,
    probability: Tensor,
    pnp_scale: Tensor,
    config: InferenceConfig,
    patch_size: int,
) -> Correspondences:
    K, unit_mm = query.K[owner], query.diameter_mm[owner]
    if config.pairs == "centre":
        return centre_correspondences(matches, pairs, dense.centre_flow, geometry, K, unit_mm, patch_size)
    wiring = WiringSettings(config.max_points, config.point_stride, config.min_weight)
    return matched_correspondences(pairs, dense, probability, geometry, K, unit_mm, pnp_scale, wiring)


def agreeing(found: Correspondences, poses: Poses, threshold_px: float) -> Bool[Tensor, "h n"]:
    """Pairs whose point projects within the threshold of its pixel."""
    matrix = pose_to_matrix(poses.pose, torch.ones_like(poses.cost)).to(found.points_obj)
    points = found.points_obj @ matrix[:, :3, :3].mT + matrix[:, None, :3, 3]
    projected = points @ found.K.mT
    pixels = projected[..., :2] / projected[..., 2:].clamp_min(1e-6)
    close = (pixels - found.pixels).norm(dim=-1) < threshold_px
    agrees: Tensor = close & (projected[..., 2] > 0) & (found.weights > 0).any(-1)
    return agrees


def _hypotheses(
    query: Query, owner: Tensor, rows: Tensor, matches: PatchMatches, solved: _Solved, joint: bool
) -> Hypotheses:
    patches = query.is_object[owner].sum(-1).clamp_min(1)
    best = matches.score.argmax(1)
    if joint:
        share = matches.probability.amax(1).sum(-1) / patches
        view = rows.gather(1, best[:, None])[:, 0]
    else:
        share = (matches.score / patches[:, None]).reshape(-1)
        owner, view = owner.repeat_interleave(rows.shape[1]), rows.reshape(-1)
    weight = solved.correspondences.weights.sum(-1)
    agreed = (weight * solved.inliers).sum(-1) / weight.sum(-1).clamp_min(1e-12)
    is_solved = solved.poses.failure == Failure.NONE
    unit = query.diameter_mm[owner]
    scale = torch.cat([unit[:, None].expand(-1, 3), torch.full((len(unit), 3), 2.0, device=unit.device)], 1)
    return Hypotheses(
        query=owner,
        view=view,
        cam_from_obj_mm=pose_to_matrix(solved.poses.pose.float(), unit),
        score=torch.where(is_solved, share * agreed, 0.0),
        num_inliers=solved.inliers.sum(-1),
        num_pairs=(solved.correspondences.weights > 0).any(-1).sum(-1),
        covariance=solved.poses.covariance.float() * scale[:, :, None] * scale[:, None, :],
        failure=solved.poses.failure,
    )
