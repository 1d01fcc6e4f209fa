"""What a fit minimises: negative log likelihood of labels and priors, one value a sample."""

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.cameras import project
from posecore.rendering import Backend, edge_silhouette
from posecore.rotations import geodesic_distance
from smil_regressor.fitting.options import ANGLE_SIGMA_RAD, MASK_WEIGHT, POINT_SIGMA
from smil_regressor.fitting.problem import Problem
from smil_regressor.fitting.unknowns import Unknowns
from smil_regressor.losses.scene import LossSettings
from smil_regressor.losses.silhouette import silhouette_error
from smil_regressor.model.body import Body, to_cameras
from smil_regressor.model.state import BodyParameters

SOFT_IOU = LossSettings(silhouette="soft_iou")


def keypoint_energy(unknowns: Unknowns, body: Body, parameters: BodyParameters, delta: float) -> Float[Tensor, " b"]:
    """Huber's loss of all label errors, 2D and 3D, each divided by its expected size; `delta` in those units."""
    problem = unknowns.problem
    joints = body.joints(parameters)
    pixels, in_front = project(to_cameras(joints, unknowns.cameras()), problem.K)
    flat = _huber(pixels - problem.pixels, problem.sigma_px[:, None, None], problem.pixel_weights * in_front, delta)
    sigma = POINT_SIGMA * unknowns.size[:, None]
    solid = _huber(joints - problem.points, sigma, problem.point_weights, delta)
    return flat.sum((1, 2)) + solid.sum(1)


def angle_energy(parameters: BodyParameters) -> Float[Tensor, " b"]:
    """Half the squared angles of all joints but the root, each divided by its expected size."""
    rotations = parameters.rotations[:, 1:]
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    angles = geodesic_distance(rotations, identity.expand_as(rotations)) / ANGLE_SIGMA_RAD
    return 0.5 * angles.square().sum(1)


def mask_energy(
    unknowns: Unknowns, body: Body, parameters: BodyParameters, rows: tuple[Tensor, Tensor]
) -> Float[Tensor, " b"]:
    """What the silhouettes lack of the masks; `rows` are `problem.mask_rows`."""
    problem, (sample, view) = unknowns.problem, rows
    alpha = silhouettes(unknowns.cameras(), problem, body, parameters, rows, unknowns.options.backend)
    error = silhouette_error(alpha, problem.masks[sample, view].to(alpha.dtype), SOFT_IOU)
    return MASK_WEIGHT * error.new_zeros(len(problem)).index_add(0, sample, error)


def silhouettes(
    cam_from_world: Float[Tensor, "b v 4 4"],
    problem: Problem,
    body: Body,
    parameters: BodyParameters,
    rows: tuple[Tensor, Tensor],
    backend: Backend,
) -> Float[Tensor, "n h w"]:
    """Of the body, in the chosen samples' views."""
    sample, view = rows
    vertices = body.vertices(parameters)[sample]
    vertices_cam = to_cameras(vertices, cam_from_world[sample, view][:, None])[:, 0]
    height, width = problem.masks.shape[2:]
    return edge_silhouette(vertices_cam, body.model.faces, problem.K[sample, view], (height, width), backend=backend)


def _huber(
    difference: Float[Tensor, "*batch d"], sigma: Tensor, weight: Float[Tensor, "*batch"], delta: float
) -> Float[Tensor, "*batch"]:
    """Weighed; elements without weight have no gradient, whatever their difference is."""
    difference = torch.where(weight[..., None] > 0, difference, 0) / sigma[..., None]
    squared = difference.square().sum(-1)
    far = squared > delta**2
    norm = torch.where(far, squared, 1).sqrt()
    return weight * torch.where(far, delta * (norm - 0.5 * delta), 0.5 * squared)
