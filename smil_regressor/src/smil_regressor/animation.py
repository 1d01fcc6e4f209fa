"""Predictions over time: smoothing, and the animation file that other programs read."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation

from posecore.cameras import project
from posecore.rotations import axis_angle_to_matrix, project_to_so3
from smil_regressor.model.body import to_cameras
from smil_regressor.model.state import BodyParameters
from smil_regressor.predict import LoadedNetwork, Posable, Poses

CAMERA = ("K", "cam_from_world")


def smooth_poses(poses: Poses, sequences: Sequence[str], window: int, loaded: LoadedNetwork) -> Poses:
    """Smooth every sequence by itself.

    Rotations: chordal mean in a centred window. Place: Savitzky-Golay of order 2. Shape and size become the median of
    the sequence, so that bones keep their length.

    Args:
        sequences: For each moment the name of its sequence.
        window: Odd number of frames; shortened to the sequence where that is shorter.
    """
    labels = np.asarray(sequences)
    arrays: dict[str, Any] = {
        name: value.copy() for name, value in vars(poses).items() if isinstance(value, np.ndarray)
    }
    for sequence in dict.fromkeys(sequences):
        rows = np.flatnonzero(labels == sequence)
        part = _smooth_sequence(replace(poses, **{name: vars(poses)[name][rows] for name in arrays}), window, loaded)
        for name, value in arrays.items():
            value[rows] = getattr(part, name)
    return replace(poses, **arrays)


def _smooth_sequence(poses: Poses, window: int, loaded: LoadedNetwork) -> Poses:
    frames = len(poses)
    window = min(window, frames - (frames + 1) % 2)
    if window < 3:
        return poses
    axis_angles = _smooth_rotations(poses.axis_angles, window)
    betas = np.broadcast_to(np.median(poses.betas, axis=0), poses.betas.shape).copy()
    translation = savgol_filter(poses.translation, window, 2, axis=0, mode="nearest").astype(np.float32)
    limbs: dict[str, Any] = {
        name: None if value is None else np.broadcast_to(np.median(value, axis=0), value.shape).copy()
        for name, value in (("log_scales", poses.log_scales), ("joint_offsets", poses.joint_offsets))
    }
    scale = None if poses.mesh_scale is None else np.full_like(poses.mesh_scale, np.median(poses.mesh_scale))
    smoothed = replace(poses, axis_angles=axis_angles, betas=betas, translation=translation, mesh_scale=scale, **limbs)
    return _posed_again(smoothed, loaded)


def write_animation(folder: Path, names: Sequence[str], poses: Poses, loaded: Posable) -> None:
    """animation.npz (poses, place, shape, joints) and cameras.json, the cameras of every frame."""
    optional: dict[str, Any] = {
        "log_beta_scales": poses.log_scales,
        "betas_trans": poses.joint_offsets,
        "mesh_scale": poses.mesh_scale,
    }
    np.savez_compressed(
        folder / "animation.npz",
        frame_names=np.array(names),
        poses=poses.axis_angles,
        trans=poses.translation,
        betas=poses.betas,
        joints=poses.joints_world,
        joint_names=np.array(poses.joint_names),
        parents=loaded.body.model.parents.cpu().numpy(),
        faces=loaded.body.model.faces.cpu().numpy(),
        **{name: value for name, value in optional.items() if value is not None},
    )
    cameras = [
        {
            poses.camera_order[slot] if 0 <= slot < len(poses.camera_order) else f"view {v}": {
                name: getattr(poses, name)[row, v].tolist() for name in CAMERA
            }
            for v, slot in enumerate(poses.camera_slots[row].tolist())
            if poses.view_mask[row, v]
        }
        for row in range(len(poses))
    ]
    text = json.dumps({"convention": "OpenCV", "frames": dict(zip(names, cameras, strict=True))}, indent=1)
    (folder / "cameras.json").write_text(text + "\n", encoding="utf-8")


def _smooth_rotations(axis_angles: Float[np.ndarray, "n j 3"], window: int) -> Float[np.ndarray, "n j 3"]:
    """Mean rotation of a centred window; at the ends the window is cut."""
    frames, joints, _ = axis_angles.shape
    matrices = Rotation.from_rotvec(axis_angles.reshape(-1, 3)).as_matrix().reshape(frames, joints, 3, 3)
    padded = np.concatenate([np.zeros((1, joints, 3, 3)), np.cumsum(matrices, axis=0)])
    half = window // 2
    first = np.maximum(np.arange(frames) - half, 0)
    last = np.minimum(np.arange(frames) + half + 1, frames)
    sums = padded[last] - padded[first]
    means = project_to_so3(torch.from_numpy(sums)).numpy()
    rotvecs = Rotation.from_matrix(means.reshape(-1, 3, 3)).as_rotvec()
    return rotvecs.reshape(frames, joints, 3).astype(np.float32)


def _posed_again(poses: Poses, loaded: LoadedNetwork) -> Poses:
    """Joints, vertices and pixels that follow from the changed parameters."""

    def tensor(value: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(value).float().to(loaded.device)

    def optional(value: np.ndarray | None) -> torch.Tensor | None:
        return None if value is None else tensor(value)

    body = BodyParameters(
        rotations=axis_angle_to_matrix(tensor(poses.axis_angles)),
        rotation_params=tensor(poses.axis_angles),
        betas=tensor(poses.betas),
        translation=tensor(poses.translation),
        log_scales=optional(poses.log_scales),
        joint_offsets=optional(poses.joint_offsets),
        mesh_scale=optional(poses.mesh_scale),
    )
    with torch.no_grad():
        joints, vertices = loaded.body.joints(body), loaded.body.vertices(body)
        pixels, in_front = project(to_cameras(joints, tensor(poses.cam_from_world)), tensor(poses.K))
    return replace(
        poses,
        joints_world=joints.cpu().numpy(),
        vertices_world=vertices.cpu().numpy(),
        joints_px=pixels.cpu().numpy(),
        in_front=in_front.cpu().numpy(),
    )
