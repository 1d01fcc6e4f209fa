"""Where objects, occluders, camera and light of one picture are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from vpog.data.synthetic.options import SceneOptions
from vpog.views import rotations_about_axis

TRIES = 30
"""Places that are drawn for an object before the next one gets its turn."""


@dataclass(frozen=True)
class Layout:
    """One picture before it is drawn; objects first, then occluders."""

    objects: Int64[np.ndarray, " n"]
    """Place in the list of objects of each one that is labelled."""
    occluders: Int64[np.ndarray, " m"]
    """Place in the list of occluders."""
    cam_from_obj_mm: Float64[np.ndarray, "k 4 4"]
    """Those of occluders also scale."""
    K: Float64[np.ndarray, "3 3"]
    light_cam: Float64[np.ndarray, "3"]
    """From the objects towards the light, unit."""
    ambient: float


@dataclass(frozen=True)
class _Ball:
    """What an object takes up."""

    centre_mm: Float64[np.ndarray, "3"]
    radius_mm: float


def random_layout(
    rng: np.random.Generator,
    scene: SceneOptions,
    size_hw: tuple[int, int],
    object_diameters_mm: Sequence[float],
    occluder_diameters_mm: Sequence[float],
) -> Layout:
    """At least one object; of the others those that find a free place."""
    K = _random_camera(rng, scene, size_hw)
    wanted = int(rng.integers(scene.objects[0], scene.objects[1] + 1))
    balls: list[_Ball] = []
    chosen: list[int] = []
    for _ in range(wanted):
        candidate = int(rng.integers(len(object_diameters_mm)))
        ball = _free_place(rng, scene, size_hw, K, object_diameters_mm[candidate], balls)
        if ball is not None:
            balls.append(ball)
            chosen.append(candidate)
    num_occluders = int(rng.integers(scene.occluders[0], scene.occluders[1] + 1))
    occluders = rng.integers(len(occluder_diameters_mm), size=num_occluders)
    before = [_before(rng, balls[rng.integers(len(balls))]) for _ in occluders]
    centres = np.stack([ball.centre_mm for ball in (*balls, *before)])
    poses = np.tile(np.eye(4), (len(centres), 1, 1))
    poses[:, :3, :3] = _rays(centres) @ _random_rotations(rng, scene, len(centres))
    poses[:, :3, 3] = centres
    scales = [2 * ball.radius_mm / occluder_diameters_mm[kind] for ball, kind in zip(before, occluders, strict=True)]
    poses[len(balls) :, :3, :3] *= np.array(scales)[:, None, None]
    return Layout(
        objects=np.array(chosen, dtype=np.int64),
        occluders=occluders,
        cam_from_obj_mm=poses,
        K=K,
        light_cam=_random_light(rng, scene.light_deg),
        ambient=float(rng.uniform(*scene.ambient)),
    )


def _random_camera(
    rng: np.random.Generator, scene: SceneOptions, size_hw: tuple[int, int]
) -> Float64[np.ndarray, "3 3"]:
    height, width = size_hw
    longer = max(size_hw)
    focal = longer * rng.uniform(*scene.focal)
    aspect = rng.uniform(0.99, 1.01)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    centre = middle + longer * scene.principal_point * rng.uniform(-1, 1, 2)
    return np.array([[focal, 0, centre[0]], [0, focal * aspect, centre[1]], [0, 0, 1.0]])


def _free_place(
    rng: np.random.Generator,
    scene: SceneOptions,
    size_hw: tuple[int, int],
    K: Float64[np.ndarray, "3 3"],
    diameter_mm: float,
    taken: Sequence[_Ball],
) -> _Ball | None:
    """None: every place drawn was too near to others. The first object gets any."""
    for _ in range(TRIES):
        ball = _random_place(rng, scene, size_hw, K, diameter_mm)
        if all(_apart(ball, other) and _seen_apart(ball, other, K, scene.overlap) for other in taken):
            return ball
    return None


def _random_place(
    rng: np.random.Generator,
    scene: SceneOptions,
    size_hw: tuple[int, int],
    K: Float64[np.ndarray, "3 3"],
    diameter_mm: float,
) -> _Ball:
    height, width = size_hw
    distance = K[0, 0] * diameter_mm / (rng.uniform(*scene.fill) * min(size_hw))
    share = rng.uniform(scene.margin, 1 - scene.margin, 2)
    pixel = np.array([*(share * [width, height] - 0.5), 1.0])
    return _Ball(distance * np.linalg.solve(K, pixel), diameter_mm / 2)


def _apart(a: _Ball, b: _Ball) -> bool:
    """Balls are larger than what is in them, so that they may meet a little."""
    return bool(np.linalg.norm(a.centre_mm - b.centre_mm) > 0.85 * (a.radius_mm + b.radius_mm))


def _seen_apart(a: _Ball, b: _Ball, K: Float64[np.ndarray, "3 3"], overlap: float) -> bool:
    (ax, ay, ar), (bx, by, br) = _seen(a, K), _seen(b, K)
    return bool(np.hypot(ax - bx, ay - by) >= overlap * (ar + br))


def _seen(ball: _Ball, K: Float64[np.ndarray, "3 3"]) -> tuple[float, float, float]:
    """Centre and radius on the picture, px."""
    x, y, z = (K @ ball.centre_mm).tolist()
    return x / z, y / z, float(K[0, 0]) * ball.radius_mm / z


def _before(rng: np.random.Generator, target: _Ball) -> _Ball:
    """Between the camera and the target's rim, and so small on the picture that most of the target stays visible."""
    distance = float(target.centre_mm[2])
    depth = rng.uniform(0.5, 0.8) * (distance - 1.1 * target.radius_mm)
    angle = rng.uniform(0, 2 * np.pi)
    aim = target.centre_mm + target.radius_mm * rng.uniform(0.6, 1.1) * np.array([np.cos(angle), np.sin(angle), 0])
    return _Ball(aim * depth / aim[2], rng.uniform(0.3, 0.6) * target.radius_mm * depth / distance)


def _rays(centres: Float64[np.ndarray, "k 3"]) -> Float64[np.ndarray, "k 3 3"]:
    """Shortest rotations that take the optical axis to the rays."""
    x, y, z = (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T
    share = 1 / (1 + z)
    rows = (1 - x * x * share, -x * y * share, x, -x * y * share, 1 - y * y * share, y, -x, -y, z)
    return np.stack(rows, -1).reshape(-1, 3, 3)


def _random_rotations(rng: np.random.Generator, scene: SceneOptions, count: int) -> Float64[np.ndarray, "k 3 3"]:
    """Seen from anywhere with equal chances, z upwards, then turned in the picture."""
    height = rng.uniform(0 if scene.upper_views else -1, 1, count)
    azimuth = rng.uniform(-np.pi, np.pi, count)
    radius = np.sqrt(1 - height**2)
    forward = -np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), height], 1)
    right = np.stack([-np.sin(azimuth), np.cos(azimuth), np.zeros(count)], 1)
    upright = np.stack([right, np.cross(forward, right), forward], 1)
    most = np.deg2rad(scene.inplane_deg)
    return np.asarray(rotations_about_axis(rng.uniform(-most, most, count)) @ upright)


def _random_light(rng: np.random.Generator, most_deg: float) -> Float64[np.ndarray, "3"]:
    away, around = np.deg2rad(rng.uniform(0, most_deg)), rng.uniform(0, 2 * np.pi)
    return np.array([np.sin(away) * np.cos(around), np.sin(away) * np.sin(around), -np.cos(away)])
