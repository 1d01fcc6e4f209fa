"""The made-up animal: eight ellipsoids with random proportions, walking.

Object frame: x to the front, y to its left, z up. Lengths are arbitrary until the object is brought into its sphere.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from keypoint_nvs.data.synthetic.ellipsoids import Ellipsoids

PART_NAMES = ("body", "head", "snout", "leg_front_l", "leg_front_r", "leg_back_l", "leg_back_r", "tail")
NUM_PARTS = len(PART_NAMES)
LEG_PARTS = tuple(i for i, name in enumerate(PART_NAMES) if name.startswith("leg"))

SWING_PHASE = np.array([0.0, np.pi, np.pi, 0.0])
"""Of the legs in their order: diagonal ones move together (a trot)."""


@dataclass(frozen=True)
class Anatomy:
    """Proportions and the pose that a walk starts from; angles in radians."""

    body: Float[np.ndarray, " 3"]
    """Radii to the front, the side and up."""
    head: float
    """Radius."""
    neck: float
    """Length between body and head."""
    snout: Float[np.ndarray, " 2"]
    """Radii along and across."""
    leg: Float[np.ndarray, " 2"]
    tail: Float[np.ndarray, " 2"]
    head_turn: Float[np.ndarray, " 2"]
    """Yaw and pitch of the neck."""
    snout_turn: Float[np.ndarray, " 2"]
    tail_turn: Float[np.ndarray, " 2"]
    leg_splay: float
    """To the side."""
    leg_rest: Float[np.ndarray, " 4"]
    """To the front, without swing."""
    leg_swing: float
    """Amplitude."""
    phase: float
    """Where in its walk the animal is at first."""


def random_anatomy(rng: np.random.Generator) -> Anatomy:
    """Another animal."""

    def angles(*ranges_deg: tuple[int, int]) -> Float[np.ndarray, " n"]:
        low, high = np.deg2rad(np.array(ranges_deg)).T
        return np.asarray(rng.uniform(low, high))

    return Anatomy(
        body=rng.uniform([0.26, 0.12, 0.12], [0.36, 0.18, 0.19]),
        head=float(rng.uniform(0.11, 0.16)),
        neck=float(rng.uniform(0.0, 0.07)),
        snout=rng.uniform([0.075, 0.050], [0.11, 0.075]),
        leg=rng.uniform([0.13, 0.048], [0.23, 0.070]),
        tail=rng.uniform([0.12, 0.036], [0.22, 0.060]),
        head_turn=angles((-40, 40), (5, 65)),
        snout_turn=angles((-15, 15), (-45, 5)),
        tail_turn=angles((-40, 40), (-35, 65)),
        leg_splay=float(angles((0, 10))[0]),
        leg_rest=angles(*[(-12, 12)] * 4),
        leg_swing=float(angles((5, 30))[0]),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )


def posed(animal: Anatomy, phase: float) -> Ellipsoids:
    """The animal `phase` radians (one stride: 2 pi) after the start of its walk; parts in the order of PART_NAMES."""
    step = animal.phase + phase
    bob = np.array([0.0, 0.15 * np.sin(step)])
    neck_direction = _direction(*(animal.head_turn + bob))
    head = animal.body * [0.8, 0.0, 0.5] + (animal.neck + animal.head) * neck_direction
    snout_direction = _direction(animal.head_turn[0] + animal.snout_turn[0], animal.snout_turn[1])
    tail_direction = _direction(np.pi + animal.tail_turn[0] + 0.3 * np.sin(step), animal.tail_turn[1])
    tail = animal.body * [-0.9, 0.0, 0.25] + animal.tail[0] * tail_direction
    leg_directions = _leg_directions(animal, step)
    hips = animal.body * (np.array([[1, 1, -1], [1, -1, -1], [-1, 1, -1], [-1, -1, -1]]) * [0.62, 0.6, 0.45])
    legs = hips + animal.leg[0] * leg_directions
    # the snout's middle lies just outside the head, so that it can be seen
    snout = head + 1.1 * animal.head * snout_direction
    along = np.stack([_direction(0.0, 0.0), neck_direction, snout_direction, *leg_directions, tail_direction])
    slim = np.stack([animal.snout, *[animal.leg] * 4, animal.tail])[:, [0, 1, 1]]
    return Ellipsoids(
        centre=np.stack([np.zeros(3), head, snout, *legs, tail]),
        axes=_frames_along(along),
        radii=np.concatenate([[animal.body, animal.head * np.array([1.15, 0.95, 0.95])], slim]),
    )


def _leg_directions(animal: Anatomy, step: float) -> Float[np.ndarray, "4 3"]:
    forward = animal.leg_rest + animal.leg_swing * np.sin(step + SWING_PHASE)
    outward = animal.leg_splay * np.array([1, -1, 1, -1])
    directions = np.stack([np.sin(forward), np.sin(outward), -np.cos(forward) * np.cos(outward)], 1)
    return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True))


def _direction(yaw: float, pitch: float) -> Float[np.ndarray, " 3"]:
    return np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])


def _frames_along(directions: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "p 3 3"]:
    """Rotations whose first column is the direction and whose second lies level."""
    yaw = np.arctan2(directions[:, 1], directions[:, 0])
    level = np.stack([-np.sin(yaw), np.cos(yaw), np.zeros(len(yaw))], 1)
    return np.stack([directions, level, np.cross(directions, level)], axis=2)
