"""The loss of a whole pose distribution, by adaptive multiple importance sampling (EPro-PnP, section 4).

It is minus the log density of the true pose: its cost plus the log of the integral of exp(-cost) over all poses, up
to a constant. The integral is a sum over draws from proposals that are fitted to the draws before; gradients flow
through the costs alone. Proposals are float64 whatever the costs are: they hold inverses of narrow covariances.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from posecore.data.counter_random import normals
from vpog.pnp.cost import pose_costs
from vpog.pnp.densities import (
    DEGREES_OF_FREEDOM,
    acg_log_density,
    acg_samples,
    cholesky_with_jitter,
    student_t_log_density,
    student_t_samples,
)
from vpog.pnp.poses import quaternion_tangent
from vpog.pnp.records import Correspondences
from vpog.pnp.settings import MonteCarloSettings

FIRST_STREAM = 7001
"""Of `counter_random`: one for each round of draws."""
EPSILON = 1e-5

Draw = Callable[["Proposal", int], Float[Tensor, "b k 7"]]


@dataclass(frozen=True)
class Proposal:
    """Where poses are drawn from: Student-t translations and angular central Gaussian rotations; float64."""

    trans_mode: Float[Tensor, "b 3"]
    trans_tril: Float[Tensor, "b 3 3"]
    rot_tril: Float[Tensor, "b 4 4"]
    num_fallbacks: Int64[Tensor, ""]
    """How many of its matrices were not positive definite and were changed."""

    def log_density(self, poses: Float[Tensor, "b k 7"]) -> Float[Tensor, "b k"]:
        trans = student_t_log_density(poses[..., :3], self.trans_mode, self.trans_tril)
        return trans + acg_log_density(poses[..., 3:], self.rot_tril)


@dataclass(frozen=True)
class PoseDistribution:
    """Weighed draws of poses."""

    poses: Float[Tensor, "b k 7"]
    log_weights: Float[Tensor, "b k"]
    """Differentiable with regard to the correspondences. Their logsumexp is the log normaliser plus log k."""
    proposals: tuple[Proposal, ...]

    @property
    def num_fallbacks(self) -> Int64[Tensor, ""]:
        return torch.stack([proposal.num_fallbacks for proposal in self.proposals]).sum()


def monte_carlo_loss(target_cost: Float[Tensor, " b"], distribution: PoseDistribution) -> Float[Tensor, " b"]:
    """Cost of the true pose plus logsumexp of the log weights; may be negative."""
    return target_cost + distribution.log_weights.logsumexp(-1)


def pose_distribution(
    correspondences: Correspondences,
    delta: Float[Tensor, " b"],
    z_min: float,
    pose: Float[Tensor, "b 7"],
    covariance: Float[Tensor, "b 6 6"],
    seeds: Int64[Tensor, " b"],
    settings: MonteCarloSettings,
) -> PoseDistribution:
    """Draw around the most likely pose, then where the weights say.

    Args:
        pose: The optimum, and `covariance` its local one: the first proposal.
        seeds: An object's draws depend on its seed alone, not on its neighbours.
    """
    count = settings.num_samples // settings.num_rounds

    def draw(proposal: Proposal, round_index: int) -> Tensor:
        return proposal_samples(proposal, seeds, FIRST_STREAM + round_index, count).to(pose.dtype)

    def cost(poses: Tensor) -> Tensor:
        return pose_costs(correspondences, poses, delta, z_min)

    with torch.no_grad():
        first = first_proposal(pose, covariance, settings.acg_dispersion)
    return sampled_distribution(first, draw, cost, settings)


def sampled_distribution(
    first: Proposal, draw: Draw, cost: Callable[[Tensor], Tensor], settings: MonteCarloSettings
) -> PoseDistribution:
    """The rounds of draws. Each proposal is fitted to all draws before it, weighed against all proposals before it."""
    proposals = [first]
    poses: list[Tensor] = []
    costs: list[Tensor] = []
    while True:
        with torch.no_grad():
            poses.append(draw(proposals[-1], len(poses)))
        costs.append(cost(poses[-1]))
        drawn, log_weights = torch.cat(poses, 1), _log_weights(torch.cat(costs, 1), torch.cat(poses, 1), proposals)
        if len(poses) == settings.num_rounds:
            return PoseDistribution(drawn, log_weights, tuple(proposals))
        with torch.no_grad():
            proposals.append(fitted_proposal(drawn, log_weights, settings))


@torch.no_grad()
def first_proposal(pose: Float[Tensor, "b 7"], covariance: Float[Tensor, "b 6 6"], dispersion: float) -> Proposal:
    """Around an optimum with its local covariance."""
    tangent = quaternion_tangent(pose[:, 3:].double())
    information, _ = torch.linalg.inv_ex(covariance[:, 3:, 3:].double())
    eye = torch.eye(4, dtype=torch.float64, device=pose.device)
    rot_scatter, _ = torch.linalg.inv_ex(tangent @ information @ tangent.mT + eye)
    rot_scatter = rot_scatter / rot_scatter.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    return _proposal(pose[:, :3].double(), covariance[:, :3, :3].double(), rot_scatter, dispersion)


@torch.no_grad()
def fitted_proposal(
    poses: Float[Tensor, "b k 7"], log_weights: Float[Tensor, "b k"], settings: MonteCarloSettings
) -> Proposal:
    """Weighed mean and covariance of the translations, weighed Tyler's estimate of the rotations."""
    share = log_weights.double().softmax(-1)[..., None]
    trans, quat = poses[..., :3].double(), poses[..., 3:].double()
    mode = (share * trans).sum(1)
    deviation = trans - mode[:, None]
    eye = torch.eye(4, dtype=torch.float64, device=poses.device)
    scatter = eye.expand(len(poses), 4, 4)
    for _ in range(settings.acg_iterations):
        inverse, _ = torch.linalg.inv_ex(scatter)
        weighed = share / ((quat @ inverse) * quat).sum(-1, keepdim=True).clamp_min(EPSILON)
        scatter = (weighed / weighed.sum(1, keepdim=True) * quat).mT @ quat + EPSILON * eye
    return _proposal(mode, (share * deviation).mT @ deviation, scatter, settings.acg_dispersion)


def proposal_samples(proposal: Proposal, seeds: Int64[Tensor, " b"], stream: int, count: int) -> Float[Tensor, "b k 7"]:
    width = 3 + DEGREES_OF_FREEDOM + 4
    numbers = normals(seeds, stream, count * width).double().reshape(-1, count, width)
    standard, chi, sphere = numbers[..., :3], numbers[..., 3:-4], numbers[..., -4:]
    trans = student_t_samples(standard, chi, proposal.trans_mode, proposal.trans_tril)
    return torch.cat([trans, acg_samples(sphere, proposal.rot_tril)], -1)


def _log_weights(costs: Tensor, poses: Tensor, proposals: list[Proposal]) -> Tensor:
    with torch.no_grad():
        densities = torch.stack([proposal.log_density(poses.double()) for proposal in proposals])
        mixture = densities.logsumexp(0) - torch.tensor(float(len(proposals)), dtype=torch.float64).log()
    return -costs - mixture.to(costs.dtype)


def _proposal(mode: Tensor, trans_covariance: Tensor, rot_scatter: Tensor, dispersion: float) -> Proposal:
    eye = torch.eye(4, dtype=rot_scatter.dtype, device=rot_scatter.device)
    spread = torch.linalg.det(rot_scatter).clamp_min(0) ** 0.25 * dispersion
    trans_tril, trans_fell = cholesky_with_jitter(trans_covariance)
    rot_tril, rot_fell = cholesky_with_jitter(rot_scatter + spread[:, None, None] * eye)
    return Proposal(mode, trans_tril, rot_tril, trans_fell.sum() + rot_fell.sum())
