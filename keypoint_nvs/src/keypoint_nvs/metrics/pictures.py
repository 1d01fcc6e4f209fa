"""How alike two pictures are. Pictures are (... 3 h w), 0..1; masks (... h w) choose the pixels that count."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

SIGMA, RADIUS = 1.5, 5
"""SSIM's window: a Gaussian cut off at 3.5 sigma, 11 pixels wide (Wang et al. 2004, scikit-image)."""
C1, C2 = 0.01**2, 0.03**2


def mse(
    a: Float[Tensor, "*n 3 h w"], b: Float[Tensor, "*n 3 h w"], mask: Bool[Tensor, "*n h w"] | None = None
) -> Float[Tensor, "*n"]:
    """Mean squared difference; nan where the mask is empty."""
    squares = (a - b).square().mean(-3)
    return _mean(squares, mask)


def psnr(
    a: Float[Tensor, "*n 3 h w"], b: Float[Tensor, "*n 3 h w"], mask: Bool[Tensor, "*n h w"] | None = None
) -> Float[Tensor, "*n"]:
    """Peak signal-to-noise ratio, dB; infinite for equal pictures, nan where the mask is empty."""
    return -10 * torch.log10(mse(a, b, mask))


def ssim(
    a: Float[Tensor, "*n 3 h w"], b: Float[Tensor, "*n 3 h w"], mask: Bool[Tensor, "*n h w"] | None = None
) -> Float[Tensor, "*n"]:
    """Structural similarity with population covariance, mean over channels and the pixels whose window lies inside.

    A mask chooses windows by their middle; nan where none is left.

    Raises:
        ValueError: The pictures are smaller than the window.
    """
    if min(a.shape[-2:]) <= 2 * RADIUS:
        raise ValueError(
            f"ssim needs pictures of more than {2 * RADIUS} pixels a side, these have {tuple(a.shape[-2:])}"
        )
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a, var_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    alike = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    values = alike / ((mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2))
    inside = slice(RADIUS, -RADIUS)
    return _mean(values.mean(-3), None if mask is None else mask[..., inside, inside])


def _blurred(images: Tensor) -> Tensor:
    """Only where the whole window lies inside."""
    distance = torch.arange(-RADIUS, RADIUS + 1, dtype=images.dtype, device=images.device)
    window = torch.exp(-(distance**2) / (2 * SIGMA**2))
    window = window / window.sum()
    flat = images.reshape(-1, 1, *images.shape[-2:])
    blurred = F.conv2d(F.conv2d(flat, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    return blurred.reshape(*images.shape[:-2], *blurred.shape[-2:])


def _mean(values: Float[Tensor, "*n h w"], mask: Bool[Tensor, "*n h w"] | None) -> Float[Tensor, "*n"]:
    if mask is None:
        return values.mean((-2, -1))
    return torch.where(mask, values, 0).sum((-2, -1)) / mask.sum((-2, -1))
