"""Synthetic clips as records: geometry, labels and finished pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8

from handvit.data.records import FORMAT, ClipRecord, Handedness
from handvit.data.synthetic.anatomy import turn
from handvit.data.synthetic.motion import Difficulty, Motion, random_motion
from handvit.data.synthetic.render import HandMesh, render_hands
from handvit.data.synthetic.scene import Occluder, random_background, random_forearm, random_occluder, shifted_view
from handvit.data.synthetic.skin import Look, Looks, random_look
from handvit.hand import HandModel, mirror_axis_angle, mirror_points
from posecore.data.images import encode_jpeg
from posecore.rendering import Backend
from posecore.rotations import matrix_to_axis_angle

DATA_SOURCE = "synthetic"


@dataclass(frozen=True)
class ClipPlan:
    """Everything about a clip that is drawn at random, but the noise of its pictures. Right hands only: a left hand
    is the mirror image of one."""

    number: int
    side: Handedness
    motion: Motion
    look: Look
    forearm: Float[np.ndarray, " 3"]
    """Direction in the hand's rest frame."""
    canvas: Float32[np.ndarray, "_ _ 3"]
    occluder: Occluder | None
    shadow: float
    rng: np.random.Generator
    """Goes on to draw noise and blur."""


@dataclass(frozen=True)
class Scene:
    """Hands of t frames before the camera, as drawn (right); metres and pixels."""

    joints_cam: Float[np.ndarray, "t 21 3"]
    vertices_cam: Float[np.ndarray, "t m 3"]
    """With forearms."""
    pose: Float[np.ndarray, "t 48"]
    K: Float[np.ndarray, "t 3 3"]


def plan_clip(
    mesh: HandMesh,
    seed: int,
    number: int,
    frames: int,
    size: tuple[int, int],
    left_share: float,
    difficulty: Difficulty,
) -> ClipPlan:
    """The clip of this number; depends on nothing but the arguments."""
    rng = np.random.default_rng([seed, number])
    left = bool(rng.random() < left_share)
    motion = random_motion(rng, mesh.anatomy, frames, size, difficulty)
    occluded = rng.random() < difficulty.occluders
    return ClipPlan(
        number=number,
        side="left" if left else "right",
        motion=motion,
        look=random_look(rng, difficulty.glove),
        forearm=random_forearm(rng, mesh.anatomy),
        canvas=random_background(rng, size),
        occluder=random_occluder(rng, size, motion.centre_px[0]) if occluded else None,
        shadow=float(rng.uniform(0, 0.6)),
        rng=rng,
    )


def render_clips(
    hand: HandModel,
    mesh: HandMesh,
    plans: Sequence[ClipPlan],
    size: tuple[int, int],
    split: str,
    difficulty: Difficulty,
    *,
    quality: int,
    backend: Backend = "warp",
) -> list[ClipRecord]:
    """Render planned clips in one go.

    Args:
        size: Height and width of the pictures.
        quality: Of the JPEG files, 1 to 100.
    """
    counts = [len(plan.motion.depth_m) for plan in plans]
    scene = _pose(hand, mesh, plans, counts)
    looks = Looks.stack([plan.look for plan, count in zip(plans, counts, strict=True) for _ in range(count)])
    colors, covers = render_hands(mesh, scene.vertices_cam, scene.K, looks, size, backend)
    records = []
    for plan, end, count in zip(plans, np.cumsum(counts), counts, strict=True):
        part = slice(end - count, end)
        pictures = [
            _finished(plan, frame, color, cover, difficulty)
            for frame, (color, cover) in enumerate(zip(colors[part], covers[part], strict=True))
        ]
        of_clip = Scene(scene.joints_cam[part], scene.vertices_cam[part], scene.pose[part], scene.K[part])
        encoded = [encode_jpeg(picture, quality) for picture in pictures]
        records.append(_record(hand, plan, of_clip, encoded, size, split))
    return records


def _pose(hand: HandModel, mesh: HandMesh, plans: Sequence[ClipPlan], counts: Sequence[int]) -> Scene:
    """Place the hands where their motion says, then let the camera shake."""
    motions = [plan.motion for plan in plans]
    rotations = np.concatenate([motion.rotations for motion in motions])
    betas = np.repeat([motion.betas for motion in motions], counts, axis=0)
    dtype, device = hand.body.template.dtype, hand.body.template.device
    with torch.no_grad():
        posed = hand(*(torch.from_numpy(value).to(device, dtype) for value in (rotations, betas)))
    assert posed.vertices_m is not None
    joints, vertices = (points.double().cpu().numpy() for points in (posed.joints_m, posed.vertices_m))
    forearms = np.repeat([plan.forearm for plan in plans], counts, axis=0)
    vertices = mesh.with_forearm(vertices, np.einsum("tij,tj->ti", rotations[:, 0], forearms))
    K = np.repeat([motion.K for motion in motions], counts, axis=0)
    shift = _shift(
        joints, np.concatenate([m.centre_px for m in motions]), np.concatenate([m.depth_m for m in motions]), K
    )
    shake = turn(np.concatenate([motion.shake for motion in motions]))
    rotations[:, 0] = shake @ rotations[:, 0]
    pose = matrix_to_axis_angle(torch.from_numpy(rotations)).flatten(1).numpy()
    return Scene((joints + shift) @ shake.swapaxes(1, 2), (vertices + shift) @ shake.swapaxes(1, 2), pose, K)


def _shift(
    joints: Float[np.ndarray, "t 21 3"],
    centre_px: Float[np.ndarray, "t 2"],
    depth_m: Float[np.ndarray, " t"],
    K: Float[np.ndarray, "t 3 3"],
) -> Float[np.ndarray, "t 1 3"]:
    """What takes the wrist to its depth and the middle of the joints to its pixel."""
    middle = (joints.min(1) + joints.max(1)) / 2
    along = depth_m - joints[:, 0, 2]
    rays = np.linalg.solve(K, np.concatenate([centre_px, np.ones_like(centre_px[:, :1])], 1)[..., None])[..., 0]
    target = rays[:, :2] * (middle[:, 2] + along)[:, None]
    return np.concatenate([target - middle[:, :2], along[:, None]], 1)[:, None]


def _finished(
    plan: ClipPlan, frame: int, color: Float32[np.ndarray, "h w 3"], cover: Float32[np.ndarray, "h w"], d: Difficulty
) -> UInt8[np.ndarray, "h w 3"]:
    """The hand before its background, with shadow, occluder, blur and noise; mirrored for a left hand."""
    motion, size = plan.motion, cover.shape
    moved = np.array([motion.K[0, 0] * motion.shake[frame, 1], -motion.K[1, 1] * motion.shake[frame, 0]])
    picture = shifted_view(plan.canvas, size, moved)
    if plan.shadow > 0.1:
        picture *= _shadow(plan, cover)
    picture *= 1 - cover[..., None]
    picture += color
    if plan.occluder is not None:
        plan.occluder.draw(picture, motion.timestamp_ms[frame] / 33)
    picture = _recorded(plan.rng, picture, d)
    return np.ascontiguousarray(picture[:, ::-1]) if plan.side == "left" else picture


def _shadow(plan: ClipPlan, cover: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w 1"]:
    """Brightness of the background: less where the hand keeps the light away."""
    side = min(cover.shape)
    shift = -0.12 * side * plan.look.light[:2] / max(-float(plan.look.light[2]), 0.5)
    moved = cv2.warpAffine(cover, np.array([[1, 0, shift[0]], [0, 1, shift[1]]]), cover.shape[::-1])
    soft = cv2.GaussianBlur(moved, (0, 0), 0.04 * side)
    return np.asarray(1 - plan.shadow * soft[..., None], dtype=np.float32)


def _recorded(
    rng: np.random.Generator, picture: Float32[np.ndarray, "h w 3"], d: Difficulty
) -> UInt8[np.ndarray, "h w 3"]:
    """Through lens and sensor: motion blur, exposure and noise of this frame alone."""
    if rng.random() < d.blur:
        length, angle = rng.uniform(0.02, 0.06) * min(picture.shape[:2]), rng.uniform(0, np.pi)
        picture = cv2.filter2D(picture, -1, _streak(length, angle))
    deviation = np.float32(d.noise * rng.random())
    noise = rng.standard_normal(picture.shape, np.float32)
    noise *= deviation
    noise += picture * np.float32(1 + min(d.noise, 0.03) * rng.normal())
    return np.asarray(np.clip(255 * noise + 0.5, 0, 255), dtype=np.uint8)


def _streak(length: float, angle: float) -> Float32[np.ndarray, "k k"]:
    half = int(np.ceil(length / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
    end = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    start, stop = (np.round((half + sign * end) * 16).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, start, stop, 255, 1, cv2.LINE_AA, 4)
    return np.asarray(kernel / kernel.sum(dtype=np.float64), dtype=np.float32)


def _record(
    hand: HandModel, plan: ClipPlan, scene: Scene, encoded: Sequence[bytes], size: tuple[int, int], split: str
) -> ClipRecord:
    """Labels of the picture as it is stored: of a left hand, everything is mirrored."""
    frames, K = len(encoded), scene.K.copy()
    joints_mm, pose = 1000 * scene.joints_cam, scene.pose
    if plan.side == "left":
        joints_mm = mirror_points(torch.from_numpy(joints_mm)).numpy()
        pose = mirror_axis_angle(torch.from_numpy(pose)).numpy()
        K[:, 0, 2] = size[1] - 1 - K[:, 0, 2]
    focal, princpt = K[:, [0, 1], [0, 1]], K[:, :2, 2]
    joints_px = joints_mm[..., :2] / joints_mm[..., 2:] * focal[:, None] + princpt[:, None]
    inside: Bool[np.ndarray, "t 21"] = ((joints_px >= -0.5) & (joints_px <= np.array(size[::-1]) - 0.5)).all(-1)
    inside &= inside.sum(1, keepdims=True) > 1  # a single joint spans no box
    return ClipRecord(
        key=f"{split}-{plan.number:07d}",
        frames=encoded,
        frame_format="jpg",
        handedness=plan.side,
        data_source=DATA_SOURCE,
        source_split=split,
        hand_bbox=_boxes(joints_px, inside),
        joint_img=_float32(joints_px),
        joint_cam_mm=_float32(joints_mm),
        joint_2d_valid=_float32(inside),
        joint_3d_valid=np.ones((frames, 21), np.float32),
        has_mano=np.ones(frames, np.float32),
        has_intr=np.ones(frames, np.float32),
        mano_pose=_float32(pose),
        mano_shape=np.repeat(_float32(plan.motion.betas)[None], frames, 0),
        timestamp_ms=_float32(plan.motion.timestamp_ms),
        focal=_float32(focal),
        princpt=_float32(princpt),
        imgs_path=[f"{split}/{plan.number:07d}/{frame:04d}.jpg" for frame in range(frames)],
        source_index=[{"clip": plan.number, "frame": frame} for frame in range(frames)],
        additional_desc=[{}] * frames,
        meta=_meta(hand),
    )


def _meta(hand: HandModel) -> dict[str, Any]:
    return {
        "version": FORMAT,
        "pose_mean": "absolute",
        "tips": hand.tips.tolist(),
        "joint_source": hand.joint_source,
        "standin": hand.is_standin,
    }


def _boxes(points: Float[np.ndarray, "t 21 2"], valid: Bool[np.ndarray, "t 21"]) -> Float32[np.ndarray, "t 4"]:
    """Tight boxes of the valid points; zero where there are none."""
    low = np.where(valid[..., None], points, np.inf).min(1)
    high = np.where(valid[..., None], points, -np.inf).max(1)
    boxes = np.where(valid.any(1, keepdims=True), np.concatenate([low, high], 1), 0)
    return _float32(boxes)


def _float32(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)
