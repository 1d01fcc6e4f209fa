"""Changes of the patches' pixels on the device: one draw a clip, shared by its frames, from the clip's own seed.

Order: color jitter (brightness, contrast, saturation, hue), sharpness, equalize, Gaussian blur, motion blur, Gaussian
noise, erasing; each only where `config.augmentation` switches it on, each clip with its own chance. Values stay in
0..1. Every number is a hash of the clip's seed, the operation and a counter, so a clip looks the same in any batch, on
any number of devices, and nothing waits for the GPU.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from kornia import enhance, filters
from torch import Tensor

from handvit.config.augmentation import (
    OPERATIONS,
    AugmentationConfig,
    ColorJitter,
    GaussianBlur,
    GaussianNoise,
    MotionBlur,
    RandomErasing,
    Sharpness,
)
from handvit.data.sample import Batch
from posecore.data.counter_random import normals, uniforms

Patches = Float[Tensor, "b t 3 p p"]
Seeds = Int[Tensor, " b"]


class PixelAugmenter:
    """Applies `augmentation.pixels` to batches that have their patches, on the batch's device."""

    def __init__(self, config: AugmentationConfig) -> None:
        self.operations = config.pixels.operations() if config.enabled else {}

    def __call__(self, batch: Batch) -> Batch:
        """Raises ValueError where the batch has no patches yet."""
        if batch.patches is None:
            raise ValueError("the batch has no patches yet: data.patches makes them before pixels are augmented")
        seeds = batch.augment_seed.to(batch.patches.device)
        return replace(batch, patches=self.augment(batch.patches, seeds))

    def augment(self, patches: Patches, seeds: Seeds) -> Patches:
        """The patches of clips with these seeds, 0..1."""
        for stream, name in enumerate(OPERATIONS):
            if (settings := self.operations.get(name)) is None:
                continue
            numbers = uniforms(seeds, 2 * stream, 6)
            changed = _APPLY[name](patches, settings, list(numbers[:, 1:].unbind(1)), seeds, 2 * stream + 1)
            chosen = numbers[:, 0] < settings.p
            patches = changed.where(chosen[:, None, None, None, None], patches)
        return patches


def _color_jitter(patches: Patches, s: ColorJitter, draws: list[Tensor], *_: Any) -> Patches:
    brightness, contrast, saturation, hue, _spare = _by_frame(patches, draws)
    flat: Tensor = patches.flatten(0, 1)
    if s.brightness > 0:
        flat = enhance.adjust_brightness_accumulative(flat, _around_one(brightness, s.brightness))
    if s.contrast > 0:
        flat = enhance.adjust_contrast_with_mean_subtraction(flat, _around_one(contrast, s.contrast))
    if s.saturation > 0:
        flat = enhance.adjust_saturation_with_gray_subtraction(flat, _around_one(saturation, s.saturation))
    if s.hue > 0:
        flat = enhance.adjust_hue(flat, (2 * hue - 1) * s.hue * 2 * math.pi).clamp(0, 1)
    return flat.reshape(patches.shape)


def _sharpness(patches: Patches, s: Sharpness, draws: list[Tensor], *_: Any) -> Patches:
    factor, *_rest = _by_frame(patches, draws)
    flat: Tensor = enhance.sharpness(patches.flatten(0, 1), _around_one(factor, s.strength))
    return flat.clamp(0, 1).reshape(patches.shape)


def _equalize(patches: Patches, *_: Any) -> Patches:
    flat: Tensor = enhance.equalize(patches.flatten(0, 1))
    return flat.reshape(patches.shape)


def _gaussian_blur(patches: Patches, s: GaussianBlur, draws: list[Tensor], *_: Any) -> Patches:
    width, *_rest = _by_frame(patches, draws)
    low, high = s.sigma
    sigma = (low + (high - low) * width)[:, None].expand(-1, 2)
    flat: Tensor = filters.gaussian_blur2d(patches.flatten(0, 1), (s.kernel_size, s.kernel_size), sigma)
    return flat.clamp(0, 1).reshape(patches.shape)


def _motion_blur(patches: Patches, s: MotionBlur, draws: list[Tensor], *_: Any) -> Patches:
    angle, direction, *_rest = _by_frame(patches, draws)
    flat: Tensor = filters.motion_blur(
        patches.flatten(0, 1), s.kernel_size, (2 * angle - 1) * s.angle_deg, (2 * direction - 1) * s.direction
    )
    return flat.clamp(0, 1).reshape(patches.shape)


def _gaussian_noise(patches: Patches, s: GaussianNoise, _: list[Tensor], seeds: Seeds, stream: int) -> Patches:
    shape = patches.shape[2:]
    noise = normals(seeds, stream, math.prod(shape)).reshape(-1, 1, *shape)
    return (patches + s.std * noise).clamp(0, 1)


def _random_erasing(patches: Patches, s: RandomErasing, draws: list[Tensor], *_: Any) -> Patches:
    area, aspect, y, x, _rest = draws
    share = s.area[0] + (s.area[1] - s.area[0]) * area
    ratio = s.aspect[0] * (s.aspect[1] / s.aspect[0]) ** aspect
    tall, wide = (share * ratio).sqrt().clamp(max=1), (share / ratio).sqrt().clamp(max=1)
    side = patches.shape[-1]
    rows, columns = _between(y * (1 - tall), tall, side), _between(x * (1 - wide), wide, side)
    erased = rows[:, :, None] & columns[:, None, :]
    return patches.masked_fill(erased[:, None, None], 0.0)


_APPLY: dict[str, Callable[..., Patches]] = {
    "color_jitter": _color_jitter,
    "sharpness": _sharpness,
    "equalize": _equalize,
    "gaussian_blur": _gaussian_blur,
    "motion_blur": _motion_blur,
    "gaussian_noise": _gaussian_noise,
    "random_erasing": _random_erasing,
}


def _by_frame(patches: Patches, draws: list[Tensor]) -> list[Tensor]:
    """Each clip's numbers for each of its frames."""
    return [draw.repeat_interleave(patches.shape[1]) for draw in draws]


def _around_one(draw: Float[Tensor, " n"], strength: float) -> Float[Tensor, " n"]:
    return 1 + (2 * draw - 1) * strength


def _between(start: Float[Tensor, " b"], length: Float[Tensor, " b"], count: int) -> Tensor:
    """(b n) which of `count` pixel centres lie in [start, start + length), as shares of the side."""
    centres = (torch.arange(count, device=start.device) + 0.5) / count
    return (centres >= start[:, None]) & (centres < (start + length)[:, None])
