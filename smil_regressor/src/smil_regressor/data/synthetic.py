"""Synthetic multi-view samples with exact ground truth, rendered from any SMAL/SMIL model or the procedural insect.

A session has one rig of calibrated cameras, one look of animal and floor, and several frames. The world is the
arena's frame: z up, its origin in the middle of the floor's centre, lengths in the model's own unit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8

from posecore.bodymodel import BodyModel
from posecore.cameras import project, transform
from posecore.rendering import Backend, Light, rasterize, shade_raster, visible_points
from posecore.rotations import axis_angle_to_matrix
from smil_regressor.data.sample import Sample
from smil_regressor.data.scenes import Pose, Props, Rig, animal_colors, ideal_rig, random_pose, random_props, random_rig
from smil_regressor.data.synthetic_frame import Frame, to_sample

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
    distortion: float = 0.0
    """Mean barrel distortion (-k1 of OpenCV) of the lenses, in layouts that keep pictures as recorded: SLEAP's."""


EXACT = Difficulty()


def synthesise(
    body: BodyModel,
    *,
    samples: int,
    views: int,
    resolution: int,
    seed: int,
    frames_per_session: int = 8,
    difficulty: Difficulty = EXACT,
    backend: Backend = "warp",
) -> Iterator[Sample]:
    """Yield samples in order; the same arguments give the same samples.

    Args:
        resolution: Side of the stored square pictures, pixels. They are rendered larger, not square, and scaled down.
        frames_per_session: Frames that share rig and looks.

    Raises:
        ValueError: Fewer than one sample, view or frame.
    """
    for frame in render_frames(
        body, samples=samples, views=views, resolution=resolution, seed=seed,
        frames_per_session=frames_per_session, difficulty=difficulty, backend=backend,
    ):  # fmt: skip
        yield to_sample(frame, resolution)


def render_frames(
    body: BodyModel,
    *,
    samples: int,
    views: int,
    resolution: int,
    seed: int,
    frames_per_session: int = 8,
    difficulty: Difficulty = EXACT,
    backend: Backend = "warp",
    ideal_lenses: bool = False,
) -> Iterator[Frame]:
    """The same scenes as `synthesise`, in the pictures as rendered: 1.5 times `resolution` high, and wider than that.

    Args:
        ideal_lenses: Square pixels, the optical axis in the middle and one picture size: the cameras of a renderer.
    """
    if min(samples, views, resolution, frames_per_session) < 1:
        raise ValueError("samples, views, resolution and frames_per_session must be at least 1")
    length = float(np.ptp(body.template.double().numpy(), axis=0).max())
    session: _Session | None = None
    for number in range(samples):
        index, frame = divmod(number, frames_per_session)
        if session is None or frame == 0:
            session = _Session.draw(seed, index, body, views, resolution, length, difficulty, ideal_lenses)
        rng = np.random.default_rng([seed, index, frame + 1])
        yield _frame(rng, body, session, frame, length, difficulty, backend)


@dataclass(frozen=True)
class _Session:
    name: str
    rig: Rig
    props: Props
    colors: Float[np.ndarray, "n 3"]
    light: Float[np.ndarray, " 3"]

    @staticmethod
    def draw(
        seed: int, index: int, body: BodyModel, views: int,
        resolution: int, length: float, d: Difficulty, ideal_lenses: bool,
    ) -> "_Session":  # fmt: skip
        # numpy takes missing seeds for zeros: [seed] would be the stream of session 0
        lab, rng = np.random.default_rng([seed, 0, 0, 1]), np.random.default_rng([seed, index])
        wide = rng.choice([1.5, 1.75, 2.0])
        # video codecs want even sizes
        height, width = (2 * round(resolution * factor / 2) for factor in (1.5, 1.75 if ideal_lenses else wide))
        rig = random_rig(lab, rng, views, length, (height, width))
        floor = float(body.template[:, 2].min()) - 0.03 * length
        colors = animal_colors(rng, body.weights.double().numpy(), body.joint_names)
        light = rng.normal([0.0, 0.0, 1.0], 0.4)
        props = random_props(lab, rng, length, floor, d.distractors)
        rig = ideal_rig(rig) if ideal_lenses else rig
        return _Session(f"synthetic_{index:04d}", rig, props, colors, light)


def _frame(
    rng: np.random.Generator, body: BodyModel, session: _Session, number: int,
    length: float, difficulty: Difficulty, backend: Backend,
) -> Frame:  # fmt: skip
    pose = random_pose(rng, body.joint_names, body.num_betas, length, difficulty.yaw_range_deg)
    rotations = axis_angle_to_matrix(torch.from_numpy(pose.axis_angles))
    vertices, joints = _place(body, rotations, pose)
    drawn = _render(session, vertices, body, joints, length, backend)
    pixels, visible = _imperfect(rng, drawn.pixels, drawn.visible, session.rig, difficulty)
    return Frame(
        session=session.name,
        number=number,
        rig=session.rig,
        pose=pose,
        rotations=rotations.numpy(),
        joints_world=joints.numpy(),
        images=drawn.images,
        masks=drawn.masks,
        depth=drawn.depth,
        keypoints_px=pixels,
        visible=visible,
        view_mask=_present_views(rng, len(session.rig.names), difficulty.missing_views),
    )


class _Drawn(NamedTuple):
    images: UInt8[np.ndarray, "v h w 3"]
    masks: Bool[np.ndarray, "v h w"]
    depth: Float32[np.ndarray, "v h w"]
    pixels: Float[np.ndarray, "v j 2"]
    visible: Bool[np.ndarray, "v j"]


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
) -> _Drawn:
    """Pictures, visible masks of the animal, and where its joints are and whether they are in sight, in all views."""
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
    return _Drawn(images, mask.numpy(), raster.depth.numpy(), pixels.numpy(), seen.numpy())


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
