"""One hand of InterHand2.6M in one camera: labels from the world to the camera, and the record of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from handvit.data.converters.clip_writing import box_problem, clip_key, read_picture, tight_boxes
from handvit.data.converters.interhand_files import Camera, InterHandFiles, View
from handvit.data.converters.mano_labels import absolute_pose, posed_joints_mm, rest_root_mm, turn_root
from handvit.data.converters.report import ConversionReport
from handvit.data.records import ClipRecord, Handedness
from handvit.hand import HandModel
from handvit.joints import FINGERTIPS, INTERHAND_TO_CANONICAL, WRIST

DATASET = "InterHand2.6M"
NO_WRIST = "the wrist has no valid label"
BEHIND = "a joint lies behind the camera"


@dataclass(frozen=True)
class HandViews:
    """Views in which one hand is seen, and its joints there."""

    views: Sequence[View]
    joint_cam_mm: Float[np.ndarray, "t 21 3"]
    joint_img: Float[np.ndarray, "t 21 2"]
    valid: Float[np.ndarray, "t 21"]
    hand_bbox: Float[np.ndarray, "t 4"]

    def runs(self, step: int, max_frames: int) -> Iterator["HandViews"]:
        """Cut where a frame is missing, and into at most so many frames."""
        start = 0
        for end in range(1, len(self.views) + 1):
            is_last = end == len(self.views)
            if is_last or self.views[end].frame - self.views[end - 1].frame > step or end - start == max_frames:
                yield self._cut(slice(start, end))
                start = end

    def _cut(self, rows: slice) -> "HandViews":
        return HandViews(
            self.views[rows], self.joint_cam_mm[rows], self.joint_img[rows], self.valid[rows], self.hand_bbox[rows]
        )


def find_hand_views(
    files: InterHandFiles, views: Sequence[View], camera: Camera, side: Handedness, report: ConversionReport
) -> HandViews | None:
    """None where no view is left."""
    order = np.array(INTERHAND_TO_CANONICAL) + (0 if side == "right" else 21)
    labelled = [files.joints_world_mm(view) for view in views]
    world = np.stack([points for points, _ in labelled])[:, order]
    masks = np.stack([mask * view.joint_valid for (_, mask), view in zip(labelled, views, strict=True)])[:, order]
    valid = np.logical_and(masks > 0, masks[:, [WRIST]] > 0)
    points = np.where(valid[..., None], (world - camera.position_mm) @ camera.rotation.T, 0.0)
    depth = np.where(valid & (points[..., 2] > 0), points[..., 2], 1.0)
    pixels = np.where(valid[..., None], points[..., :2] / depth[..., None] * camera.focal + camera.princpt, 0.0)
    boxes = tight_boxes(pixels, valid)
    behind = np.asarray((valid & (points[..., 2] <= 0)).any(1))
    kept = []
    for row, view in enumerate(views):
        reason = NO_WRIST if not valid[row, WRIST] else BEHIND if behind[row] else box_problem(boxes[row], view.size_wh)
        if reason is None:
            kept.append(row)
        else:
            report.skip(reason, f"{view.file_name}, {side} hand")
    if not kept:
        return None
    return HandViews([views[row] for row in kept], points[kept], pixels[kept], valid[kept].astype(float), boxes[kept])


def build_record(
    files: InterHandFiles,
    labels: HandViews,
    camera: Camera,
    side: Handedness,
    hand: HandModel | None,
    time_ms: Callable[[int], float],
    report: ConversionReport,
) -> ClipRecord:
    views, first, count = labels.views, labels.views[0], len(labels.views)
    pictures = [
        read_picture(files.folder / "images" / files.split / view.file_name, view.where, view.size_wh) for view in views
    ]
    mano = _Mano(np.zeros((count, 48)), np.zeros((count, 10)), np.zeros((count, 3)), np.zeros(count))
    if hand is not None:
        mano = _world_to_camera(files, views, camera, side, hand)
        fitted = mano.is_there > 0
        posed = posed_joints_mm(hand, mano.pose[fitted], mano.shape[fitted], mano.root_mm[fitted])
        report.measure_mano(posed, labels.joint_cam_mm[fitted], labels.valid[fitted])
    return ClipRecord(
        key=clip_key(
            files.split, f"Capture{first.capture}", first.sequence, f"cam{first.camera}", side, str(first.frame)
        ),
        frames=[data for data, _ in pictures],
        frame_format=pictures[0][1],
        handedness=side,
        data_source=DATASET,
        source_split=files.split,
        hand_bbox=labels.hand_bbox,
        joint_img=labels.joint_img,
        joint_cam_mm=labels.joint_cam_mm,
        joint_2d_valid=labels.valid,
        joint_3d_valid=labels.valid,
        has_mano=mano.is_there,
        has_intr=np.ones(count),
        mano_pose=mano.pose,
        mano_shape=mano.shape,
        timestamp_ms=np.array([time_ms(view.frame) for view in views]),
        focal=np.tile(camera.focal, (count, 1)),
        princpt=np.tile(camera.princpt, (count, 1)),
        imgs_path=[f"images/{files.split}/{view.file_name}" for view in views],
        source_index=[_source_index(view) for view in views],
        additional_desc=[_description(view, mano, row) for row, view in enumerate(views)],
        meta={"tips": list(FINGERTIPS["interhand"]), "joint_source": "regressed"},
    )


@dataclass(frozen=True)
class _Mano:
    """Absolute poses with the root in the camera frame; zeros where `is_there` is 0."""

    pose: Float[np.ndarray, "t 48"]
    shape: Float[np.ndarray, "t 10"]
    root_mm: Float[np.ndarray, "t 3"]
    is_there: Float[np.ndarray, " t"]


def _world_to_camera(
    files: InterHandFiles, views: Sequence[View], camera: Camera, side: Handedness, hand: HandModel
) -> _Mano:
    """Root: R (J_0 + trans) - R position."""
    fits = [files.mano_world(view, side) for view in views]
    nothing = (np.zeros(48), np.zeros(10), np.zeros(3))
    pose, shape, trans_m = (np.stack(column) for column in zip(*(fit or nothing for fit in fits), strict=True))
    is_there = np.array([fit is not None for fit in fits])
    pose = turn_root(absolute_pose(pose, hand), camera.rotation)
    root_mm = (rest_root_mm(hand, shape) + trans_m * 1000.0 - camera.position_mm) @ camera.rotation.T
    known = is_there[:, None]
    return _Mano(np.where(known, pose, 0.0), shape, np.where(known, root_mm, 0.0), is_there.astype(float))


def _source_index(view: View) -> dict[str, str | int]:
    return {
        "image_id": view.image_id,
        "capture": view.capture,
        "subject": view.subject,
        "sequence": view.sequence,
        "camera": view.camera,
        "frame": view.frame,
    }


def _description(view: View, mano: _Mano, row: int) -> dict[str, object]:
    """`mano_root_mm`: where the fitted hand's root joint lies, which is not quite the labelled wrist."""
    description: dict[str, object] = {"hand_type": view.hand_type, "hand_type_valid": view.hand_type_is_valid}
    if mano.is_there[row]:
        description["mano_root_mm"] = mano.root_mm[row].tolist()
    return description
