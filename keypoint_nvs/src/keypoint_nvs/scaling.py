"""Ranges of latents and pictures in Zero123++, and transparent pictures on a background.

Renderings' latents are shifted and scaled to the statistics of natural pictures, on which the base model was trained
(zero123plus, issue 86).
"""

from typing import Literal, overload

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

Background = Literal["grey", "white"] | tuple[int, int, int]
NAMED_BACKGROUNDS = {"grey": (127, 127, 127), "white": (255, 255, 255)}
IMAGE_SCALE = 0.5 / 0.8

Number = float | Float[Tensor, "*#latents"]


def scale_latents(
    latents: Float[Tensor, "*latents"], shift: Number = 0.22, scale: Number = 0.75
) -> Float[Tensor, "*latents"]:
    """`(latents - shift) * scale`; tensors of shift and scale broadcast, as (4, 1, 1) for each channel."""
    return (latents - shift) * scale


def unscale_latents(
    latents: Float[Tensor, "*latents"], shift: Number = 0.22, scale: Number = 0.75
) -> Float[Tensor, "*latents"]:
    """Inverse of `scale_latents`."""
    return latents / scale + shift


def scale_image(image: Float[Tensor, "*image"]) -> Float[Tensor, "*image"]:
    """A picture in -1..1 in the range that the autoencoder sees: -0.625..0.625."""
    return image * IMAGE_SCALE


def unscale_image(image: Float[Tensor, "*image"]) -> Float[Tensor, "*image"]:
    """Inverse of `scale_image`."""
    return image / IMAGE_SCALE


def background_rgb(background: Background) -> tuple[int, int, int]:
    """Red, green and blue 0..255 of a configured background."""
    return NAMED_BACKGROUNDS[background] if isinstance(background, str) else background


@overload
def composite(rgba_uint8: UInt8[Tensor, "*batch 4 h w"], background: Background) -> Float32[Tensor, "*batch 3 h w"]: ...


@overload
def composite(
    rgba_uint8: UInt8[np.ndarray, "*batch 4 h w"], background: Background
) -> Float32[np.ndarray, "*batch 3 h w"]: ...


def composite(
    rgba_uint8: UInt8[Tensor, "*batch 4 h w"] | UInt8[np.ndarray, "*batch 4 h w"], background: Background
) -> Float32[Tensor, "*batch 3 h w"] | Float32[np.ndarray, "*batch 3 h w"]:
    """A picture with straight alpha on a constant background, as float32 in 0..1.

    Blended with the rounding of PIL's `paste` (the released pipeline's): the result times 255 is exactly PIL's byte, on
    arrays and on any device. Its sums `alpha * colour + (255 - alpha) * background` are whole numbers, which float32 holds
    exactly, and none lies within a thousandth of halfway between two multiples of 255; so float32, in place, is enough, at
    an eighth of the time of integers.
    """
    colour = background_rgb(background)
    if isinstance(rgba_uint8, Tensor):
        below = torch.tensor(colour, dtype=torch.float32, device=rgba_uint8.device)[:, None, None]
        blended = rgba_uint8[..., :3, :, :].to(torch.float32)
        blended.sub_(below).mul_(rgba_uint8[..., 3:, :, :]).add_(255 * below)
        return blended.mul_(1 / 255).round_().div_(255)
    under = np.asarray(colour, np.float32)[:, None, None]
    mixed = rgba_uint8[..., :3, :, :].astype(np.float32)
    mixed -= under
    mixed *= rgba_uint8[..., 3:, :, :]
    mixed += 255 * under
    mixed *= np.float32(1 / 255)
    return np.rint(mixed, out=mixed) / np.float32(255)
