"""From a record to what the loader hands on: labels in the network's frame and the regions of pictures for its patch.

Order: mirror left hands, turn the camera to the box (option), the clip's augmentation, the error of the detector's
box, the patch. Points, boxes, K and pictures move by the same matrices; the patch is sampled once, from the stored
picture, on the device (`data.patches`), or here (`sample_patches`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from handvit.data import geometry
from handvit.data.augmentation import GeometricDraw
from handvit.data.camera_chain import CameraChain
from handvit.data.records import ClipRecord, Handedness
from handvit.data.region import cut_regions, open_pictures
from handvit.data.sample import Sample, changed
from posecore.errors import InputError

ENOUGH_JOINTS = 16
"""Fewer valid 2D joints do not outline a hand; the box's corners are taken instead."""


@dataclass(frozen=True)
class PatchSettings:
    """What the network's input looks like; the same in training and after it."""

    patch_size: int = 224
    expansion: float = 2.0
    """Side of the patch over the longer side of the hand's box."""
    turn_camera: bool = False
    """Turn a virtual camera to the box before cutting the patch (perspective-correct crop)."""
    half_pixel: bool = True
    """False only to compare with the published training crops, which are off by half a pixel."""
    antialias: bool = True
    """Average blocks of pixels where the patch shrinks by more than 2; False only to compare."""


def prepare_clip(
    record: ClipRecord,
    images: Sequence[np.ndarray] | None,
    settings: PatchSettings,
    draw: GeometricDraw | None = None,
    seed: int = 0,
    *,
    sample_patches: bool = False,
) -> Sample:
    """One sample of the T frames of the record.

    With `rigid_depth` the hand's root moves along its ray and the picture is zoomed about it, which is exact for the
    root's depth only: 2D joints whose 3D and intrinsics are known are then projected anew.

    Args:
        record: Its `frames` are not read where `images` are given.
        images: The decoded stored pictures, uint8 RGB (h, w, 3), or None: the record's frames.
        draw: The clip's augmentation. Without one no label has a part in the boxes.
        seed: What the pixel draws on the device start from.
        sample_patches: The regions are the patches, rounded to 8 bits (see `cut_regions`).

    Raises:
        InputError: A picture that cannot be decoded; a box without area or outside its picture; no focal length; a hand
            that the drawn tilt turns out of view. Each names key and frame.
    """
    contents = record.frames if images is None else images
    if len(contents) != len(record.hand_bbox):
        raise InputError(f"{record.key}: has {len(contents)} pictures for {len(record.hand_bbox)} boxes")
    pictures = open_pictures(contents, record.key)
    size_wh = np.array([[picture.width, picture.height] for picture in pictures], np.float64)
    sample = prepare_labels(record, size_wh, settings, draw, seed)
    regions, patch_from_region = cut_regions(
        pictures,
        sample.patch_from_region,
        settings.patch_size,
        antialias=settings.antialias,
        sample=sample_patches,
    )
    return changed(sample, regions=regions, patch_from_region=patch_from_region)


def prepare_labels(
    record: ClipRecord,
    size_wh: Float[np.ndarray, "t 2"],
    settings: PatchSettings,
    draw: GeometricDraw | None = None,
    seed: int = 0,
) -> Sample:
    """The sample without its pictures: regions have no pixels, `patch_from_region` is from the whole picture.

    Args:
        size_wh: Of the stored pictures.

    Raises:
        InputError: As `prepare_clip`, but for the pictures.
    """
    camera = CameraChain.start(record, size_wh)
    if settings.turn_camera:
        camera = camera.turned()
    if draw is not None:
        camera = camera.drawn(draw)
    labels = _labels(record, camera, draw)
    hand_bbox = labels.hand_bbox if draw is None else _detected(labels.hand_bbox, draw)
    patch_bbox = geometry.square_patch_box(hand_bbox, settings.expansion)
    crop = geometry.crop_matrix(patch_bbox, settings.patch_size, half_pixel=settings.half_pixel)
    visible = record.joint_2d_valid[..., None] > 0
    return Sample(
        key=record.key,
        data_source=record.data_source,
        is_left=record.handedness == "left",
        regions=(np.zeros((0, 0, 3), np.uint8),) * len(record.hand_bbox),
        patch_from_region=crop @ labels.homography,
        camera_from_network=camera.rigid.swapaxes(-1, -2),
        patch_bbox=patch_bbox,
        hand_bbox=hand_bbox,
        focal=camera.focal,
        princpt=camera.princpt,
        joint_img=labels.joint_img,
        joint_patch=np.where(visible, geometry.apply_homography(crop, labels.joint_img), 0.0),
        joint_cam_mm=labels.joint_cam_mm,
        joint_2d_valid=record.joint_2d_valid,
        joint_3d_valid=record.joint_3d_valid,
        has_mano=record.has_mano,
        has_intr=record.has_intr,
        mano_pose=_turned_pose(record, camera.rigid, is_turned=settings.turn_camera or draw is not None),
        mano_shape=record.mano_shape,
        timestamp_ms=record.timestamp_ms,
        augment_seed=seed,
    )


def unlabelled_clip(
    key: str,
    hand_bbox: Float[np.ndarray, "t 4"],
    handedness: Handedness,
    focal: Float[np.ndarray, "t 2"],
    princpt: Float[np.ndarray, "t 2"],
    timestamp_ms: Float[np.ndarray, " t"],
    *,
    has_intr: bool = True,
) -> ClipRecord:
    """The record of frames that nobody labelled, for prediction: every mask is zero but that of the intrinsics."""
    t = len(hand_bbox)
    return ClipRecord(
        key=key,
        frames=(),
        frame_format="png",
        handedness=handedness,
        data_source="",
        source_split="",
        hand_bbox=hand_bbox,
        joint_img=np.zeros((t, 21, 2)),
        joint_cam_mm=np.zeros((t, 21, 3)),
        joint_2d_valid=np.zeros((t, 21)),
        joint_3d_valid=np.zeros((t, 21)),
        has_mano=np.zeros(t),
        has_intr=np.full(t, float(has_intr)),
        mano_pose=np.zeros((t, 48)),
        mano_shape=np.zeros((t, 10)),
        timestamp_ms=timestamp_ms,
        focal=focal,
        princpt=princpt,
        intr_type="real" if has_intr else "pseudo",
    )


@dataclass(frozen=True)
class _Labels:
    """Moved labels; zero where they are not valid, so that masked numbers stay finite."""

    homography: Float[np.ndarray, "t 3 3"]
    hand_bbox: Float[np.ndarray, "t 4"]
    joint_img: Float[np.ndarray, "t 21 2"]
    joint_cam_mm: Float[np.ndarray, "t 21 3"]


def _labels(record: ClipRecord, camera: CameraChain, draw: GeometricDraw | None) -> _Labels:
    stored_focal, stored_princpt = np.asarray(record.focal, np.float64), np.asarray(record.princpt, np.float64)
    homography = camera.homography(stored_focal, stored_princpt)
    valid_2d, valid_3d = record.joint_2d_valid > 0, record.joint_3d_valid > 0
    joints_mm = np.where(valid_3d[..., None], record.joint_cam_mm, 0.0) @ camera.linear.swapaxes(-1, -2)
    box = camera.hand_bbox
    is_moved = draw is not None and draw.rigid_depth != 1.0
    if draw is not None and is_moved:
        anchor_mm, is_known = _anchor(joints_mm, valid_3d, record.has_intr > 0)
        zoom = _zoom(anchor_mm, is_known, camera, 1.0 / draw.rigid_depth)
        homography, box = zoom @ homography, geometry.warp_box(zoom, box)
        joints_mm = joints_mm + np.where(valid_3d[..., None], (draw.rigid_depth - 1.0) * anchor_mm[:, None], 0.0)
    joint_img = _moved_pixels(record.joint_img, valid_2d, homography)
    if is_moved:
        is_projected = valid_2d & valid_3d & (record.has_intr[:, None] > 0)
        projected = geometry.project(np.where(is_projected[..., None], joints_mm, 1.0), camera.focal, camera.princpt)
        joint_img = np.where(is_projected[..., None], projected, joint_img)
    if draw is not None and draw.box == "joints":
        outlines = (valid_2d.sum(-1) >= ENOUGH_JOINTS)[:, None]
        box = np.where(outlines, geometry.box_around(joint_img, valid_2d), box)
    return _Labels(homography, box, joint_img, joints_mm)


def _moved_pixels(
    joint_img: Float[np.ndarray, "t 21 2"],
    valid: Bool[np.ndarray, "t 21"],
    homography: Float[np.ndarray, "t 3 3"],
) -> Float[np.ndarray, "t 21 2"]:
    """Joints that are not valid may lie behind a turned camera; they are not divided by their depth."""
    weighted = joint_img @ homography[..., :2].swapaxes(-1, -2) + homography[..., None, :, 2]
    weight = np.where(valid, weighted[..., 2], np.inf)
    return np.asarray(weighted[..., :2] / weight[..., None])


def _anchor(
    joints_mm: Float[np.ndarray, "t 21 3"], valid: Bool[np.ndarray, "t 21"], has_intr: Bool[np.ndarray, " t"]
) -> tuple[Float[np.ndarray, "t 3"], Bool[np.ndarray, " t"]]:
    """The wrist, or the mean of the joints that are known; and whether it can be projected."""
    weights = valid.astype(np.float64)
    weights[:, 1:] *= ~valid[:, :1]
    total = weights.sum(-1)
    anchor = (weights[:, None] @ joints_mm)[:, 0] / np.maximum(total, 1.0)[:, None]
    return anchor, (total > 0) & has_intr & (anchor[:, 2] > 0)


def _zoom(
    anchor_mm: Float[np.ndarray, "t 3"], is_known: Bool[np.ndarray, " t"], camera: CameraChain, scale: float
) -> Float[np.ndarray, "t 3 3"]:
    """About the anchor's pixel; about the box's centre where there is no 3D label that could disagree."""
    depth_ray = np.where(is_known[:, None], anchor_mm, 1.0)[:, None]
    pixel = geometry.project(depth_ray, camera.focal, camera.princpt)[:, 0]
    centre = (camera.hand_bbox[:, :2] + camera.hand_bbox[:, 2:]) / 2
    return geometry.zoom_matrix(np.where(is_known[:, None], pixel, centre), np.full(len(pixel), scale))


def _detected(hand_bbox: Float[np.ndarray, "t 4"], draw: GeometricDraw) -> Float[np.ndarray, "t 4"]:
    """The box as a detector might have seen it, shifted and scaled."""
    low, high = hand_bbox[:, :2], hand_bbox[:, 2:]
    centre = (low + high) / 2 + (high - low).max(-1, keepdims=True) * draw.box_shift
    half = (high - low) * (draw.box_scale / 2)
    return np.concatenate([centre - half, centre + half], -1)


def _turned_pose(
    record: ClipRecord, rigid: Float[np.ndarray, "t 3 3"], *, is_turned: bool
) -> Float[np.ndarray, "t 48"]:
    """The pose of the mirrored hand with its root turned as the camera was."""
    pose = np.asarray(record.mano_pose, np.float64)
    rotation = rigid
    if record.handedness == "left":
        pose = geometry.mirror_axis_angles(pose)
        rotation = rigid * np.array([-1.0, 1.0, 1.0])  # rigid = rotation M
    if not is_turned:
        return pose
    root = geometry.matrix_axis_angle(rotation @ geometry.axis_angle_matrix(pose[:, :3]))
    return np.concatenate([root, pose[:, 3:]], -1)
