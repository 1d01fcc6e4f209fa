"""How a hand of MANO's layout can bend: its axes and limits, found from the rest joints of whichever model it is."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from handvit.hand import HandModel
from handvit.joints import MANO_TO_CANONICAL
from posecore.rotations import axis_angle_to_matrix

Vectors = Float[np.ndarray, "*n 3"]

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
ANGLES = ("base_flexion", "spread", "middle_flexion", "end_flexion", "twist")
"""The angles of one finger, radians; flexion bends towards the palm, spread turns towards the little finger."""
LIMITS_RAD = np.array(
    [
        [[-0.30, 0.55], [-0.35, 0.35], [-0.10, 0.75], [-0.20, 1.10], [-0.25, 0.25]],
        [[-0.20, 1.45], [-0.22, 0.12], [0.00, 1.70], [0.00, 1.05], [-0.05, 0.05]],
        [[-0.20, 1.50], [-0.12, 0.12], [0.00, 1.75], [0.00, 1.05], [-0.05, 0.05]],
        [[-0.20, 1.50], [-0.12, 0.18], [0.00, 1.75], [0.00, 1.05], [-0.05, 0.05]],
        [[-0.20, 1.45], [-0.12, 0.30], [0.00, 1.65], [0.00, 1.05], [-0.05, 0.05]],
    ]
)
"""Least and greatest of each finger's angles (5 fingers, 5 angles, 2), inside what a healthy hand does unforced."""


@dataclass(frozen=True)
class Anatomy:
    """Axes in the model's rest frame; metres."""

    joints: Float[np.ndarray, "21 3"]
    """Rest joints of the mean shape, canonical order, tips included."""
    finger_joints: Int[np.ndarray, "5 3"]
    """MANO joints of each finger, base first, fingers thumb to little."""
    flexion: Float[np.ndarray, "5 3 3"]
    """Axis of each finger joint about which a positive angle bends towards the palm."""
    spread: Float[np.ndarray, "5 3 3"]
    along: Float[np.ndarray, "5 3 3"]
    """Direction of the bone that the joint moves."""
    forward: Float[np.ndarray, " 3"]
    """From the wrist to the fingers."""
    palm: Float[np.ndarray, " 3"]
    """Out of the palm."""

    @property
    def length(self) -> float:
        """Wrist to the tip of the middle finger, outstretched."""
        return float(np.linalg.norm(self.joints[12] - self.joints[0]))


def anatomy_of(hand: HandModel) -> Anatomy:
    """Axes of a right hand in MANO's layout."""
    joints = rest_pose(hand)[0]
    forward = _unit(joints[9] - joints[0])
    palm = _unit(np.cross(joints[5] - joints[0], joints[17] - joints[0]))
    palm = _unit(palm - (palm @ forward) * forward)
    ulnar = np.cross(palm, forward)  # towards the little finger
    chains = 1 + np.arange(20).reshape(5, 4)
    along = _unit(np.diff(joints[chains], axis=1))
    inwards = np.broadcast_to(palm, (5, 3, 3)).copy()
    inwards[0] = _unit(0.45 * palm + ulnar)  # the thumb's pad looks across the palm
    flexion = _unit(np.cross(along, inwards))
    finger_joints = np.asarray(MANO_TO_CANONICAL)[chains[:, :3]]
    return Anatomy(joints, finger_joints, flexion, _unit(np.cross(flexion, along)), along, forward, palm)


def rest_pose(hand: HandModel) -> tuple[Float[np.ndarray, "21 3"], Float[np.ndarray, "778 3"]]:
    """Joints (canonical) and vertices of the flat hand of mean shape, metres."""
    device, dtype = hand.body.template.device, hand.body.template.dtype
    flat = torch.eye(3, device=device, dtype=dtype).expand(1, 16, 3, 3)
    with torch.no_grad():
        posed = hand(flat, torch.zeros(1, 10, device=device, dtype=dtype))
    return posed.joints_m[0].double().cpu().numpy(), posed.vertices_m[0].double().cpu().numpy()


def random_angles(rng: np.random.Generator, count: int, articulation: float) -> Float[np.ndarray, "n 5 5"]:
    """Angles of hand poses within `LIMITS_RAD`: fingers curl together, or each is bent or stretched as in a gesture.

    Args:
        articulation: 1: the whole range; 0: always the middle of it.
    """
    curl = rng.beta(1.1, 1.5, (count, 1)) + rng.normal(0, 0.14, (count, 5))
    gesture = rng.integers(0, 2, (count, 5)) + rng.normal(0, 0.1, (count, 5))
    curl = np.where(rng.random((count, 1)) < 0.35, gesture, curl)
    share = np.empty((count, 5, 5))
    share[..., 0] = curl + rng.normal(0, 0.12, curl.shape)
    share[..., 1] = 0.5 + rng.normal(0, 0.25, curl.shape) * (1.15 - np.clip(curl, 0, 1))  # a fist cannot spread
    share[..., 2] = curl + rng.normal(0, 0.08, curl.shape)
    share[..., 3] = 0.9 * share[..., 2] + rng.normal(0, 0.07, curl.shape)  # one tendon bends both
    share[..., 4] = 0.5 + rng.normal(0, 0.25, curl.shape)
    share[:, 0, 0] = 0.4 * rng.random(count) + 0.6 * curl[:, 0]
    share = 0.5 + articulation * (np.clip(share, 0, 1) - 0.5)
    low, high = LIMITS_RAD[..., 0], LIMITS_RAD[..., 1]
    return np.asarray(low + share * (high - low))


def finger_rotations(anatomy: Anatomy, angles: Float[np.ndarray, "n 5 5"]) -> Float[np.ndarray, "n 15 3 3"]:
    """Rotations of MANO's joints 1-15, relative to their parents."""
    rotations = np.empty((len(angles), 15, 3, 3))
    flexion = angles[..., [0, 2, 3]]
    bent = turn(anatomy.flexion * flexion[..., None])  # (n 5 3 3 3)
    base = turn(anatomy.spread[:, 0] * angles[..., 1, None]) @ bent[:, :, 0]
    bent[:, :, 0] = base @ turn(anatomy.along[:, 0] * angles[..., 4, None])
    rotations[:, anatomy.finger_joints - 1] = bent
    return rotations


def turn(axis_angles: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Matrices of axis-angle vectors (radians)."""
    matrices: Float[np.ndarray, "*batch 3 3"] = axis_angle_to_matrix(torch.from_numpy(axis_angles)).numpy()
    return matrices


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
