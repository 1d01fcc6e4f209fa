"""A query crop with its group of templates, and batches of these."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from vpog.labels.records import FlowLabels


@dataclass(frozen=True)
class Instance:
    """Which object of which picture a sample shows, and what metrics need to know of it."""

    dataset: str
    scene_id: int
    image_id: int
    gt_index: int
    obj_id: int
    visib_fract: float
    diameter_mm: float


@dataclass(frozen=True)
class Sample:
    """One query (index 0) and its s templates, all cut to squares of the same size."""

    images: UInt8[np.ndarray, "s1 3 h w"]
    masks: Bool[np.ndarray, "s1 h w"]
    """Visible pixels of the object in the query; the silhouette of each template."""
    depth_mm: Float[np.ndarray, "s1 h w"]
    """Of the query: 0 outside the visible mask. All zero where the data have no depth."""
    K: Float[np.ndarray, "s1 3 3"]
    """Of the crops."""
    cam_from_obj_mm: Float[np.ndarray, "s1 4 4"]
    d_ref: Float[np.ndarray, "3"]
    """Reference direction of the group: unit vector from the object to the camera, in the object's frame."""
    template_indices: Int64[np.ndarray, " s"]
    template_types: Int64[np.ndarray, " s"]
    """0: near the query's direction, 1: far from it."""
    crop_from_image: Float[np.ndarray, "3 3"]
    """Of the query: pixels of the crop from pixels of the picture."""
    K_image: Float[np.ndarray, "3 3"]
    instance: Instance
    seed: int
    """What draws on the device start from."""


@dataclass(frozen=True)
class PoseBatch:
    """Samples, stacked. Templates of one batch are as many for each sample."""

    images: UInt8[Tensor, "b s1 3 h w"]
    masks: Bool[Tensor, "b s1 h w"]
    depth_mm: Float[Tensor, "b s1 h w"]
    K: Float[Tensor, "b s1 3 3"]
    cam_from_obj_mm: Float[Tensor, "b s1 4 4"]
    d_ref: Float[Tensor, "b 3"]
    template_indices: Int64[Tensor, "b s"]
    template_types: Int64[Tensor, "b s"]
    crop_from_image: Float[Tensor, "b 3 3"]
    K_image: Float[Tensor, "b 3 3"]
    diameter_mm: Float[Tensor, " b"]
    seed: Int64[Tensor, " b"]
    instances: tuple[Instance, ...]
    labels: FlowLabels | None = None
    """Computed on the device, from depth, masks and poses."""


def collate(samples: list[Sample]) -> PoseBatch:
    """Stack samples; numbers become float32."""
    columns: dict[str, Any] = {}
    for field in fields(Sample):
        values = [getattr(sample, field.name) for sample in samples]
        if field.name == "instance":
            columns["instances"] = tuple(values)
        elif isinstance(values[0], np.ndarray):
            stacked = torch.from_numpy(np.stack(values))
            columns[field.name] = stacked.float() if stacked.is_floating_point() else stacked
        else:
            columns[field.name] = torch.tensor(values)
    columns["diameter_mm"] = torch.tensor([sample.instance.diameter_mm for sample in samples])
    return PoseBatch(**columns)
