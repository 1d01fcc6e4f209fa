"""Augmentation of batches on the device; every draw depends on the sample's own seed, not on its batch.

Photometric changes are drawn once a sample and shared by its views, in this order: brightness, contrast about the
view's mean, saturation, Gaussian noise (new for each view), blur, one erased rectangle, clipping to 0..1. The
geometric change is one zoom about the picture's centre a sample and one shift a view; pictures (reflected at the
border) and masks follow it exactly as K and keypoints do. There is no flip: it would swap left and right joints.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from posecore.data.counter_random import normals, uniforms
from smil_regressor.config import Augmentation
from smil_regressor.data.sample import Batch

SCALARS, SHIFTS, NOISE = range(3)
"""Streams of random numbers."""
ERASED_ASPECT = (0.3, 3.3)
"""Height over width of the erased rectangle, log-uniform."""

Images = Float[Tensor, "b v h w 3"]
Uniform = Float[Tensor, " b"]


def to_float(images: Tensor) -> Images:
    """uint8 pictures to 0..1; float ones stay."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


class Augmenter:
    """Applies one `augmentation` section to batches; with `enabled` false it only turns pictures into floats."""

    def __init__(self, settings: Augmentation) -> None:
        self.settings = settings

    def __call__(self, batch: Batch) -> Batch:
        """Raises ValueError where the batch carries no seeds."""
        batch = replace(batch, images=to_float(batch.images))
        if not self.settings.enabled:
            return batch
        if batch.augment_seed is None:
            raise ValueError("the batch has no augment_seed; sources draw it in load()")
        seeds = batch.augment_seed
        if self.settings.geometric_enabled:
            batch = warp(batch, *self._geometry(seeds, batch.images.shape[1]))
        images = self._photometric(seeds, batch.images)
        return replace(batch, images=images * batch.view_mask[:, :, None, None, None])

    def _geometry(self, seeds: Int[Tensor, " b"], views: int) -> tuple[Float[Tensor, " b"], Float[Tensor, "b v 2"]]:
        low, high = self.settings.scale_jitter_range
        zoom = low + (high - low) * uniforms(seeds, SCALARS, 1)[:, 0]
        shift = (2 * uniforms(seeds, SHIFTS, 2 * views) - 1) * self.settings.crop_jitter_fraction
        return zoom, shift.reshape(-1, views, 2)

    def _photometric(self, seeds: Int[Tensor, " b"], images: Images) -> Images:
        s = self.settings
        _, brightness, contrast, saturation, blurred, kernel, *erasing = uniforms(seeds, SCALARS, 11).unbind(1)
        images = images + _column((2 * brightness - 1) * s.color_jitter_brightness)
        images = _towards(images.mean((2, 3, 4), keepdim=True), images, contrast, s.color_jitter_contrast)
        images = _towards(images.mean(4, keepdim=True), images, saturation, s.color_jitter_saturation)
        if s.gaussian_noise_std > 0:
            count = math.prod(images.shape[1:])
            images = images + s.gaussian_noise_std * normals(seeds, NOISE, count).reshape(images.shape)
        images = blur(images, _kernels(blurred < s.gaussian_blur_prob, kernel, s.gaussian_blur_kernel_range))
        images = self._erase(images, *erasing)
        return images.clamp(0, 1)

    def _erase(self, images: Images, chance: Uniform, area: Uniform, aspect: Uniform, y: Uniform, x: Uniform) -> Images:
        """The rectangle takes the view's mean colour: nothing to learn from."""
        height, width = images.shape[2:4]
        low, high = self.settings.random_erasing_scale_range
        share = low + (high - low) * area
        ratio = ERASED_ASPECT[0] * (ERASED_ASPECT[1] / ERASED_ASPECT[0]) ** aspect
        tall, wide = (share * ratio).sqrt().clamp(max=1), (share / ratio).sqrt().clamp(max=1)
        inside = (
            _between(y * (1 - tall), tall, height)[:, :, None] & _between(x * (1 - wide), wide, width)[:, None, :]
        ) & (chance < self.settings.random_erasing_prob)[:, None, None]
        return torch.where(inside[:, None, :, :, None], images.mean((2, 3), keepdim=True), images)


def warp(batch: Batch, zoom: Float[Tensor, " b"], shift: Float[Tensor, "b v 2"]) -> Batch:
    """Zoom about the picture's centre and shift: x' = zoom (x - c) + c + shift * (w, h), with c = (w - 1) / 2.

    Joints that leave the picture are hidden. Masks are empty beyond the old border, where the picture is a reflection.

    Args:
        shift: x, y as shares of the picture's width and height.
    """
    height, width = batch.images.shape[2:4]
    size = torch.tensor([width, height], device=zoom.device, dtype=torch.float32)
    centre = (size - 1) / 2
    factor = zoom[:, None, None]
    offset = centre - factor * centre + shift * size
    moved = factor[..., None] * batch.keypoints_px + offset[:, :, None]
    inside = ((moved >= -0.5) & (moved < size - 0.5)).all(-1)
    K = batch.K.clone()
    K[:, :, :2] *= factor[..., None]
    K[:, :, :2, 2] += offset
    K = torch.where(batch.has_camera[..., None, None], K, batch.K)
    grid = _source_grid(zoom, offset, (height, width))
    return replace(
        batch,
        images=_resample(batch.images, grid, "reflection"),
        masks=_resample(batch.masks[..., None].float(), grid, "zeros")[..., 0] > 0.5,
        K=K,
        keypoints_px=moved,
        visibility=batch.visibility * inside,
        native_size_wh=batch.native_size_wh / factor,
    )


def blur(images: Images, kernels: Float[Tensor, "b k"]) -> Images:
    """Separable convolution with a kernel of odd length for each sample; borders reflect."""
    half = kernels.shape[1] // 2
    if half == 0:
        return images
    b, v, h, w, _ = images.shape
    flat = images.permute(1, 4, 0, 2, 3).reshape(v * 3, b, h, w)
    padded = functional.pad(flat, (half, half, half, half), mode="reflect")
    rows = functional.conv2d(padded, kernels[:, None, :, None], groups=b)
    smooth = functional.conv2d(rows, kernels[:, None, None, :], groups=b)
    return smooth.reshape(v, 3, b, h, w).permute(2, 0, 3, 4, 1)


def _kernels(chosen: Bool[Tensor, " b"], draw: Uniform, sizes: tuple[int, int]) -> Float[Tensor, "b k"]:
    """Gaussians of odd sizes drawn from the range, centred in the largest; OpenCV's sigma for a size. Else identity."""
    smallest, largest = sizes
    choices = (largest - smallest) // 2 + 1
    size = smallest + 2 * (draw * choices).floor().clamp(max=choices - 1)
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    place = torch.arange(largest, device=draw.device) - largest // 2
    weights = torch.exp(-0.5 * (place / sigma[:, None]) ** 2) * (place.abs() <= (size[:, None] - 1) / 2)
    weights = torch.where(chosen[:, None], weights, (place == 0).float())
    return weights / weights.sum(1, keepdim=True)


def _column(values: Uniform) -> Float[Tensor, "b 1 1 1 1"]:
    return values[:, None, None, None, None]


def _towards(grey: Tensor, images: Images, draw: Uniform, strength: float) -> Images:
    """grey + f (images - grey) with f within 1 +- strength."""
    return grey + _column(1 + (2 * draw - 1) * strength) * (images - grey)


def _between(start: Uniform, length: Uniform, count: int) -> Bool[Tensor, "b n"]:
    """Which of `count` pixel centres lie in [start, start + length), as shares of the side."""
    centres = (torch.arange(count, device=start.device) + 0.5) / count
    return (centres >= start[:, None]) & (centres < (start + length)[:, None])


def _source_grid(zoom: Float[Tensor, " b"], offset: Float[Tensor, "b v 2"], size: tuple[int, int]) -> Tensor:
    """(b*v h w 2) where grid_sample (align_corners=False) finds each new pixel: x = (x' - offset) / zoom."""
    height, width = size
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([xs, ys], -1).to(zoom)
    old = (pixels - offset[:, :, None, None]) / zoom[:, None, None, None, None]
    scale = torch.tensor([2 / width, 2 / height], device=zoom.device)
    return ((old + 0.5) * scale - 1).flatten(0, 1)


def _resample(images: Tensor, grid: Tensor, padding: str) -> Tensor:
    b, v, h, w, c = images.shape
    flat = images.reshape(b * v, h, w, c).permute(0, 3, 1, 2)
    moved = functional.grid_sample(flat, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return moved.permute(0, 2, 3, 1).reshape(b, v, h, w, c)
