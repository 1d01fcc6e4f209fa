"""What the inverses of both lenses share: Newton's method, and when it has arrived."""

import torch
from torch import Tensor

Coefficients = tuple[Tensor, ...]

NEWTON_STEPS = 20
"""Newton's method doubles its digits a step; 20 steps also cover the slow start at the rim of strong lenses."""


def is_small(residual: Tensor, seen: Tensor) -> Tensor:
    """Is the residual of a ray no more than rounding?"""
    scale = 1 + seen.abs().amax(-1)
    return residual.abs().amax(-1) < 64 * torch.finfo(seen.dtype).eps * scale
