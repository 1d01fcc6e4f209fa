"""The fit itself: where the body is, then its pose, then its outline; all samples at once."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from posecore.errors import InputError, RunError
from smil_regressor.data.sample import Batch
from smil_regressor.fitting.energy import angle_energy, keypoint_energy, mask_energy
from smil_regressor.fitting.options import HUBER_NARROW, HUBER_WIDE, FitOptions
from smil_regressor.fitting.problem import Problem
from smil_regressor.fitting.start import aligned_start, candidate_starts, check_labels, placed
from smil_regressor.fitting.unknowns import Start, Unknowns
from smil_regressor.model.body import Body
from smil_regressor.model.state import BodyParameters

LEARNING_RATE = 0.05
LAST_LEARNING_RATE = 0.02
"""Share of the learning rate that is left at the end of a stage."""
ROOT_SHARE, MASK_SHARE = 0.15, 0.35
"""Shares of the steps for the first stage, and for the last where there are masks."""

Energy = Callable[[float], Float[Tensor, " b"]]


@dataclass(frozen=True)
class Fit:
    """Fitted bodies and cameras of a batch."""

    problem: Problem
    start: BodyParameters
    """The rest pose that the fit began with."""
    body: BodyParameters
    cam_from_world: Float[Tensor, "b v 4 4"]
    energy: Float[Tensor, " b"]


def fit(batch: Batch, body: Body, options: FitOptions) -> Fit:
    """Fit the body model to the labels of all samples of a batch.

    `body` must be placed by "mesh_scale". The same input gives the same result.

    Raises:
        InputError: A sample has too few labels, or nothing in it tells the animal's size.
        RunError: The energy is not finite.
    """
    if body.placement != "mesh_scale":
        raise ValueError(f"placement: {body.placement!r}; a fit needs 'mesh_scale'")
    problem = Problem.of(batch, options)
    check_labels(problem, batch.key)
    start, is_placed = aligned_start(problem, body, options.mesh_scale)
    if not bool(is_placed.all()):
        start = _searched(problem, body, start, is_placed, options, batch.key)
    unknowns = Unknowns(body.model, problem, start, options)
    energy = _descend_all(unknowns, body)
    if not bool(energy.isfinite().all()):
        wrong = [key for key, fine in zip(batch.key, energy.isfinite().tolist(), strict=True) if not fine]
        raise RunError(f"fit: the energy of {', '.join(wrong)} is not finite")
    with torch.no_grad():
        return Fit(problem, placed(start, body), _detached(unknowns.body()), unknowns.cameras().detach(), energy)


def _descend_all(unknowns: Unknowns, body: Body) -> Float[Tensor, " b"]:
    options, rows = unknowns.options, unknowns.problem.mask_rows
    root = round(ROOT_SHARE * options.steps)
    outline = round(MASK_SHARE * options.steps) if options.masks and len(rows[0]) else 0

    def labels(progress: float) -> Tensor:
        parameters = unknowns.body()
        delta = HUBER_WIDE * (HUBER_NARROW / HUBER_WIDE) ** min(2 * progress, 1)
        return keypoint_energy(unknowns, body, parameters, delta) + angle_energy(parameters)

    def labels_and_masks(progress: float) -> Tensor:
        parameters = unknowns.body()
        energy = keypoint_energy(unknowns, body, parameters, HUBER_NARROW) + angle_energy(parameters)
        return energy + mask_energy(unknowns, body, parameters, rows)

    place = _place_energy(unknowns, body)
    descend(unknowns.root_unknowns, place, unknowns.shape_and_camera_prior, root)
    everything = unknowns.all_unknowns
    energy = descend(everything, labels, unknowns.shape_and_camera_prior, options.steps - root - outline)
    if outline:
        energy = descend(everything, labels_and_masks, unknowns.shape_and_camera_prior, outline, rate=0.5)
    return energy


def descend(
    unknowns: list[nn.Parameter],
    energy: Energy,
    prior: Callable[[], Tensor],
    steps: int,
    rate: float = 1.0,
) -> Float[Tensor, " b"]:
    """Adam (Kingma & Ba, 2015) with a cosine schedule; returns each sample's last energy.

    Adam scales each unknown's steps by itself, so samples that share nothing do not disturb each other.

    Args:
        energy: Of each sample, given the progress from 0 to 1.
        rate: Share of the usual learning rate.
    """
    optimizer = torch.optim.Adam(unknowns, lr=LEARNING_RATE * rate, betas=(0.9, 0.98))
    for step in range(steps):
        progress = step / max(steps - 1, 1)
        fall = LAST_LEARNING_RATE + (1 - LAST_LEARNING_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate * fall
        optimizer.zero_grad()
        torch.autograd.backward(energy(progress).sum() + prior())
        optimizer.step()
    with torch.no_grad():
        return energy(1.0)


def _place_energy(unknowns: Unknowns, body: Body) -> Energy:
    def energy(progress: float) -> Tensor:
        return keypoint_energy(unknowns, body, unknowns.body(), HUBER_WIDE)

    return energy


def _searched(
    problem: Problem,
    body: Body,
    start: Start,
    is_placed: Bool[Tensor, " b"],
    options: FitOptions,
    keys: tuple[str, ...],
) -> Start:
    """Starts of the samples that are not placed yet: the best of all quarter turns, each followed for a while."""
    scale = options.mesh_scale
    if scale is None:
        raise InputError(
            [
                f"{key}: too few joints are seen from two sides or known in 3D, so the animal's size is open; "
                "give --mesh-scale"
                for key, fine in zip(keys, is_placed.tolist(), strict=True)
                if not fine
            ]
        )
    chosen = torch.nonzero(~is_placed)[:, 0]
    open_problem = problem.rows(chosen)
    options = replace(options, refine_cameras=False, limbs=False, share_shape=False)
    candidates = candidate_starts(open_problem, body, scale)
    turns = len(candidates.mesh_scale) // len(chosen)
    unknowns = Unknowns(
        body.model,
        open_problem.rows(torch.arange(len(chosen), device=chosen.device).repeat(turns)),
        candidates,
        options,
    )
    steps = round(ROOT_SHARE * options.steps)
    energy = descend(unknowns.root_unknowns, _place_energy(unknowns, body), unknowns.shape_and_camera_prior, steps)
    best = energy.reshape(turns, -1).argmin(0) * len(chosen) + torch.arange(len(chosen), device=energy.device)
    found = _detached(unknowns.body())
    rotation, translation = start.rotation.clone(), start.translation.clone()
    rotation[chosen], translation[chosen] = found.rotations[best, 0], found.translation[best]
    return Start(rotation, translation, start.mesh_scale)


def _detached(body: BodyParameters) -> BodyParameters:
    return replace(body, **{name: value.detach() for name, value in vars(body).items() if value is not None})
