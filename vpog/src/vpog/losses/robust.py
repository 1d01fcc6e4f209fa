"""Errors of single numbers."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

RobustKind = Literal["l1", "huber", "smooth_l1"]


def robust(difference: Float[Tensor, "*n"], kind: RobustKind, delta: float) -> Float[Tensor, "*n"]:
    """l1: |x|. huber: x^2 / (2 delta) up to delta, then |x| - delta / 2. smooth_l1: the same with delta 1."""
    size = difference.abs()
    if kind == "l1":
        return size
    bound = 1.0 if kind == "smooth_l1" else delta
    return torch.where(size <= bound, size.square() / (2 * bound), size - bound / 2)
