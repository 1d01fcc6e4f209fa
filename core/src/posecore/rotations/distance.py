"""The angle between two rotations."""

import torch
from jaxtyping import Float
from torch import Tensor


def geodesic_distance(R1: Float[Tensor, "*batch 3 3"], R2: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Angle of `R1 R2^T` in radians, in [0, pi].

    `atan2(sin, cos)` is exact and has a bounded gradient everywhere, where acos of the trace loses half the digits
    near 0 and pi. For equal rotations the distance has a corner; its gradient is taken as 0 there.
    """
    sine = torch.linalg.cross(R2, R1, dim=-2).sum(-1)  # the vector of R1 R2^T - its transpose: 2 sin(angle) axis
    cosine = ((R1 * R2).sum((-2, -1)) - 1) / 2
    squared = (sine * sine).sum(-1)
    apart = squared > 0
    return torch.atan2(torch.where(apart, torch.where(apart, squared, 1).sqrt() / 2, 0), cosine)
