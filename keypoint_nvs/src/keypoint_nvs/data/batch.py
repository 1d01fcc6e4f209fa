"""What a training step gets: samples stacked as stored (`StoredBatch`), and composited on the device (`ViewBatch`)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class ViewSample:
    """A sample of any data set, ready to be stacked: a picture of a folder is one target view without an input view."""

    sample_id: str
    seed: int
    """What draws on the device start from."""
    cond_imgs: UInt8[np.ndarray, "4 h w"] | None
    target_imgs: UInt8[np.ndarray, "v 4 h w"]
    target_cam_from_world: Float32[np.ndarray, "v 4 4"] | None
    """The store's, else the rig's; None: unrelated pictures."""
    target_K: Float32[np.ndarray, "v 3 3"] | None
    """Pixels of the stored pictures."""
    cond_cam_from_world: Float32[np.ndarray, "4 4"] | None = None
    cond_K: Float32[np.ndarray, "3 3"] | None = None
    keypoints_world: Float32[np.ndarray, "j 3"] | None = None
    keypoints_visible: Bool[np.ndarray, "v1 j"] | None = None
    """Row 0: in the input view."""


@dataclass(frozen=True)
class StoredBatch:
    """Samples, stacked. What one sample of a data set has, all have."""

    sample_ids: tuple[str, ...]
    seed: Int64[Tensor, " b"]
    cond_imgs: UInt8[Tensor, "b 4 h w"] | None
    target_imgs: UInt8[Tensor, "b v 4 h w"]
    target_cam_from_world: Float[Tensor, "b v 4 4"] | None
    target_K: Float[Tensor, "b v 3 3"] | None
    cond_cam_from_world: Float[Tensor, "b 4 4"] | None
    cond_K: Float[Tensor, "b 3 3"] | None
    has_cond_camera: Bool[Tensor, " b"]
    """Samples without have zeros there."""
    keypoints_world: Float[Tensor, "b j 3"] | None
    keypoints_visible: Bool[Tensor, "b v1 j"] | None


@dataclass(frozen=True)
class ViewBatch:
    """Pictures 0..1 on the configured background, with what belongs to them."""

    stored: StoredBatch
    cond_imgs: Float[Tensor, "b 3 h w"] | None
    target_imgs: Float[Tensor, "b v 3 h w"]
    alpha: Float[Tensor, "b v h w"]
    """Of the target views, 0..1."""

    def __len__(self) -> int:
        return len(self.target_imgs)


def collate(samples: list[ViewSample]) -> StoredBatch:
    """Stack samples."""
    first = samples[0]

    def stacked(name: str) -> Tensor | None:
        values = [getattr(sample, name) for sample in samples]
        present = next((value for value in values if value is not None), None)
        if present is None:
            return None
        return torch.from_numpy(np.stack([np.zeros_like(present) if value is None else value for value in values]))

    targets = torch.from_numpy(np.stack([sample.target_imgs for sample in samples]))
    return StoredBatch(
        sample_ids=tuple(sample.sample_id for sample in samples),
        seed=torch.tensor([sample.seed for sample in samples]),
        cond_imgs=None if first.cond_imgs is None else stacked("cond_imgs"),
        target_imgs=targets,
        target_cam_from_world=stacked("target_cam_from_world"),
        target_K=stacked("target_K"),
        cond_cam_from_world=stacked("cond_cam_from_world"),
        cond_K=stacked("cond_K"),
        has_cond_camera=torch.tensor([sample.cond_cam_from_world is not None for sample in samples]),
        keypoints_world=stacked("keypoints_world"),
        keypoints_visible=stacked("keypoints_visible"),
    )
