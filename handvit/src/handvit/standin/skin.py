"""Skinning weights and the joint regressor of the made-up hand."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from handvit.standin.anatomy import Finger
from handvit.standin.surface import Surface, neighbour_average

_MOST_BONES = 4
_BLEND = 0.75
"""Half length of the bend at a joint, in half widths of the finger."""
_NEAREST = 24


def skinning_weights(surface: Surface, fingers: Sequence[Finger]) -> Float[np.ndarray, "v 16"]:
    """At most four bones a vertex; smooth across joints and the webs."""
    points = np.array(surface.points)
    owner, bone = np.array(surface.finger), np.array(surface.bone)
    weights = np.zeros((len(points), 16))
    for number, finger in enumerate(fingers):
        weights[owner == number] = _finger_weights(finger, number, bone[owner == number])
    on_palm = owner < 0
    weights[on_palm] = _palm_weights(points[on_palm], fingers)
    near_palm = on_palm | (bone < 0.7)
    average = neighbour_average(np.array(surface.faces), len(points))
    for _ in range(3):
        weights[near_palm] = 0.5 * (weights + average @ weights)[near_palm]
    return _fewest(weights)


def _finger_weights(finger: Finger, number: int, bone: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 16"]:
    """Each joint takes over from the one before; the wrist has what the first has not."""
    lengths = np.linalg.norm(np.diff(finger.knots, axis=0), axis=1)
    knots = np.concatenate([[0.0], np.cumsum(lengths)])
    s = np.interp(bone, np.arange(4), knots)
    taken = np.ones((len(bone), 4))
    for joint in range(3):
        half = _BLEND * finger.radii[joint] * (1.0 if joint else 1.6)
        taken[:, joint + 1] = _smoothstep((s - knots[joint] + half) / (2 * half))
    weights = np.zeros((len(bone), 16))
    shares = taken - np.concatenate([taken[:, 1:], np.zeros((len(bone), 1))], axis=1)
    weights[:, 0] = shares[:, 0]
    weights[:, 1 + 3 * number : 4 + 3 * number] = shares[:, 1:]
    return weights


def _palm_weights(points: Float[np.ndarray, "n 3"], fingers: Sequence[Finger]) -> Float[np.ndarray, "n 16"]:
    """Mostly the wrist; towards a knuckle its finger's first bone, towards the thumb's root the thumb's."""
    weights = np.zeros((len(points), 16))
    offsets = [points - finger.joints[0] for finger in fingers]
    nearness = [
        np.exp(-np.square(offset @ finger.side / 0.010)) for offset, finger in zip(offsets, fingers, strict=True)
    ]
    crowd = sum(nearness[:4]) + 1e-9
    for number, (finger, offset) in enumerate(zip(fingers, offsets, strict=True)):
        s = offset @ finger.along
        if finger.name == "thumb":
            away = np.linalg.norm(offset - s[:, None] * finger.along, axis=1)
            share = _smoothstep((s + 0.002) / 0.026) * np.exp(-np.square(np.maximum(away - 0.012, 0) / 0.012))
        else:
            share = _smoothstep((s + 0.010) / 0.028) * nearness[number] / crowd
        weights[:, 1 + 3 * number] = share
    total = weights.sum(axis=1, keepdims=True)
    weights /= np.maximum(total, 1.0)
    weights[:, 0] = 1 - weights.sum(axis=1)
    return weights


def _smoothstep(t: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    inside = np.clip(t, 0, 1)
    smooth: Float[np.ndarray, " n"] = inside * inside * (3 - 2 * inside)
    return smooth


def _fewest(weights: Float[np.ndarray, "v 16"]) -> Float[np.ndarray, "v 16"]:
    """The largest four of each row; what is below a thousandth goes too."""
    largest = np.sort(weights, axis=1)[:, -_MOST_BONES, None]
    kept = np.where((weights >= largest) & (weights > 1e-3), weights, 0)
    normed: Float[np.ndarray, "v 16"] = kept / kept.sum(axis=1, keepdims=True)
    return normed


def joint_regressor(
    points: Float[np.ndarray, "v 3"], joints: Float[np.ndarray, "16 3"], candidates: Sequence[Int[np.ndarray, " _"]]
) -> Float[np.ndarray, "16 v"]:
    """Rows of few weights, none negative, that sum to 1 and give the joint; each from the nearest of its candidates."""
    regressor = np.zeros((len(joints), len(points)))
    for row, joint, ids in zip(regressor, joints, candidates, strict=True):
        near = ids[np.argsort(np.linalg.norm(points[ids] - joint, axis=1), kind="stable")[:_NEAREST]]
        chosen, weights = _barycentric(points, near, joint)
        row[chosen] = weights
    return regressor


def _barycentric(
    points: Float[np.ndarray, "v 3"], ids: Int[np.ndarray, " n"], joint: Float[np.ndarray, "3"]
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """The evenest weights whose mean is the joint; vertices that would pull away from it are dropped."""
    while len(ids) >= 4:
        rows = np.concatenate([np.ones((1, len(ids))), (points[ids] - joint).T])
        weights = np.linalg.pinv(rows) @ np.array([1.0, 0.0, 0.0, 0.0])
        if (weights > 0).all():
            return ids, weights
        ids = ids[weights > 0]
    raise AssertionError(f"joint {joint} is outside its vertices")
