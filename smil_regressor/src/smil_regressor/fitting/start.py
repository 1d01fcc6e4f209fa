"""Where a fit starts: the body in rest pose, where the labels put it."""

from itertools import combinations, permutations, product

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posecore.alignment import procrustes
from posecore.cameras import project, triangulate
from posecore.errors import InputError
from smil_regressor.fitting.problem import Problem
from smil_regressor.fitting.unknowns import Start
from smil_regressor.model.body import Body, to_cameras
from smil_regressor.model.state import BodyParameters

MIN_POINTS = 3
INLIER_SIGMAS = 5.0
"""Expected label errors beyond which a label does not support a triangulated point."""
PROCRUSTES_PASSES = 6
OUTLIER_SHARE = 0.15
"""Of the points' spread: a joint farther than this from the aligned rest pose counts little for the alignment."""


def rest_joints(body: Body, b: int) -> Float[Tensor, "b j 3"]:
    """Of the mean shape, measured from the root."""
    model = body.model
    eye = torch.eye(3).to(model.template).expand(b, model.num_joints, 3, 3)
    mean = model.template.new_zeros(model.num_betas) if model.shape_mean is None else model.shape_mean
    joints: Tensor = model.keypoints(eye, mean.expand(b, -1), model.template.new_zeros(b, 3))
    return joints - joints[:, body.root : body.root + 1]


def robust_points(problem: Problem) -> tuple[Float[Tensor, "b j 3"], Bool[Tensor, "b j"]]:
    """Points of the 2D labels, and which there are: the best of all pairs of views, then all views that support it."""
    b, v, j = problem.pixel_weights.shape
    projections = problem.K @ problem.cam_from_world[..., :3, :]
    best = torch.full((b, j), torch.inf, device=problem.K.device)
    inliers = torch.zeros((b, v, j), dtype=torch.bool, device=problem.K.device)
    for pair in combinations(range(v), 2):
        chosen = torch.zeros_like(problem.pixel_weights)
        chosen[:, list(pair)] = problem.pixel_weights[:, list(pair)]
        points, valid = triangulate(problem.pixels, projections, chosen)
        close = _relative_error(points, problem)
        cost = (close.clamp(max=1) * problem.pixel_weights).sum(1)
        better = valid & (cost < best)
        best = torch.where(better, cost, best)
        supported = (close < 1) & (problem.pixel_weights > 0)
        inliers = torch.where(better[:, None], supported, inliers)
    return triangulate(problem.pixels, projections, problem.pixel_weights * inliers)


def aligned_start(problem: Problem, body: Body, mesh_scale: float | None) -> tuple[Start, Bool[Tensor, " b"]]:
    """Rest pose on the 3D labels and triangulated points, and for which samples there are enough of them."""
    found, valid = robust_points(problem)
    known = problem.point_weights > 0
    target = torch.where(known[..., None], problem.points, found)
    weights = (known | valid).to(target.dtype)
    source = rest_joints(body, len(problem)) * (1.0 if mesh_scale is None else mesh_scale)
    spread = _spread(target, weights)
    trusted = weights
    for _ in range(PROCRUSTES_PASSES):
        fit = procrustes(source, target, trusted, scale=mesh_scale is None, on_degenerate="nan")
        error = torch.linalg.vector_norm(fit.apply(source) - target, dim=-1) / (OUTLIER_SHARE * spread[:, None])
        trusted = torch.where(weights > 0, weights / (1 + error.nan_to_num(0.0).square()), 0)
    is_open = fit.s.isnan()
    scale = fit.s if mesh_scale is None else torch.full_like(fit.s, mesh_scale)
    eye = torch.eye(3).to(fit.R)
    return Start(
        torch.where(is_open[:, None, None], eye, fit.R),
        torch.where(is_open[:, None], 0, fit.t),
        torch.where(is_open, 1.0 if mesh_scale is None else mesh_scale, scale),
    ), ~is_open


def candidate_starts(problem: Problem, body: Body, mesh_scale: float) -> Start:
    """The 24 quarter turns of a body of known size, at the depth where its spread is that of the labels.

    The view with the most labels decides. Rows: all samples in the first turn, then all in the second, and so on.
    """
    count = (problem.pixel_weights > 0).sum(-1)
    view, sample = count.argmax(1), torch.arange(len(problem), device=count.device)
    K, cam_from_world = problem.K[sample, view], problem.cam_from_world[sample, view]
    weights = (problem.pixel_weights[sample, view] > 0).to(K.dtype)
    rest = rest_joints(body, len(problem)) * mesh_scale
    pixels, centre = problem.pixels[sample, view], _mean(problem.pixels[sample, view], weights)
    focal = (K[:, 0, 0] * K[:, 1, 1]).sqrt()
    # of three dimensions, a picture shows two
    depth = focal * _spread(rest, weights) * (2 / 3) ** 0.5 / _spread(pixels, weights).clamp(min=1)
    ray = torch.linalg.solve(K, torch.cat([centre, torch.ones_like(centre[:, :1])], 1)[..., None])[..., 0]
    world_from_cam_rot = cam_from_world[:, :3, :3].mT
    middle = (world_from_cam_rot @ (ray * depth[:, None] - cam_from_world[:, :3, 3])[..., None])[..., 0]
    rotations = world_from_cam_rot @ _quarter_turns().to(K)[:, None]  # (24 b 3 3)
    translations = middle - (rotations @ _mean(rest, weights)[..., None])[..., 0]
    return Start(rotations.flatten(0, 1), translations.flatten(0, 1), focal.new_full((24 * len(focal),), mesh_scale))


def placed(start: Start, body: Body) -> BodyParameters:
    """The body in rest pose and mean shape."""
    b, model = len(start.mesh_scale), body.model
    rotations = torch.eye(3).to(start.rotation).repeat(b, model.num_joints, 1, 1)
    rotations[:, 0] = start.rotation
    mean = start.translation.new_zeros(model.num_betas) if model.shape_mean is None else model.shape_mean
    return BodyParameters(
        rotations=rotations,
        rotation_params=rotations[..., :2].flatten(-2),
        betas=mean.expand(b, -1),
        translation=start.translation,
        log_scales=None,
        joint_offsets=None,
        mesh_scale=start.mesh_scale,
    )


def check_labels(problem: Problem, keys: tuple[str, ...]) -> None:
    """Raises InputError for samples that no calibrated view or too few labels describe."""
    joints = ((problem.pixel_weights > 0).any(1) | (problem.point_weights > 0)).sum(1)
    problems = [
        f"{key}: {count} joints with a label in a calibrated view; a fit needs {MIN_POINTS} or more"
        for key, count in zip(keys, joints.tolist(), strict=True)
        if count < MIN_POINTS
    ]
    if problems:
        raise InputError(problems)


def _relative_error(points: Float[Tensor, "b j 3"], problem: Problem) -> Float[Tensor, "b v j"]:
    """Squared reprojection error over the largest that supports a point; 1 behind the camera and without label."""
    pixels, in_front = project(to_cameras(points, problem.cam_from_world), problem.K)
    reach = INLIER_SIGMAS * problem.sigma_px[:, None, None]
    error = (pixels - problem.pixels).square().sum(-1) / reach**2
    return torch.where(in_front & (problem.pixel_weights > 0), error, 1)


def _spread(points: Float[Tensor, "b n d"], weights: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Root mean square distance of the weighed points from their mean."""
    distance = (points - _mean(points, weights)[:, None]).square().sum(-1)
    return ((weights * distance).sum(1) / weights.sum(1).clamp(min=1)).sqrt()


def _mean(points: Float[Tensor, "b n d"], weights: Float[Tensor, "b n"]) -> Float[Tensor, "b d"]:
    """0 without weights."""
    return (weights[..., None] * points).sum(1) / weights.sum(1, keepdim=True).clamp(min=1)


def _quarter_turns() -> Float[Tensor, "24 3 3"]:
    """The rotations of a cube."""
    turns = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            matrix = torch.zeros(3, 3)
            matrix[range(3), order] = torch.tensor(signs)
            if torch.linalg.det(matrix) > 0:
                turns.append(matrix)
    return torch.stack(turns)
