"""A clip of a shard as a person wants to see it: its frames with boxes, joints and the labelled mesh."""

import numpy as np
import torch

from handvit.data.records import ClipRecord
from handvit.draw.enlarge import enlarged, enlarged_K, enlarged_points
from handvit.draw.meshes import draw_mesh_outline
from handvit.draw.sheets import clip_strip
from handvit.draw.skeletons import draw_box, draw_hand
from handvit.hand import HandModel, mirror_axis_angle, mirror_points, pose_to_rotations
from posecore.data.images import decode_image
from posecore.draw import OUTLINE, Picture
from posecore.rendering import Backend

SIDE = 256


def draw_record(
    record: ClipRecord,
    hand: HandModel | None,
    *,
    max_frames: int = 6,
    numbered: bool = False,
    side: int = SIDE,
    backend: Backend = "warp",
) -> Picture:
    """A row of frames, evenly chosen, with box, valid joints and the outline of the mesh that the labels give.

    Args:
        hand: A right hand; None, or a frame without MANO, intrinsics or a valid wrist: no mesh.
        side: Width of each frame in the sheet, pixels.

    Raises:
        InputError: A frame is no picture.
    """
    chosen = np.unique(np.linspace(0, len(record) - 1, min(max_frames, len(record))).round().astype(int))
    meshes = None if hand is None else labelled_meshes_mm(record, hand)
    pictures, captions = [], []
    for frame in chosen.tolist():
        image = decode_image(record.frames[frame], f"{record.key}: frame {frame}")
        factor = side / image.shape[1]
        canvas = enlarged(image, side)
        has_mesh = record.has_mano[frame] > 0 and record.has_intr[frame] > 0 and record.joint_3d_valid[frame, 0] > 0
        if hand is not None and meshes is not None and has_mesh:
            K = enlarged_K(_intrinsics(record, frame), factor)
            canvas = draw_mesh_outline(canvas, meshes[frame], hand.faces.cpu().numpy(), K, OUTLINE, backend=backend)
        canvas = draw_box(canvas, enlarged_points(record.hand_bbox[frame].reshape(2, 2), factor).ravel())
        joints = enlarged_points(record.joint_img[frame].astype(float), factor)
        pictures.append(draw_hand(canvas, joints, record.joint_2d_valid[frame] > 0, numbered=numbered))
        captions.append(f"{record.key}[{frame}] {record.handedness} {record.timestamp_ms[frame]:.0f} ms")
    return clip_strip(pictures, captions)


def labelled_meshes_mm(record: ClipRecord, hand: HandModel) -> np.ndarray:
    """The labels' mesh of each frame in the camera's frame, its wrist on the labelled wrist: (t, 778, 3)."""
    dtype, device = hand.dtype, hand.faces.device
    pose = torch.from_numpy(np.asarray(record.mano_pose)).to(device, dtype)
    betas = torch.from_numpy(np.asarray(record.mano_shape)).to(device, dtype)
    is_left = record.handedness == "left"
    with torch.no_grad():
        posed = hand(pose_to_rotations(mirror_axis_angle(pose) if is_left else pose), betas)
        assert posed.vertices_m is not None
        from_wrist = posed.vertices_m - posed.joints_m[:, :1]
        from_wrist = mirror_points(from_wrist) if is_left else from_wrist
    return np.asarray(1000 * from_wrist.double().cpu().numpy() + record.joint_cam_mm[:, :1])


def _intrinsics(record: ClipRecord, frame: int) -> np.ndarray:
    (fx, fy), (cx, cy) = record.focal[frame], record.princpt[frame]
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)
