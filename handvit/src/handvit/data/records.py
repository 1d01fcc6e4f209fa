"""One clip of one hand as it lies in a shard: every converter writes this, every reader returns it.

Convention: camera frame OpenCV (x right, y down, z forward); lengths in millimetres; pixels of the stored image, pixel
centres at integers; boxes (x1, y1, x2, y2), continuous, unclipped; canonical 21 joints (`handvit.joints`).
Axis-angles are absolute (a flat hand is 0), the root's in the camera frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

Handedness = Literal["right", "left"]
IntrinsicsType = Literal["real", "fixed_virtual", "pseudo", "none"]
FrameFormat = Literal["webp", "jpg", "png"]

FORMAT = 1
"""Of `meta.json`."""
IMPLAUSIBLE_REPROJECTION_PX = 2.0
"""A sample whose 3D joints miss its 2D joints by more than this is refused."""


@dataclass(frozen=True)
class ClipRecord:
    """T >= 1 frames of one hand. What is not known is zero, under a zero mask."""

    key: str
    """Without dots and slashes."""
    frames: Sequence[bytes]
    """Encoded pictures, one a frame."""
    frame_format: FrameFormat
    handedness: Handedness
    data_source: str
    """The dataset: InterHand2.6M, DexYCB, HO3D_v3, HOT3D, FreiHAND, ..."""
    source_split: str
    hand_bbox: Float[np.ndarray, "t 4"]
    joint_img: Float[np.ndarray, "t 21 2"]
    joint_cam_mm: Float[np.ndarray, "t 21 3"]
    joint_2d_valid: Float[np.ndarray, "t 21"]
    joint_3d_valid: Float[np.ndarray, "t 21"]
    has_mano: Float[np.ndarray, " t"]
    has_intr: Float[np.ndarray, " t"]
    mano_pose: Float[np.ndarray, "t 48"]
    """Axis-angle, root in the camera frame, then 15 joints in MANO's order."""
    mano_shape: Float[np.ndarray, "t 10"]
    timestamp_ms: Float[np.ndarray, " t"]
    focal: Float[np.ndarray, "t 2"]
    princpt: Float[np.ndarray, "t 2"]
    intr_type: IntrinsicsType = "real"
    imgs_path: Sequence[str] = ()
    """Relative paths in the raw dataset."""
    source_index: Sequence[Mapping[str, Any]] = ()
    """Ids in the raw dataset, one a frame."""
    additional_desc: Sequence[Mapping[str, Any]] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Format version, pose_mean ("absolute"), fingertip ids, joint source, crop matrix if pre-cropped."""

    def __len__(self) -> int:
        return len(self.frames)
