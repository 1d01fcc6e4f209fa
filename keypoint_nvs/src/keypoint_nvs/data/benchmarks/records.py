"""What a benchmark is: two sets of pictures with points, and how errors are counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from torch import Tensor

from keypoint_nvs.scaling import Background, composite
from posecore.errors import InputError

Protocol = Literal["inter_ocular", "visible", "summed_px256", "correct_share", "orientation_free_px128"]


@dataclass(frozen=True)
class PictureSet:
    """Pictures, read when they are asked for, and their points."""

    sample_ids: tuple[str, ...]
    points_xy: Float64[np.ndarray, "n j 2"]
    """0..1 of the picture's width and height, from edge to edge; without meaning where not visible."""
    visible: Bool[np.ndarray, "n j"]
    read: Callable[[int], UInt8[np.ndarray, "4 h w"]]
    """Red, green, blue and straight alpha of one picture."""
    is_signed: bool = False
    """Pictures are handed out in -1..1 (`legacy_deepfashion`)."""

    def __post_init__(self) -> None:
        if not self.points_xy.shape[:2] == self.visible.shape == (len(self), self.points_xy.shape[1]):
            raise ValueError(f"{len(self)} pictures, {self.points_xy.shape} points, {self.visible.shape} visible")
        broken = np.argwhere(self.visible & ~np.isfinite(self.points_xy).all(-1))
        if len(broken):
            picture, point = broken[0]
            raise InputError(f"{self.sample_ids[picture]}: point {point} is visible but no number")

    def __len__(self) -> int:
        return len(self.sample_ids)

    def images(self, indices: Sequence[int], side: int, background: Background) -> Float32[Tensor, "b 3 {side} {side}"]:
        """Pictures 0..1 stretched to a square (as upstream does), bilinearly and antialiased."""
        pictures = [_stretched(composite(self.read(index), background), side) for index in indices]
        images = torch.stack(pictures)
        return 2 * images - 1 if self.is_signed else images

    def part(self, indices: Sequence[int]) -> "PictureSet":
        """Some of the pictures."""
        chosen = list(indices)
        return replace(
            self,
            sample_ids=tuple(self.sample_ids[i] for i in chosen),
            points_xy=self.points_xy[chosen],
            visible=self.visible[chosen],
            read=lambda index: self.read(chosen[index]),
        )


@dataclass(frozen=True)
class Benchmark:
    """Regression is fitted on `train` and measured on `test`."""

    name: str
    protocol: Protocol
    train: PictureSet
    test: PictureSet
    permutation: tuple[int, ...] | None = None
    """Left and right exchanged: point i becomes point permutation[i]. Of `orientation_free_px128` only."""


def _stretched(image: Float[np.ndarray, "3 h w"], side: int) -> Float32[Tensor, "3 side side"]:
    pixels = torch.from_numpy(np.ascontiguousarray(image))[None]
    if pixels.shape[-2:] != (side, side):
        pixels = torch.nn.functional.interpolate(
            pixels, (side, side), mode="bilinear", align_corners=False, antialias=True
        )
    return pixels[0]
