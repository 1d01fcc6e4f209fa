"""Random scenes around a body model: poses, camera rigs, ground and distractors. Geometry only; no pixels."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from smil_regressor.data.insect import part_of_joint

JOINT_RANGE_RAD = {
    **{"thorax": 0.0, "abdomen": 0.12, "head": 0.2, "leg": 0.3},
    **{"antenna": 0.35, "mandible": 0.25, "wing": 0.15, "other": 0.15},
}
"""Standard deviation of each axis-angle component of a joint's rotation, by body part."""


@dataclass(frozen=True)
class Rig:
    """Calibrated cameras of one session; v cameras, one picture size."""

    names: tuple[str, ...]
    K: Float[np.ndarray, "v 3 3"]
    cam_from_world: Float[np.ndarray, "v 4 4"]
    size_hw: tuple[int, int]


@dataclass(frozen=True)
class Pose:
    """Parameters of one animal: axis-angle rotations (radians, root first), shape, place of the root joint."""

    axis_angles: Float[np.ndarray, "j 3"]
    betas: Float[np.ndarray, " c"]
    translation: Float[np.ndarray, " 3"]


@dataclass(frozen=True)
class Props:
    """Everything in the picture but the animal: one mesh with colours."""

    vertices: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "f 3"]
    colors: Float[np.ndarray, "n 3"]


def random_rig(
    lab: np.random.Generator, session: np.random.Generator, views: int, extent: float, size_hw: tuple[int, int]
) -> Rig:
    """Cameras on a dome that look at the middle of the arena, about evenly in azimuth, optical axes off centre.

    Args:
        lab: Draws where the cameras are mounted; the same for all sessions of a laboratory.
        session: Draws how far they have moved since (a few degrees and per cent), and their lenses.
        extent: Length of the animal; the arena is about two of it.
    """
    height, width = size_hw
    azimuth = 2 * np.pi * (np.arange(views) + lab.uniform(-0.2, 0.2, views)) / views + session.normal(0, 0.03, views)
    elevation = np.radians(lab.uniform(30, 65, views)) + session.normal(0, 0.03, views)
    distance = extent * lab.uniform(2.3, 2.9, views) * session.uniform(0.97, 1.03, views)
    eyes = distance[:, None] * np.stack(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], 1
    )
    targets = lab.normal(0, 0.03 * extent, (views, 3)) + session.normal(0, 0.01 * extent, (views, 3))
    focal = distance / (1.25 * extent) * min(size_hw)
    K = np.zeros((views, 3, 3))
    K[:, 0, 0], K[:, 1, 1], K[:, 2, 2] = focal, focal * session.uniform(0.98, 1.02, views), 1
    K[:, 0, 2] = (width - 1) / 2 + session.uniform(-0.03, 0.03, views) * width
    K[:, 1, 2] = (height - 1) / 2 + session.uniform(-0.03, 0.03, views) * height
    cameras = np.stack([_look_at(eye, target) for eye, target in zip(eyes, targets, strict=True)])
    return Rig(tuple(f"cam{i}" for i in range(views)), K, cameras, size_hw)


def ideal_rig(rig: Rig) -> Rig:
    """The same cameras with square pixels and the optical axis in the middle of the picture."""
    height, width = rig.size_hw
    K = rig.K.copy()
    K[:, 1, 1] = K[:, 0, 0]
    K[:, :2, 2] = (width - 1) / 2, (height - 1) / 2
    return Rig(rig.names, K, rig.cam_from_world, rig.size_hw)


def random_pose(
    rng: np.random.Generator, joint_names: tuple[str, ...], num_betas: int, extent: float, yaw_range_deg: float
) -> Pose:
    """Legs and antennae move most; the root turns about the vertical, tilts a little and is placed near the middle."""
    spread = np.array([JOINT_RANGE_RAD[part_of_joint(name)] for name in joint_names])
    axis_angles = spread[:, None] * np.clip(rng.normal(size=(len(joint_names), 3)), -2, 2)
    yaw = np.radians(rng.uniform(-yaw_range_deg, yaw_range_deg))
    axis_angles[0] = [*rng.normal(0, 0.08, 2), yaw]
    translation = extent * np.array([*rng.uniform(-0.15, 0.15, 2), rng.uniform(-0.02, 0.06)])
    return Pose(axis_angles, np.clip(rng.normal(0, 0.8, num_betas), -2, 2), translation)


def random_props(
    lab: np.random.Generator, rng: np.random.Generator, extent: float, floor: float, distractors: int
) -> Props:
    """A mottled round floor below the animal, of about the laboratory's colour, and a few pebbles on it."""
    color = np.clip(lab.uniform(0.5, 0.8, 3) + rng.normal(0, 0.04, 3), 0.3, 0.95)
    parts = [_floor(rng, 2.2 * extent, floor, color)]
    parts += [_pebble(rng, extent, floor) for _ in range(distractors)]
    offsets = np.cumsum([0, *(len(p.vertices) for p in parts[:-1])])
    return Props(
        np.concatenate([p.vertices for p in parts]),
        np.concatenate([p.faces + o for p, o in zip(parts, offsets, strict=True)]),
        np.concatenate([p.colors for p in parts]),
    )


def animal_colors(
    rng: np.random.Generator, weights: Float[np.ndarray, "n j"], joint_names: tuple[str, ...]
) -> Float[np.ndarray, "n 3"]:
    """Colours by body part, with mottling; the animal stands out from the floor, as in a lab's arena."""
    base = np.array([0.35, 0.2, 0.1]) + rng.normal(0, 0.06, 3)
    tint = {
        **{
            "thorax": [0.15, 0.05, 0.0],
            "abdomen": [-0.1, -0.05, 0.0],
            "head": [0.45, 0.1, 0.0],
            "leg": [0.0, 0.1, 0.3],
        },
        **{
            "antenna": [0.3, 0.35, 0.0],
            "mandible": [0.4, 0.0, 0.1],
            "wing": [0.2, 0.25, 0.3],
            "other": [0.1, 0.1, 0.1],
        },
    }
    sided = np.array([0.12 if n.endswith("_l") else -0.06 if n.endswith("_r") else 0.0 for n in joint_names])
    by_joint = base + np.array([tint[part_of_joint(n)] for n in joint_names]) + sided[:, None] * [0.0, 1.0, 0.3]
    mottled: Float[np.ndarray, "n 3"] = weights @ by_joint + rng.normal(0, 0.02, (len(weights), 1))
    np.clip(mottled, 0.02, 1.0, out=mottled)
    return mottled


def _look_at(eye: Float[np.ndarray, " 3"], target: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "4 4"]:
    """OpenCV camera at `eye` that looks at `target`, the world's z upwards in the picture."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    cam_from_world = np.eye(4)
    cam_from_world[:3, :3] = [right, np.cross(forward, right), forward]
    cam_from_world[:3, 3] = -cam_from_world[:3, :3] @ eye
    return cam_from_world


def _floor(
    rng: np.random.Generator,
    radius: float,
    height: float,
    color: Float[np.ndarray, " 3"],
    rings: int = 28,
    sectors: int = 48,
) -> Props:
    angle = 2 * np.pi * np.arange(sectors) / sectors
    distance = radius * (np.arange(1, rings + 1) / rings)
    grid = distance[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    vertices = np.concatenate([np.zeros((1, 2)), grid.reshape(-1, 2)])
    faces = [[0, 1 + s, 1 + (s + 1) % sectors] for s in range(sectors)]
    for r in range(rings - 1):
        for s in range(sectors):
            a, b = 1 + r * sectors + s, 1 + r * sectors + (s + 1) % sectors
            faces += [[a, a + sectors, b], [b, a + sectors, b + sectors]]
    waves = rng.normal(0, 2.5 / radius, (4, 2))
    mottle = np.sin(vertices @ waves.T * 3 + rng.uniform(0, 6, 4)).mean(1) * 0.12 + rng.normal(0, 0.05, len(vertices))
    colors = np.clip(color + mottle[:, None], 0, 1)
    return Props(np.concatenate([vertices, np.full((len(vertices), 1), height)], 1), np.array(faces), colors)


def _pebble(rng: np.random.Generator, extent: float, floor: float) -> Props:
    """A squashed octahedron, subdivided once, beside the animal."""
    corners = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    middle = [
        (corners[a] + corners[b]) / np.sqrt(2) for face in faces for a, b in zip(face, np.roll(face, -1), strict=True)
    ]
    vertices = np.concatenate([corners, middle])
    fine = []
    for number, (a, b, c) in enumerate(faces):
        ab, bc, ca = 6 + 3 * number + np.arange(3)
        fine += [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
    size = extent * rng.uniform(0.03, 0.07) * rng.uniform(0.7, 1.3, 3)
    angle, distance = rng.uniform(0, 2 * np.pi), extent * rng.uniform(0.55, 1.1)
    place = np.array([distance * np.cos(angle), distance * np.sin(angle), floor + size[2] * 0.6])
    colors = np.clip(rng.uniform(0.1, 0.6, 3) + rng.normal(0, 0.03, (len(vertices), 1)), 0, 1)
    return Props(vertices * size + place, np.array(fine), colors)
