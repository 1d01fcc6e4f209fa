"""One multi-view sample, and a batch of them: what readers return and what the network, the losses and the metrics take.

A single-view sample is a sample with one view. Cameras follow the project's convention (OpenCV axes,
pixel centres at integers); pixels refer to the input images as stored here, not to the original video.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """NumPy arrays of one sample: v view slots, j joints, c shape coefficients, h x w input pixels.

    Unknown values are zeros (identity for rotations and cameras) with their `has_` flag False.
    """

    key: str
    """Where it comes from, for messages: `file.h5[12]`."""
    session: str
    frame: int
    images: UInt8[np.ndarray, "v h w 3"]
    """RGB; zeros where `view_mask` is False."""
    view_mask: Bool[np.ndarray, " v"]
    camera_slots: Int[np.ndarray, " v"]
    """Index into the canonical camera order, -1 where there is no view."""
    K: Float[np.ndarray, "v 3 3"]
    cam_from_world: Float[np.ndarray, "v 4 4"]
    has_camera: Bool[np.ndarray, " v"]
    native_size_wh: Float[np.ndarray, "v 2"]
    """Size of the picture that was resized to w x h (the crop, where there was one), for errors in original pixels."""
    keypoints_px: Float[np.ndarray, "v j 2"]
    """x, y in input pixels; may lie outside the picture."""
    visibility: Float[np.ndarray, "v j"]
    """0 = not labelled or hidden, else the confidence (1 for ground truth)."""
    masks: Bool[np.ndarray, "v h w"]
    has_mask: Bool[np.ndarray, " v"]
    keypoints_world: Float[np.ndarray, "j 3"]
    has_keypoints_world: Bool[np.ndarray, " j"]
    rotations: Float[np.ndarray, "j 3 3"]
    """Local joint rotations, root first."""
    has_root_rotation: bool
    has_joint_rotations: bool
    betas: Float[np.ndarray, " c"]
    has_betas: bool
    translation: Float[np.ndarray, " 3"]
    has_translation: bool
    log_scales: Float[np.ndarray, "j 3"]
    has_log_scales: bool
    joint_offsets: Float[np.ndarray, "j 3"]
    has_joint_offsets: bool
    augment_seed: int = 0
    """What the draws of augmentation on the device start from; sources draw it anew for each epoch."""


@dataclass(frozen=True)
class Batch:
    """Samples stacked along a leading axis b; see `Sample` for units."""

    key: tuple[str, ...]
    session: tuple[str, ...]
    frame: Int[Tensor, " b"]
    images: UInt8[Tensor, "b v h w 3"] | Float[Tensor, "b v h w 3"]
    """uint8 as loaded; float in 0..1 after augmentation on the device."""
    view_mask: Bool[Tensor, "b v"]
    camera_slots: Int[Tensor, "b v"]
    K: Float[Tensor, "b v 3 3"]
    cam_from_world: Float[Tensor, "b v 4 4"]
    has_camera: Bool[Tensor, "b v"]
    native_size_wh: Float[Tensor, "b v 2"]
    keypoints_px: Float[Tensor, "b v j 2"]
    visibility: Float[Tensor, "b v j"]
    masks: Bool[Tensor, "b v h w"]
    has_mask: Bool[Tensor, "b v"]
    keypoints_world: Float[Tensor, "b j 3"]
    has_keypoints_world: Bool[Tensor, "b j"]
    rotations: Float[Tensor, "b j 3 3"]
    has_root_rotation: Bool[Tensor, " b"]
    has_joint_rotations: Bool[Tensor, " b"]
    betas: Float[Tensor, "b c"]
    has_betas: Bool[Tensor, " b"]
    translation: Float[Tensor, "b 3"]
    has_translation: Bool[Tensor, " b"]
    log_scales: Float[Tensor, "b j 3"]
    has_log_scales: Bool[Tensor, " b"]
    joint_offsets: Float[Tensor, "b j 3"]
    has_joint_offsets: Bool[Tensor, " b"]
    augment_seed: Int[Tensor, " b"] | None = None

    def __len__(self) -> int:
        return len(self.key)


def collate(samples: list[Sample]) -> Batch:
    """Stack samples; all must have the same number of view slots, joints, coefficients and pixels."""
    columns: dict[str, object] = {}
    for field in fields(Sample):
        values = [getattr(sample, field.name) for sample in samples]
        if isinstance(values[0], str):
            columns[field.name] = tuple(values)
        elif isinstance(values[0], np.ndarray):
            columns[field.name] = torch.from_numpy(np.stack(values))
        else:
            columns[field.name] = torch.tensor(values)
    return Batch(**columns)  # type: ignore[arg-type]
