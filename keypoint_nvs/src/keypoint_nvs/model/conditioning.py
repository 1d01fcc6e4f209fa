"""What Zero123++ is told about the input view: its pixels for the autoencoder, its embedding in the prompt."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class PreparedCondition:
    """Input views as the networks take them, of the same b objects."""

    autoencoder: Float[Tensor, "b 3 s s"]
    """(p - 0.5) / 0.8."""
    vision: Float[Tensor, "b 3 c c"]
    """Of CLIP's mean and deviation."""


def prepare_condition(images: Float[Tensor, "b 3 h w"], autoencoder_px: int, vision_px: int) -> PreparedCondition:
    """Pictures 0..1 -> both inputs: the short side resized, then the centre cropped.

    The released pipeline resizes pictures of 8 bits with PIL; this differs from it by their rounding, about 1/255.
    """
    seen = _square(images, vision_px, "bicubic")
    mean, std = (seen.new_tensor(values)[:, None, None] for values in (_CLIP_MEAN, _CLIP_STD))
    return PreparedCondition((_square(images, autoencoder_px, "bilinear") - 0.5) / 0.8, (seen - mean) / std)


def ramp_prompt(
    prompt: Float[Tensor, "1 tokens d"], image_embeds: Float[Tensor, "b d"], ramp: Float[Tensor, " tokens"]
) -> Float[Tensor, "b tokens d"]:
    """The image's embedding, added to each token of the (empty) prompt as much as the ramp says (FlexDiffuse)."""
    return prompt + ramp[:, None] * image_embeds[:, None, :]


def initial_ramp(tokens: int = 77) -> Float[Tensor, " tokens"]:
    """Before training: from 0 for the first token, in equal steps."""
    return torch.arange(tokens, dtype=torch.float32) / tokens


def _square(images: Tensor, size: int, mode: str) -> Tensor:
    """The short side becomes `size`; what the long side has more is cut off on both ends."""
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    short = min(height, width)
    new = (max(size, size * height // short), max(size, size * width // short))
    resized = _resized(_resized(images.float(), (height, new[1]), mode), new, mode)
    top, left = (new[0] - size) // 2, (new[1] - size) // 2
    return resized[..., top : top + size, left : left + size]


def _resized(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Along one axis, as PIL works: it cuts off what a bicubic curve has below 0 and above 1 before the other axis."""
    return F.interpolate(images, size, mode=mode, align_corners=False, antialias=True).clamp(0, 1)
