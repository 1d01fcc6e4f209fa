"""From recorded views and labels to a `Sample`: shared by all converters."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from posecore.cameras import crop_intrinsics
from posecore.data.crops import crop_and_resize, crop_points
from smil_regressor.data.converters.crops import CropMode, crop_box
from smil_regressor.data.sample import Sample


@dataclass(frozen=True)
class View:
    """One undistorted picture with its labels; j joints in the model's order."""

    image: UInt8[np.ndarray, "h w 3"]
    keypoints_px: Float[np.ndarray, "j 2"]
    """Any finite number where `visibility` is 0."""
    visibility: Float[np.ndarray, " j"]
    K: Float[np.ndarray, "3 3"] | None = None
    cam_from_world: Float[np.ndarray, "4 4"] | None = None
    """None where the camera is not calibrated; K is None then too."""
    mask: Bool[np.ndarray, "h w"] | None = None
    native_size_wh: tuple[float, float] = (0.0, 0.0)
    """Size of the crop before it was resized; set by `crop_view`."""


@dataclass(frozen=True)
class BodyLabels:
    """What is known of the animal itself; None where it is unknown. j joints, c shape coefficients."""

    keypoints_world: Float[np.ndarray, "j 3"]
    """NaN where missing."""
    num_betas: int
    root_rotation: Float[np.ndarray, "3 3"] | None = None
    joint_rotations: Float[np.ndarray, "j 3 3"] | None = None
    """The root's entry is not read."""
    betas: Float[np.ndarray, " c"] | None = None
    translation: Float[np.ndarray, " 3"] | None = None
    log_scales: Float[np.ndarray, "j 3"] | None = None
    joint_offsets: Float[np.ndarray, "j 3"] | None = None


def crop_view(view: View, mode: CropMode, resolution: int) -> View | None:
    """Cut a view and resize it to a square of this side, with its labels and K; None where there is nothing to cut."""
    height, width = view.image.shape[:2]
    box = crop_box(mode, (width, height), view.keypoints_px, view.visibility > 0, view.mask)
    if box is None:
        return None
    size = (resolution, resolution)
    keypoints = crop_points(view.keypoints_px, box, size)
    # a crop hides what it cuts off
    inside = ((keypoints > -0.5) & (keypoints < resolution - 0.5)).all(-1)
    K = view.K
    if K is not None:
        K = crop_intrinsics(torch.from_numpy(K), torch.tensor(box, dtype=torch.float64), size).numpy()
    mask = view.mask
    if mask is not None:
        # enlarge or shrink as a picture, threshold at one half: casting to integers would erode the outline
        mask = crop_and_resize(mask.astype(np.uint8) * 255, box, size) > 127
    return replace(
        view,
        image=crop_and_resize(view.image, box, size),
        keypoints_px=keypoints,
        visibility=np.where(inside, view.visibility, 0.0),
        K=K,
        mask=mask,
        native_size_wh=(box[2], box[3]),
    )


def build_sample(
    key: str, session: str, frame: int, views: Sequence[View | None], resolution: int, labels: BodyLabels
) -> Sample:
    """A sample with one slot for each entry of `views`; None leaves its slot empty. Views must have been cropped."""
    slots, joints = len(views), len(labels.keypoints_world)
    present = np.array([view is not None for view in views])
    seen = np.array([view is not None and view.mask is not None for view in views])
    calibrated = np.array([view is not None and view.cam_from_world is not None for view in views])
    images = np.zeros((slots, resolution, resolution, 3), np.uint8)
    masks = np.zeros((slots, resolution, resolution), bool)
    keypoints, visibility = np.zeros((slots, joints, 2), np.float32), np.zeros((slots, joints), np.float32)
    K = np.tile(np.eye(3, dtype=np.float32), (slots, 1, 1))
    cam_from_world = np.tile(np.eye(4, dtype=np.float32), (slots, 1, 1))
    native = np.full((slots, 2), resolution, np.float32)
    for slot, view in enumerate(views):
        if view is None:
            continue
        images[slot], native[slot] = view.image, view.native_size_wh
        visibility[slot] = view.visibility
        keypoints[slot] = np.where(view.visibility[:, None] > 0, view.keypoints_px, 0.0)
        if view.mask is not None:
            masks[slot] = view.mask
        if view.K is not None and view.cam_from_world is not None:
            K[slot], cam_from_world[slot] = view.K, view.cam_from_world
    known = np.isfinite(labels.keypoints_world).all(-1)
    return Sample(
        key=key,
        session=session,
        frame=frame,
        images=images,
        view_mask=present,
        camera_slots=np.where(present, np.arange(slots), -1),
        K=K,
        cam_from_world=cam_from_world,
        has_camera=calibrated,
        native_size_wh=native,
        keypoints_px=keypoints,
        visibility=visibility,
        masks=masks,
        has_mask=seen,
        keypoints_world=np.where(known[:, None], labels.keypoints_world, 0.0).astype(np.float32),
        has_keypoints_world=known,
        rotations=_rotations(labels, joints),
        has_root_rotation=labels.root_rotation is not None,
        has_joint_rotations=labels.joint_rotations is not None,
        betas=_or_zeros(labels.betas, (labels.num_betas,)),
        has_betas=labels.betas is not None,
        translation=_or_zeros(labels.translation, (3,)),
        has_translation=labels.translation is not None,
        log_scales=_or_zeros(labels.log_scales, (joints, 3)),
        has_log_scales=labels.log_scales is not None,
        joint_offsets=_or_zeros(labels.joint_offsets, (joints, 3)),
        has_joint_offsets=labels.joint_offsets is not None,
    )


def dilated(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The mask grown twice by a 5x5 ellipse, so that joints on the outline of thin legs count as on the animal."""
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), ellipse, iterations=2) > 0)


def on_mask(mask: Bool[np.ndarray, "h w"], pixels: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Which pixels lie in the picture and on the mask."""
    height, width = mask.shape
    column, row = np.round(np.nan_to_num(pixels, nan=-1.0)).astype(np.int64).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return np.asarray(inside & mask[np.where(inside, row, 0), np.where(inside, column, 0)])


def _rotations(labels: BodyLabels, joints: int) -> Float[np.ndarray, "j 3 3"]:
    rotations = np.tile(np.eye(3, dtype=np.float32), (joints, 1, 1))
    if labels.joint_rotations is not None:
        rotations[1:] = labels.joint_rotations[1:]
    if labels.root_rotation is not None:
        rotations[0] = labels.root_rotation
    return rotations


def _or_zeros(values: Float[np.ndarray, "*shape"] | None, shape: tuple[int, ...]) -> Float[np.ndarray, "*shape"]:
    return np.zeros(shape, np.float32) if values is None else values.astype(np.float32)
