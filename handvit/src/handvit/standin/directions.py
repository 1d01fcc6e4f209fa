"""Shape directions, pose blend shapes, mean pose and pose components of the made-up hand."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from handvit.standin.anatomy import WRIST, Finger

_MEAN_BEND = {"index": (0.22, 0.42, 0.24), "middle": (0.28, 0.48, 0.26), "pinky": (0.34, 0.46, 0.26),
              "ring": (0.32, 0.48, 0.26), "thumb": (0.10, 0.18, 0.28)}  # fmt: skip


def shape_directions(
    points: Float[np.ndarray, "v 3"],
    outward: Float[np.ndarray, "v 3"],
    weights: Float[np.ndarray, "v 16"],
    fingers: Sequence[Finger],
) -> Float[np.ndarray, "v 3 10"]:
    """What a unit of each coefficient moves, metres; `outward` are smoothed normals.

    Size; finger length; palm width; thickness; finger thickness; thumb length; palm length; pointed tips; index against
    little finger; ball of the thumb.
    """
    share = np.stack([weights[:, 1 + 3 * n : 4 + 3 * n].sum(axis=1) for n in range(5)], axis=1)
    on_finger = share[:, :4].sum(axis=1)[:, None]
    stretch = np.stack([_stretch(points, finger) for finger in fingers])
    x, _, z = (points - WRIST).T
    ball = np.exp(-np.square((points - [0.060, -0.012, 0.024]) / 0.018).sum(axis=1))
    far = np.stack([np.maximum((points - finger.joints[2]) @ finger.along, 0) for finger in fingers], axis=1)
    zero = np.zeros_like(x)
    return np.stack(
        [
            0.035 * (points - [0.02, 0.0, 0.0]),
            0.045 * (share.T[:4, :, None] * stretch[:4]).sum(axis=0),
            0.040 * np.stack([zero, zero, z], axis=1),
            0.0009 * outward,
            0.0008 * on_finger * outward,
            0.060 * share[:, 4, None] * stretch[4],
            0.040 * np.stack([np.maximum(x, -0.095), zero, zero], axis=1),
            -0.040 * (share * far).sum(axis=1)[:, None] * outward,
            0.035 * (share[:, 0, None] * stretch[0] - share[:, 2, None] * stretch[2]),
            0.0018 * ball[:, None] * outward,
        ],
        axis=2,
    )


def _stretch(points: Float[np.ndarray, "v 3"], finger: Finger) -> Float[np.ndarray, "v 3"]:
    """The way from the finger's base along it."""
    lengths: Float[np.ndarray, "v 3"] = (
        np.maximum((points - finger.joints[0]) @ finger.along, 0)[:, None] * finger.along
    )
    return lengths


def pose_directions(
    points: Float[np.ndarray, "v 3"],
    outward: Float[np.ndarray, "v 3"],
    fingers: Sequence[Finger],
    rng: np.random.Generator,
) -> Float[np.ndarray, "v 3 135"]:
    """A bent joint swells by about a millimetre, which linear blending takes away; other entries are small noise."""
    directions = []
    for finger in fingers:
        x, y, z = finger.side
        sine = 0.5 * np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])  # its product with R is the sine of the bend
        for joint, radius in zip(finger.joints, finger.radii, strict=False):
            near = np.exp(-np.square(points - joint).sum(axis=1) / (2 * (0.8 * radius) ** 2))
            by_entry = 0.0011 * sine + 0.00012 * rng.normal(size=(3, 3))
            directions.append((near[:, None] * outward)[:, :, None] * by_entry.ravel())
    return np.concatenate(directions, axis=2)


def mean_pose(fingers: Sequence[Finger]) -> Float[np.ndarray, "45"]:
    """A hand at rest: fingers curled, thumb in front of the palm; axis-angle."""
    bends = [np.outer(_MEAN_BEND[finger.name], finger.side) for finger in fingers]
    pose: Float[np.ndarray, "45"] = np.concatenate(bends).ravel()
    pose[36:39] += 0.12 * fingers[4].along
    return pose


def pose_components(fingers: Sequence[Finger], rng: np.random.Generator) -> Float[np.ndarray, "45 45"]:
    """Orthonormal rows: all fingers together, knuckles against the rest, spread, single fingers, then the rest at random."""
    bend = np.zeros((5, 3, 15, 3))
    sway = np.zeros((5, 15, 3))
    for n, finger in enumerate(fingers):
        bend[n, range(3), 3 * n + np.arange(3)] = finger.side
        sway[n, 3 * n] = finger.up
    rows = [
        bend[:4].sum(axis=(0, 1)),
        bend[:4, 1:].sum(axis=(0, 1)) - 2 * bend[:4, 0].sum(axis=0),
        sway[0] - sway[2] - 0.5 * sway[3],
        bend[4].sum(axis=0),
        sway[4],
        *bend.sum(axis=1),
        *bend[:, 1],
    ]
    directions = np.concatenate([np.array(rows).reshape(len(rows), 45), rng.normal(size=(45, 45))])
    return _orthonormal(directions)


def _orthonormal(directions: Float[np.ndarray, "n 45"]) -> Float[np.ndarray, "45 45"]:
    """Gram-Schmidt, in order; what the rows before have already is left out."""
    found: list[Float[np.ndarray, "45"]] = []
    for direction in directions:
        rest = direction
        for _ in range(2):  # once loses digits
            for row in found:
                rest = rest - (rest @ row) * row
        length = np.linalg.norm(rest)
        if length > 1e-6 * np.linalg.norm(direction):
            found.append(rest / length)
    return np.array(found)
