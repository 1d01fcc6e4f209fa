"""Stored pictures on their background, on the device that the batch is on."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keypoint_nvs.data.batch import StoredBatch, ViewBatch
from keypoint_nvs.model.streams import CONDITION_SIZE
from keypoint_nvs.scaling import Background, composite
from posecore.data.counter_random import uniforms

CONDITION_SIZES = 17
"""Different sizes of the varied input view, evenly from the smallest to the largest."""


def view_batch(
    stored: StoredBatch, background: Background, vary_condition_px: tuple[int, int] | None = None
) -> ViewBatch:
    """Composite a batch in the colours 0..1.

    Args:
        background: grey (127), white, or RGB bytes.
        vary_condition_px: The input view loses what a picture of a random side between these cannot hold: it is resized
            to that side and back (bicubic, antialiased). One of 17 sides for each sample, drawn from its seed alone.
    """
    cond = None if stored.cond_imgs is None else composite(stored.cond_imgs, background)
    if cond is not None and vary_condition_px is not None:
        cond = coarsened(cond, stored.seed, vary_condition_px)
    return ViewBatch(
        stored=stored,
        cond_imgs=cond,
        target_imgs=composite(stored.target_imgs, background),
        alpha=stored.target_imgs[:, :, 3].to(torch.float32) / 255,
    )


def coarsened(
    images: Float[Tensor, "b c h w"], seeds: Int64[Tensor, " b"], sides_px: tuple[int, int]
) -> Float[Tensor, "b c h w"]:
    """Each picture resized to its own random side and back.

    Both resizes are linear and separable, so that each is a matrix along rows and one along columns: a batch with as many
    sizes as samples is two batched products, without a loop and without waiting for the device.
    """
    choice = (uniforms(seeds, CONDITION_SIZE, 1)[:, 0] * CONDITION_SIZES).long()
    height, width = images.shape[-2:]
    rows = _round_trips(height, sides_px, images.device)[choice][:, None]
    columns = _round_trips(width, sides_px, images.device)[choice][:, None]
    with torch.autocast(images.device.type, enabled=False):
        return (rows @ images @ columns.mT).clamp(0, 1)


def condition_sides(sides_px: tuple[int, int]) -> list[int]:
    """The sides that are drawn from."""
    smallest, largest = sides_px
    return [round(smallest + (largest - smallest) * i / (CONDITION_SIZES - 1)) for i in range(CONDITION_SIZES)]


@lru_cache(maxsize=8)
def _round_trips(length: int, sides_px: tuple[int, int], device: torch.device) -> Float[Tensor, "sides length length"]:
    """What resizing a line of pixels to each side and back does to it."""
    identity = torch.eye(length)
    trips = [_resized_rows(_resized_rows(identity, side), length) for side in condition_sides(sides_px)]
    return torch.stack(trips).to(device)


def _resized_rows(pixels: Float[Tensor, "n m"], count: int) -> Float[Tensor, "count m"]:
    size = (count, pixels.shape[1])
    resized = torch.nn.functional.interpolate(
        pixels[None, None], size, mode="bicubic", align_corners=False, antialias=True
    )
    return resized[0, 0]
