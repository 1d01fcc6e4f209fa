"""Levenberg-Marquardt for the poses of many objects at once (EPro-PnP's constants)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vpog.pnp.cost import adaptive_delta, linearise
from vpog.pnp.poses import moved
from vpog.pnp.records import Correspondences, Failure, Poses
from vpog.pnp.settings import LmSettings
from vpog.pnp.soundness import sound, usable_start

FIRST_RADIUS, MIN_RADIUS, MAX_RADIUS = 30.0, 1e-5, 1e16
MIN_DIAGONAL, MAX_DIAGONAL = 1e-6, 1e32
EPSILON = 1e-5
"""On the diagonal of every system that is solved."""
MIN_GAIN = 1e-3


@dataclass(frozen=True)
class State:
    """Where the solver is with each object."""

    pose: Float[Tensor, "b 7"]
    cost: Float[Tensor, " b"]
    squared: Float[Tensor, "b 6 6"]
    """J^T J, and `gradient` is J^T r: float64, because pixels and diameters differ by orders of magnitude."""
    gradient: Float[Tensor, "b 6"]
    radius: Float[Tensor, " b"]
    decrease: Float[Tensor, " b"]


def solve_lm(
    correspondences: Correspondences,
    start: Float[Tensor, "b 7"],
    settings: LmSettings,
    delta: Float[Tensor, " b"] | None = None,
) -> Poses:
    """Lower the robust cost from a start, without a gradient, in float64 on the CPU and float32 on a GPU.

    Args:
        delta: Of Huber's function; None: adaptive, from what is given here.

    Returns:
        In the dtype of the points. Objects that cannot be solved say why and have no pose.
    """
    with torch.no_grad(), torch.autocast(correspondences.points_obj.device.type, enabled=False):
        given = sound(in_solver_precision(correspondences), settings.min_points)
        first, no_start = usable_start(start.to(given.correspondences.points_obj))
        if delta is None:
            delta = adaptive_delta(given.correspondences, settings.relative_delta)
        state = descend(given.correspondences, first, delta.to(first), settings)
        failure = torch.where(given.failure == Failure.NONE, no_start, given.failure)
        is_finite = state.pose.isfinite().all(-1) & state.cost.isfinite()
        failure = torch.where((failure == Failure.NONE) & ~is_finite, int(Failure.NOT_FINITE), failure)
        return _poses(state, failure, start.dtype)


def descend(
    correspondences: Correspondences, start: Float[Tensor, "b 7"], delta: Float[Tensor, " b"], settings: LmSettings
) -> State:
    """The solver's steps alone, in the dtype that they are given, on sound correspondences."""
    problem = _Problem(_coordinates_apart(correspondences), delta, settings.z_min)
    state = problem.state(start, None)
    advance = problem.gauss_newton_step if settings.gauss_newton else problem.step
    for _ in range(settings.num_iterations):
        state = advance(state)
    return state


def in_solver_precision(correspondences: Correspondences) -> Correspondences:
    on_cpu = correspondences.points_obj.device.type == "cpu"
    dtype = torch.float64 if on_cpu or correspondences.points_obj.dtype == torch.float64 else torch.float32
    c = correspondences
    return Correspondences(c.points_obj.to(dtype), c.pixels.to(dtype), c.weights.to(dtype), c.K.to(dtype))


def _coordinates_apart(c: Correspondences) -> Correspondences:
    """The same numbers, laid out in memory as the linearisation reads them again and again: all x, all y, all z."""
    points, pixels, weights = (v.mT.contiguous().mT for v in (c.points_obj, c.pixels, c.weights))
    return Correspondences(points, pixels, weights, c.K)


@dataclass(frozen=True)
class _Problem:
    correspondences: Correspondences
    delta: Float[Tensor, " b"]
    z_min: float

    def state(self, pose: Float[Tensor, "b 7"], before: State | None) -> State:
        linear = linearise(self.correspondences, pose, self.delta, self.z_min)
        squared, gradient = linear.normal_equations()
        radius = torch.full_like(linear.cost, FIRST_RADIUS) if before is None else before.radius
        decrease = torch.full_like(linear.cost, 2.0) if before is None else before.decrease
        return State(pose, linear.cost, squared.double(), gradient.double(), radius, decrease)

    def step(self, state: State) -> State:
        """One trial step of each object, taken where the cost falls as the model says."""
        diagonal = state.squared.diagonal(dim1=-2, dim2=-1)
        damping = diagonal.clamp(MIN_DIAGONAL, MAX_DIAGONAL) / state.radius[:, None] + EPSILON
        step = _solve(state.squared + torch.diag_embed(damping), state.gradient)
        trial = self.state(moved(state.pose, step.to(state.pose)), state)
        promised = -(step * ((state.squared @ step[..., None])[..., 0] / 2 + state.gradient)).sum(-1)
        gain = ((state.cost - trial.cost) / promised).to(state.cost)
        return _chosen((gain >= MIN_GAIN) & (promised > 0), gain, trial, state)

    def gauss_newton_step(self, state: State) -> State:
        return self.state(moved(state.pose, gauss_newton(state.squared, state.gradient).to(state.pose)), state)


def gauss_newton(squared: Float[Tensor, "b 6 6"], gradient: Float[Tensor, "b 6"]) -> Float[Tensor, "b 6"]:
    """The step of plain normal equations, slightly regularised; differentiable."""
    return _solve(squared + EPSILON * torch.eye(6, dtype=squared.dtype, device=squared.device), gradient)


def covariance_of(squared: Float[Tensor, "b 6 6"]) -> Float[Tensor, "b 6 6"]:
    """(J^T J + 1e-5 I)^-1."""
    inverse: Tensor = torch.linalg.inv_ex(
        squared + EPSILON * torch.eye(6, dtype=squared.dtype, device=squared.device)
    ).inverse
    return (inverse + inverse.mT) / 2


def _solve(matrix: Tensor, gradient: Tensor) -> Tensor:
    """A singular matrix gives numbers that are not finite, which no step accepts, instead of waiting for the device."""
    step: Tensor = torch.linalg.solve_ex(matrix, gradient[..., None]).result
    return -step[..., 0]


def _chosen(is_better: Bool[Tensor, " b"], gain: Tensor, trial: State, state: State) -> State:
    def pick(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(is_better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    wider = state.radius / (1 - (2 * gain - 1) ** 3).clamp_min(1 / 3)
    return State(
        pick(trial.pose, state.pose),
        pick(trial.cost, state.cost),
        pick(trial.squared, state.squared),
        pick(trial.gradient, state.gradient),
        pick(wider, state.radius / state.decrease).clamp(MIN_RADIUS, MAX_RADIUS),
        pick(torch.full_like(state.decrease, 2.0), state.decrease * 2),
    )


def _poses(state: State, failure: Tensor, dtype: torch.dtype) -> Poses:
    is_solved = failure == Failure.NONE
    covariance = covariance_of(state.squared)
    return Poses(
        torch.where(is_solved[:, None], state.pose, torch.nan).to(dtype),
        torch.where(is_solved, state.cost, torch.nan).to(dtype),
        torch.where(is_solved[:, None, None], covariance, torch.nan).to(dtype),
        failure,
    )
