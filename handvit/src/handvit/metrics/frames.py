"""Predicted hands beside their labels, one row a frame: what metrics are computed from, directly or out of a file."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handvit.data.sample import Batch
from handvit.hand import HandModel
from handvit.joints import WRIST
from handvit.posing import MM, PosedHands
from posecore.rotations import axis_angle_to_matrix


@dataclass(frozen=True)
class Frames:
    """n frames in the stored camera's frame (left hands mirrored back), mm, float32 as networks give them."""

    key: tuple[str, ...]
    """Shard, key and first frame of the clip."""
    sequence: tuple[str, ...]
    """Frames of one hand in one video have the same."""
    image: tuple[str, ...]
    """Which picture it is, the same for both hands in it; empty: not known."""
    source_index: tuple[str, ...]
    """Ids in the raw dataset as JSON text; empty: not known."""
    data_source: tuple[str, ...]
    is_left: Bool[np.ndarray, " n"]
    timestamp_ms: Float[np.ndarray, " n"]
    joint_cam_mm: Float[np.ndarray, "n 21 3"]
    true_joint_cam_mm: Float[np.ndarray, "n 21 3"]
    joint_3d_valid: Bool[np.ndarray, "n 21"]
    joint_patch: Float[np.ndarray, "n 21 2"]
    """Patch px of the network's image; infinite for joints behind its camera."""
    true_joint_patch: Float[np.ndarray, "n 21 2"]
    joint_2d_valid: Bool[np.ndarray, "n 21"]
    """The joint has a 2D label, and the frame a camera to project with."""
    hand_size_mm: Float[np.ndarray, " n"]
    size_valid: Bool[np.ndarray, " n"]
    has_mano: Bool[np.ndarray, " n"]
    """There is a true mesh."""
    vertices_mm: Float[np.ndarray, "n 778 3"] | None = None
    true_vertices_mm: Float[np.ndarray, "n 778 3"] | None = None

    def __len__(self) -> int:
        return len(self.key)


@torch.no_grad()
def frames_of(
    batch: Batch,
    posed: PosedHands,
    hand: HandModel,
    *,
    sequence: Sequence[str] | None = None,
    image: Sequence[str] = (),
    source_index: Sequence[str] = (),
) -> Frames:
    """Rows of a batch and what was predicted for it, the frames of a clip one after another.

    Args:
        posed: For the same frames as the batch.
        sequence: Name of each clip's video; None: its key without the first frame's number.
        image: Name of each row's picture.
        source_index: Ids of each row in the raw dataset, as JSON text.

    Raises:
        ValueError: Other clips and frames than in the batch, or a batch without patches.
    """
    count = tuple(batch.timestamp_ms.shape)
    if tuple(posed.root_mm.shape[:2]) != count:
        raise ValueError(f"predicted (clips, frames) {tuple(posed.root_mm.shape[:2])}, labelled {count}")
    t = count[1]
    names = [key.rpartition("[")[0] or key for key in batch.key] if sequence is None else list(sequence)
    meshes = _meshes(batch, posed, hand)
    return Frames(
        key=_repeated(batch.key, t),
        sequence=_repeated(names, t),
        image=tuple(image) if image else ("",) * (count[0] * t),
        source_index=tuple(source_index) if source_index else ("",) * (count[0] * t),
        data_source=_repeated(batch.data_source, t),
        is_left=_rows(batch.is_left[:, None].expand(count)),
        timestamp_ms=_rows(batch.timestamp_ms),
        joint_cam_mm=_rows(_stored(batch, posed.joint_cam_mm)),
        true_joint_cam_mm=_rows(_stored(batch, batch.joint_cam_mm)),
        joint_3d_valid=_rows(batch.joint_3d_valid > 0),
        joint_patch=_rows(_patch_pixels(batch, posed.joint_cam_mm)),
        true_joint_patch=_rows(batch.joint_patch),
        joint_2d_valid=_rows((batch.joint_2d_valid > 0) & (batch.focal > 0).all(-1)[..., None]),
        hand_size_mm=_rows(posed.hand_size_mm),
        size_valid=_rows(posed.size_valid),
        has_mano=_rows((batch.has_mano > 0) & (batch.joint_3d_valid[..., WRIST] > 0)),
        **meshes,
    )


def concatenate_frames(parts: Sequence[Frames]) -> Frames:
    """Join rows; meshes are kept if all parts have them.

    Raises:
        ValueError: Some parts have meshes and some have not, or there are none.
    """
    return Frames(**joined_columns(parts))


def joined_columns(parts: Sequence[Any]) -> dict[str, Any]:
    """Columns of dataclasses of equal type, one after another: tuples, arrays, or None in all."""
    if not parts:
        raise ValueError("there are no rows to join")
    columns: dict[str, Any] = {}
    for field in fields(parts[0]):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], tuple):
            columns[field.name] = tuple(item for value in values for item in value)
        elif any(value is None for value in values):
            if not all(value is None for value in values):
                raise ValueError(f"{field.name}: some parts have it and some have not")
            columns[field.name] = None
        else:
            columns[field.name] = np.concatenate(values)
    return columns


def _meshes(batch: Batch, posed: PosedHands, hand: HandModel) -> dict[str, np.ndarray]:
    if posed.vertices_cam_mm is None:
        return {}
    known = (batch.has_mano > 0)[..., None]
    pose = torch.where(known, batch.mano_pose, 0).reshape(*known.shape[:-1], 16, 3).to(hand.dtype)
    truth = hand(axis_angle_to_matrix(pose), torch.where(known, batch.mano_shape, 0).to(hand.dtype))
    assert truth.vertices_m is not None
    wrist = batch.joint_cam_mm[..., WRIST : WRIST + 1, :]
    vertices = (truth.vertices_m - truth.joints_m[..., WRIST : WRIST + 1, :]) * MM + wrist
    return {
        "vertices_mm": _rows(_stored(batch, posed.vertices_cam_mm)),
        "true_vertices_mm": _rows(_stored(batch, vertices)),
    }


def _stored(batch: Batch, points_mm: Float[Tensor, "b t n 3"]) -> Float[Tensor, "b t n 3"]:
    """From the network's camera frame to the stored one."""
    moved: Tensor = points_mm @ batch.camera_from_network.to(points_mm).mT
    return moved


def _patch_pixels(batch: Batch, joints_mm: Float[Tensor, "b t 21 3"]) -> Float[Tensor, "b t 21 2"]:
    if batch.patches is None:
        raise ValueError("the batch has no patches yet: data.patches makes them on the device")
    depth = joints_mm[..., 2:]
    pixels = (
        joints_mm[..., :2] / torch.where(depth > 0, depth, 1) * batch.focal[..., None, :] + batch.princpt[..., None, :]
    )
    corner, opposite = batch.patch_bbox[..., None, :2], batch.patch_bbox[..., None, 2:]
    inside = (pixels - corner) * (batch.patches.shape[-1] / (opposite - corner)) - 0.5
    return torch.where(depth > 0, inside, torch.inf)


def _rows(values: Tensor) -> Any:
    flat = values.detach().flatten(0, 1).cpu()
    return flat.numpy() if flat.dtype == torch.bool else flat.float().numpy()


def _repeated(names: Sequence[str], t: int) -> tuple[str, ...]:
    return tuple(name for name in names for _ in range(t))
