"""Synthetic multi-view samples with exact ground truth, rendered from any SMAL/SMIL model or the procedural insect.

A session has one rig of calibrated cameras, one look of animal and floor, and several frames. The world is the
arena's frame: z up, its origin in the middle of the floor's centre, lengths in the model's own unit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from posecore.bodymodel import BodyModel
from posecore.cameras import crop_intrinsics, project, transform
from posecore.rendering import Backend, Light, rasterize, shade_raster, visible_points
from posecore.rotations import axis_angle_to_matrix
from smil_regressor.data.sample import Sample
from smil_regressor.data.scenes import Pose, Props, Rig, animal_colors, random_pose, random_props, random_rig

BACKGROUND = 0.75
HIDDEN_BEHIND = 0.12
"""A joint farther behind the visible surface than this share of the animal's length is hidden."""


@dataclass(frozen=True)
class Difficulty:
    """What makes labels imperfect, as trackers leave them; the ground truth in 3D stays exact."""

    keypoint_noise_px: float = 0.0
    """Standard deviation of 2D keypoints, pixels of the rendered picture."""
    outliers: float = 0.0
    """Share of 2D keypoints that lie anywhere in the picture."""
    missing_joints: float = 0.0
    """Share of 2D keypoints without a label."""
    missing_views: float = 0.0
    """Share of views that the animal's frame lacks (at least two stay)."""
    distractors: int = 4
    """Pebbles on the floor."""
    yaw_range_deg: float = 180.0
    """Headings are uniform within plus and minus this."""


def synthesise(
    body: BodyModel,
    *,
    samples: int,
    views: int,
    resolution: int,
    seed: int,
    frames_per_session: int = 8,
    difficulty: Difficulty = Difficulty(),
    backend: Backend = "warp",
) -> Iterator[Sample]:
    """Yield samples in order; the same arguments give the same samples.

    Args:
        resolution: Side of the stored square pictures, pixels. They are rendered larger, not square, and scaled down.
        frames_per_session: Frames that share rig and looks.

    Raises:
        ValueError: Fewer than one sample, view or frame.
    """
    if min(samples, views, resolution, frames_per_session) < 1:
        raise ValueError("samples, views, resolution and frames_per_session must be at least 1")
    length = float(np.ptp(body.template.double().numpy(), axis=0).max())
    session: _Session | None = None
    for number in range(samples):
        index, frame = divmod(number, frames_per_session)
        if session is None or frame == 0:
            session = _Session.draw(np.random.default_rng([seed, index]), f"synthetic_{index:04d}", body, views,
                                    resolution, length, difficulty)  # fmt: skip
        rng = np.random.default_rng([seed, index, frame + 1])
        yield _sample(rng, body, session, frame, resolution, length, difficulty, backend)


@dataclass(frozen=True)
class _Session:
    name: str
    rig: Rig
    props: Props
    colors: Float[np.ndarray, "n 3"]
    light: Float[np.ndarray, " 3"]

    @staticmethod
    def draw(
        rng: np.random.Generator, name: str, body: BodyModel, views: int, resolution: int, length: float, d: Difficulty
    ) -> "_Session":
        height, width = (int(resolution * factor) for factor in (1.5, rng.choice([1.5, 1.75, 2.0])))
        rig = random_rig(rng, views, length, (height, width))
        floor = float(body.template[:, 2].min()) - 0.03 * length
        colors = animal_colors(rng, body.weights.double().numpy(), body.joint_names)
        light = rng.normal([0.0, 0.0, 1.0], 0.4)
        return _Session(name, rig, random_props(rng, length, floor, d.distractors), colors, light)


def _sample(
    rng: np.random.Generator, body: BodyModel, session: _Session, frame: int,
    resolution: int, length: float, difficulty: Difficulty, backend: Backend,
) -> Sample:  # fmt: skip
    pose = random_pose(rng, body.joint_names, body.num_betas, length, difficulty.yaw_range_deg)
    rotations = axis_angle_to_matrix(torch.from_numpy(pose.axis_angles))
    vertices, joints = _place(body, rotations, pose)
    pixels, images, masks, visible = _render(session, vertices, body, joints, length, backend)
    pixels, visible = _imperfect(rng, pixels, visible, session.rig, difficulty)
    views, (height, width) = len(session.rig.names), session.rig.size_hw
    view_mask = _present_views(rng, views, difficulty.missing_views)
    scale = np.array([resolution / width, resolution / height])
    K = crop_intrinsics(torch.from_numpy(session.rig.K), torch.tensor([0.0, 0.0, width, height]).double()
                        .expand(views, 4), (resolution, resolution))  # fmt: skip
    small = [cv2.resize(image, (resolution, resolution), interpolation=cv2.INTER_AREA) for image in images]
    small_masks = [cv2.resize(m.astype(np.float32), (resolution,) * 2, interpolation=cv2.INTER_AREA) for m in masks]
    shown = view_mask[:, None, None]
    return Sample(
        key=f"{session.name}[{frame}]",
        session=session.name,
        frame=frame,
        images=np.where(shown[..., None], np.stack(small), np.uint8(0)),
        view_mask=view_mask,
        camera_slots=np.where(view_mask, np.arange(views), -1),
        K=np.where(shown, K.numpy(), np.eye(3)).astype(np.float32),
        cam_from_world=np.where(shown, session.rig.cam_from_world, np.eye(4)).astype(np.float32),
        has_camera=view_mask,
        native_size_wh=np.tile(np.array([width, height], np.float32), (views, 1)),
        keypoints_px=(((pixels + 0.5) * scale - 0.5) * shown).astype(np.float32),
        visibility=(visible & view_mask[:, None]).astype(np.float32),
        masks=(np.stack(small_masks) > 0.5) & shown,
        has_mask=view_mask,
        keypoints_world=joints.numpy().astype(np.float32),
        has_keypoints_world=np.ones(body.num_joints, bool),
        rotations=rotations.numpy().astype(np.float32),
        has_root_rotation=True,
        has_joint_rotations=True,
        betas=pose.betas.astype(np.float32),
        has_betas=True,
        translation=pose.translation.astype(np.float32),
        has_translation=True,
        log_scales=np.zeros((body.num_joints, 3), np.float32),
        has_log_scales=False,
        joint_offsets=np.zeros((body.num_joints, 3), np.float32),
        has_joint_offsets=False,
    )


def _place(body: BodyModel, rotations: torch.Tensor, pose: Pose) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices and joints with the root joint at the pose's translation, as the regressors place it."""
    dtype = body.template.dtype
    output = body(
        rotations[None].to(dtype), torch.from_numpy(pose.betas)[None].to(dtype), torch.zeros(1, 3, dtype=dtype)
    )
    shift = torch.from_numpy(pose.translation) - output.joints[0, 0].double()
    return output.vertices[0].double() + shift, output.joints[0].double() + shift


def _render(
    session: _Session, vertices: torch.Tensor, body: BodyModel, joints: torch.Tensor, length: float, backend: Backend
) -> tuple[
    Float[np.ndarray, "v j 2"], UInt8[np.ndarray, "v h w 3"], Bool[np.ndarray, "v h w"], Bool[np.ndarray, "v j"]
]:
    """Pixels of joints, pictures, visible masks of the animal, and which joints are in sight, in all views at once."""
    rig, props = session.rig, session.props
    views = len(rig.names)
    cameras, K = torch.from_numpy(rig.cam_from_world), torch.from_numpy(rig.K)
    scene = torch.cat([vertices, torch.from_numpy(props.vertices)])
    scene_cam = transform(cameras, scene.expand(views, -1, -1)).float()
    faces = torch.cat([body.faces.long(), torch.from_numpy(props.faces).long() + len(vertices)])
    colors = torch.from_numpy(np.concatenate([session.colors, props.colors])).float().expand(views, -1, -1)
    light_cam = (cameras[:, :3, :3] @ torch.from_numpy(session.light)).float()
    raster = rasterize(scene_cam, faces, K.float(), rig.size_hw, backend)
    background = torch.full((3,), BACKGROUND)
    picture = shade_raster(raster, scene_cam, faces, colors, Light(0.45, 0.55, light_cam), background)
    mask = (raster.face_ids >= 0) & (raster.face_ids < len(body.faces))
    joints_cam = transform(cameras, joints.expand(views, -1, -1))
    pixels, in_front = project(joints_cam, K)
    seen = visible_points(joints_cam.float(), raster.depth, K.float(), HIDDEN_BEHIND * length) & in_front
    images = (picture.clamp(0, 1) * 255).round().byte().numpy()
    return pixels.numpy(), images, mask.numpy(), seen.numpy()


def _imperfect(
    rng: np.random.Generator,
    pixels: Float[np.ndarray, "v j 2"],
    visible: Bool[np.ndarray, "v j"],
    rig: Rig,
    d: Difficulty,
) -> tuple[Float[np.ndarray, "v j 2"], Bool[np.ndarray, "v j"]]:
    height, width = rig.size_hw
    noisy = pixels + d.keypoint_noise_px * rng.normal(size=pixels.shape)
    anywhere = rng.uniform(0, 1, pixels.shape) * [width - 1, height - 1]
    noisy = np.where(rng.uniform(size=visible.shape)[..., None] < d.outliers, anywhere, noisy)
    return noisy, visible & (rng.uniform(size=visible.shape) >= d.missing_joints)


def _present_views(rng: np.random.Generator, views: int, share_missing: float) -> Bool[np.ndarray, " v"]:
    present = rng.uniform(size=views) >= share_missing
    present[rng.permutation(views)[: min(2, views)]] = True
    return present
