"""One rendered moment of a synthetic session, as its cameras recorded it, and the sample that it becomes."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8

from posecore.cameras import crop_intrinsics
from smil_regressor.data.sample import Sample
from smil_regressor.data.scenes import Pose, Rig


@dataclass(frozen=True)
class Frame:
    """v pinhole pictures of one size with the labels of j joints, in the model's unit of length."""

    session: str
    number: int
    """Counted from 0 in its session."""
    rig: Rig
    pose: Pose
    rotations: Float[np.ndarray, "j 3 3"]
    joints_world: Float[np.ndarray, "j 3"]
    """Exact."""
    images: UInt8[np.ndarray, "v h w 3"]
    masks: Bool[np.ndarray, "v h w"]
    """Visible part of the animal."""
    depth: Float32[np.ndarray, "v h w"]
    """Along the optical axis, -1 where there is only background."""
    keypoints_px: Float[np.ndarray, "v j 2"]
    """Labels, with the noise that was asked for."""
    visible: Bool[np.ndarray, "v j"]
    view_mask: Bool[np.ndarray, " v"]
    """Views whose labels exist."""


def to_sample(frame: Frame, resolution: int) -> Sample:
    """The frame with its pictures shrunk to squares of `resolution` pixels, and all labels with them."""
    views, joints = frame.visible.shape
    height, width = frame.rig.size_hw
    shown = frame.view_mask[:, None, None]
    whole = torch.tensor([0.0, 0.0, width, height], dtype=torch.float64).expand(views, 4)
    K = crop_intrinsics(torch.from_numpy(frame.rig.K), whole, (resolution, resolution)).numpy()
    scale = np.array([resolution / width, resolution / height])
    return Sample(
        key=f"{frame.session}[{frame.number}]",
        session=frame.session,
        frame=frame.number,
        images=np.where(shown[..., None], _shrunk(frame.images, resolution), np.uint8(0)),
        view_mask=frame.view_mask,
        camera_slots=np.where(frame.view_mask, np.arange(views), -1),
        K=np.where(shown, K, np.eye(3)).astype(np.float32),
        cam_from_world=np.where(shown, frame.rig.cam_from_world, np.eye(4)).astype(np.float32),
        has_camera=frame.view_mask,
        native_size_wh=np.tile(np.array([width, height], np.float32), (views, 1)),
        keypoints_px=(((frame.keypoints_px + 0.5) * scale - 0.5) * shown).astype(np.float32),
        visibility=(frame.visible & frame.view_mask[:, None]).astype(np.float32),
        masks=(_shrunk(frame.masks.astype(np.float32), resolution) > 0.5) & shown,
        has_mask=frame.view_mask,
        keypoints_world=frame.joints_world.astype(np.float32),
        has_keypoints_world=np.ones(joints, bool),
        rotations=frame.rotations.astype(np.float32),
        has_root_rotation=True,
        has_joint_rotations=True,
        betas=frame.pose.betas.astype(np.float32),
        has_betas=True,
        translation=frame.pose.translation.astype(np.float32),
        has_translation=True,
        log_scales=np.zeros((joints, 3), np.float32),
        has_log_scales=False,
        joint_offsets=np.zeros((joints, 3), np.float32),
        has_joint_offsets=False,
    )


def _shrunk(pictures: np.ndarray, resolution: int) -> np.ndarray:
    return np.stack([cv2.resize(p, (resolution, resolution), interpolation=cv2.INTER_AREA) for p in pictures])
