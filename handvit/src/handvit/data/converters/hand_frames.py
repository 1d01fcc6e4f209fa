"""Frames of one hand and how they become clips: runs of consecutive frames, cut where a clip would get too large."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from handvit.data.converters.clip_writing import clip_key, tight_boxes
from handvit.data.records import FORMAT, ClipRecord, FrameFormat, Handedness

MAX_CLIP_BYTES = 96 << 20
"""Of pictures: a clip is held in memory, and the last one of a shard must not carry it past 1 GB."""


@dataclass(frozen=True)
class HandFrame:
    """A hand in a picture. Units and frames as in `records`; a missing label is None or masked."""

    number: int
    """In its sequence: frames of a clip follow each other without a gap."""
    picture: bytes
    picture_format: FrameFormat
    path: str
    """Of the picture in the raw dataset."""
    focal: Float[np.ndarray, "2"]
    princpt: Float[np.ndarray, "2"]
    joint_img: Float[np.ndarray, "21 2"]
    joint_cam_mm: Float[np.ndarray, "21 3"]
    joint_2d_valid: Float[np.ndarray, "21"]
    joint_3d_valid: Float[np.ndarray, "21"]
    timestamp_ms: float
    mano_pose: Float[np.ndarray, "48"] | None = None
    mano_shape: Float[np.ndarray, "10"] | None = None
    hand_bbox: Float[np.ndarray, "4"] | None = None
    """None: the tight box of the valid 2D joints."""
    source_index: Mapping[str, Any] = field(default_factory=dict)
    additional_desc: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """What all frames of a clip have in common."""

    data_source: str
    source_split: str
    handedness: Handedness
    tips: Sequence[int]
    """Vertex ids of the fingertips among the labelled joints."""
    key_parts: Sequence[str]
    """The key begins with them; the first frame's number follows."""


def runs(frames: Iterable[HandFrame], max_bytes: int = MAX_CLIP_BYTES) -> Iterator[list[HandFrame]]:
    """Split frames, which come in order, where a number is left out or a clip would hold more bytes of pictures."""
    run: list[HandFrame] = []
    size = 0
    for frame in frames:
        if run and (frame.number != run[-1].number + 1 or size + len(frame.picture) > max_bytes):
            yield run
            run, size = [], 0
        run.append(frame)
        size += len(frame.picture)
    if run:
        yield run


def join_frames(frames: Sequence[HandFrame], origin: Origin) -> ClipRecord:
    """One clip of these frames."""
    joint_img, valid = _stack(frames, "joint_img"), _stack(frames, "joint_2d_valid")
    tight = tight_boxes(joint_img, valid)
    boxes = [box if frame.hand_bbox is None else frame.hand_bbox for frame, box in zip(frames, tight, strict=True)]
    has_mano = [frame.mano_pose is not None and frame.mano_shape is not None for frame in frames]
    return ClipRecord(
        key=clip_key(*origin.key_parts, f"{frames[0].number:06d}"),
        frames=[frame.picture for frame in frames],
        frame_format=frames[0].picture_format,
        handedness=origin.handedness,
        data_source=origin.data_source,
        source_split=origin.source_split,
        hand_bbox=np.stack(boxes).astype(np.float32),
        joint_img=joint_img,
        joint_cam_mm=_stack(frames, "joint_cam_mm"),
        joint_2d_valid=valid,
        joint_3d_valid=_stack(frames, "joint_3d_valid"),
        has_mano=np.array(has_mano, np.float32),
        has_intr=np.ones(len(frames), np.float32),
        mano_pose=_labels([frame.mano_pose for frame in frames], has_mano, 48),
        mano_shape=_labels([frame.mano_shape for frame in frames], has_mano, 10),
        timestamp_ms=np.array([frame.timestamp_ms for frame in frames], np.float32),
        focal=_stack(frames, "focal"),
        princpt=_stack(frames, "princpt"),
        intr_type="real",
        imgs_path=[frame.path for frame in frames],
        source_index=[frame.source_index for frame in frames],
        additional_desc=[frame.additional_desc for frame in frames],
        meta={"version": FORMAT, "pose_mean": "absolute", "tips": list(origin.tips), "joint_source": "kinematic"},
    )


def _stack(frames: Sequence[HandFrame], name: str) -> Float[np.ndarray, "t ..."]:
    return np.stack([getattr(frame, name) for frame in frames]).astype(np.float32)


def _labels(
    values: Sequence[Float[np.ndarray, " n"] | None], known: Sequence[bool], size: int
) -> Float[np.ndarray, "t n"]:
    rows = [value if has else None for value, has in zip(values, known, strict=True)]
    return np.stack([np.zeros(size) if row is None else row for row in rows]).astype(np.float32)
