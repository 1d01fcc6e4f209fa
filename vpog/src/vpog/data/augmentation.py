"""How the colours of a training crop vary, and what may cover a part of it. uint8 RGB pictures; draws from a generator."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from vpog.config.augmentation import AugmentationConfig

Picture = UInt8[np.ndarray, "h w 3"]


def vary_colors(picture: Picture, config: AugmentationConfig, rng: np.random.Generator) -> Picture:
    """Blur, sharpness, contrast, brightness and saturation, each with its own probability, within that of `color`."""
    chances = rng.random(6)
    blur, sharpness, contrast, brightness, saturation = (
        rng.uniform(low, high) for low, high in ((1.0, 3.0), (0.0, 2.0), (0.7, 1.5), (0.5, 1.7), (0.0, 1.6))
    )
    if chances[0] >= config.color:
        return picture
    values = picture.astype(np.float32)
    if chances[1] < config.blur:
        values = cv2.GaussianBlur(values, (0, 0), blur / 2)
    if chances[2] < config.sharpness:
        values = _blend(cv2.GaussianBlur(values, (0, 0), 1.0), values, sharpness)
    if chances[3] < config.contrast:
        values = _blend(np.full_like(values, values.mean()), values, contrast)
    if chances[4] < config.brightness:
        values = values * brightness
    if chances[5] < config.saturation:
        grey = values @ np.array([0.299, 0.587, 0.114], np.float32)
        values = _blend(np.repeat(grey[..., None], 3, -1), values, saturation)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def occlude(
    picture: Picture, mask: Bool[np.ndarray, "h w"], config: AugmentationConfig, rng: np.random.Generator
) -> tuple[Picture, Bool[np.ndarray, "h w"]]:
    """A rectangle of noise over a part of the object, with probability `occlusion`, and the mask without what it hides.

    Its centre lies on a visible pixel; at least half of the visible pixels stay.
    """
    is_drawn, choice, width, height = rng.random(4)
    colors = rng.integers(0, 256, (4, 4, 3), np.uint8)
    visible = np.flatnonzero(mask)
    if is_drawn >= config.occlusion or not len(visible):
        return picture, mask
    row, column = divmod(int(visible[int(choice * len(visible))]), mask.shape[1])
    half = np.array([0.05 + 0.2 * height, 0.05 + 0.2 * width]) * mask.shape
    top, left = np.maximum(0, np.array([row, column]) - half).astype(int)
    bottom, right = np.minimum(mask.shape, np.array([row, column]) + half + 1).astype(int)
    hidden = np.zeros_like(mask)
    hidden[top:bottom, left:right] = True
    if (mask & ~hidden).sum() < 0.5 * len(visible):
        return picture, mask
    covered = picture.copy()
    covered[top:bottom, left:right] = cv2.resize(
        colors, (int(right - left), int(bottom - top)), interpolation=cv2.INTER_LINEAR
    )
    return covered, mask & ~hidden


def made_up_background(size: int, rng: np.random.Generator) -> Picture:
    """Coloured noise of several sizes, from flat to busy."""
    layers = [
        cv2.resize(
            rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
        )
        for cells in (2, 5, 13, 34)
    ]
    strengths = rng.uniform(0, 80, 4) * (rng.random(4) < 0.6)
    values = rng.uniform(0, 255, 3) + sum(s * layer for s, layer in zip(strengths, layers, strict=True))
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _blend(low: np.ndarray, high: np.ndarray, factor: float) -> np.ndarray:
    return np.asarray(low + factor * (high - low))
