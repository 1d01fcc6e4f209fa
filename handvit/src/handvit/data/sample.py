"""A clip on its way from the shard to the network, and a batch of them.

A loader's sample holds, for each frame, the part of the picture that the patch will need, and labels in the network's
frame: left hands mirrored, the camera turned and augmented. The patch itself is cut on the device (`data.patches`).
"""

from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from handvit.model.prediction import HandInput


@dataclass(frozen=True)
class Sample:
    """t frames of one hand, all alike right hands. Units as in `data.records`; see there."""

    key: str
    """Shard, key and first frame, for messages."""
    data_source: str
    is_left: bool
    """The hand was mirrored."""
    regions: tuple[UInt8[np.ndarray, "_ _ 3"], ...]
    """Parts of the pictures, RGB; sizes differ."""
    patch_from_region: Float[np.ndarray, "t 3 3"]
    """Homography from pixels of the region to pixels of the patch (mirroring, turning, augmentation, crop: all of it)."""
    camera_from_network: Float[np.ndarray, "t 3 3"]
    """Takes points of the network's camera frame back to the stored camera's; orthonormal, det -1 where mirrored."""
    patch_bbox: Float[np.ndarray, "t 4"]
    hand_bbox: Float[np.ndarray, "t 4"]
    focal: Float[np.ndarray, "t 2"]
    princpt: Float[np.ndarray, "t 2"]
    joint_img: Float[np.ndarray, "t 21 2"]
    joint_patch: Float[np.ndarray, "t 21 2"]
    """Patch pixels."""
    joint_cam_mm: Float[np.ndarray, "t 21 3"]
    joint_2d_valid: Float[np.ndarray, "t 21"]
    joint_3d_valid: Float[np.ndarray, "t 21"]
    has_mano: Float[np.ndarray, " t"]
    has_intr: Float[np.ndarray, " t"]
    mano_pose: Float[np.ndarray, "t 48"]
    mano_shape: Float[np.ndarray, "t 10"]
    timestamp_ms: Float[np.ndarray, " t"]
    augment_seed: int = 0
    """What the pixel draws on the device start from."""
    tokens: Float[np.ndarray, "t d"] | None = None
    """What stage 1 makes of the frames, where it is known already; `regions` then have no pixels."""


def changed(sample: Sample, **values: Any) -> Sample:
    """The sample with other values in some fields: `dataclasses.replace` in a tenth of its 16 us."""
    copied = object.__new__(Sample)
    copied.__dict__.update(sample.__dict__, **values)
    return copied


@dataclass(frozen=True)
class Batch:
    """Samples stacked along b. `regions` are padded with zeros, at their right and bottom, to the largest."""

    key: tuple[str, ...]
    data_source: tuple[str, ...]
    is_left: Bool[Tensor, " b"]
    regions: UInt8[Tensor, "b t 3 h w"]
    patch_from_region: Float[Tensor, "b t 3 3"]
    camera_from_network: Float[Tensor, "b t 3 3"]
    patch_bbox: Float[Tensor, "b t 4"]
    hand_bbox: Float[Tensor, "b t 4"]
    focal: Float[Tensor, "b t 2"]
    princpt: Float[Tensor, "b t 2"]
    joint_img: Float[Tensor, "b t 21 2"]
    joint_patch: Float[Tensor, "b t 21 2"]
    joint_cam_mm: Float[Tensor, "b t 21 3"]
    joint_2d_valid: Float[Tensor, "b t 21"]
    joint_3d_valid: Float[Tensor, "b t 21"]
    has_mano: Float[Tensor, "b t"]
    has_intr: Float[Tensor, "b t"]
    mano_pose: Float[Tensor, "b t 48"]
    mano_shape: Float[Tensor, "b t 10"]
    timestamp_ms: Float[Tensor, "b t"]
    augment_seed: Int[Tensor, " b"]
    patches: Float[Tensor, "b t 3 p p"] | None = None
    """RGB 0..1; `data.patches` fills it on the device."""
    tokens: Float[Tensor, "b t d"] | None = None
    """What stage 1 makes of the frames, where it is known already; there are no patches then."""

    def __len__(self) -> int:
        return len(self.key)

    @property
    def joint_rel_mm(self) -> Float[Tensor, "b t 21 3"]:
        """Joints minus the wrist."""
        return self.joint_cam_mm - self.joint_cam_mm[..., :1, :]

    def network_input(self) -> HandInput:
        patches = self.patches
        if patches is None and self.tokens is not None:
            patches = self.focal.new_zeros(*self.focal.shape[:2], 3, 0, 0)
        if patches is None:
            raise ValueError("the batch has no patches yet: data.patches makes them on the device")
        return HandInput(patches, self.patch_bbox, self.hand_bbox, self.focal, self.princpt, self.timestamp_ms)


def collate(samples: list[Sample]) -> Batch:
    """Stack clips of the same length."""
    columns: dict[str, object] = {}
    for field in fields(Sample):
        values = [getattr(sample, field.name) for sample in samples]
        if field.name == "regions":
            columns[field.name] = _padded(values)
        elif values[0] is None:
            columns[field.name] = None
        elif isinstance(values[0], str):
            columns[field.name] = tuple(values)
        elif isinstance(values[0], np.ndarray):
            columns[field.name] = torch.from_numpy(np.stack(values).astype(np.float32))
        else:
            columns[field.name] = torch.tensor(values)
    return Batch(**columns)  # type: ignore[arg-type]


def _padded(clips: list[tuple[np.ndarray, ...]]) -> UInt8[Tensor, "b t 3 h w"]:
    sizes = {region.shape[:2] for clip in clips for region in clip}
    height, width = (max(lengths) for lengths in zip(*sizes, strict=True))
    make = np.empty if len(sizes) == 1 else np.zeros
    stack = make((len(clips), len(clips[0]), 3, height, width), np.uint8)
    for into, clip in zip(stack, clips, strict=True):
        for target, region in zip(into, clip, strict=True):
            if region.size:
                cv2.split(region, list(target[:, : region.shape[0], : region.shape[1]]))
    return torch.from_numpy(stack)
