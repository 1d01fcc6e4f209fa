"""Loss terms: every one a named function; weighed in one place."""

from keypoint_nvs.losses.denoising import denoising
from keypoint_nvs.losses.equivariance import equivariance
from keypoint_nvs.losses.foreground import foreground
from keypoint_nvs.losses.multiview import multiview_heatmap, multiview_point
from keypoint_nvs.losses.sharpening import sharpening
from keypoint_nvs.losses.spread import spread
from keypoint_nvs.losses.temporal import temporal

__all__ = [
    "denoising",
    "equivariance",
    "foreground",
    "multiview_heatmap",
    "multiview_point",
    "sharpening",
    "spread",
    "temporal",
]
