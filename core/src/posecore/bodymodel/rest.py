"""Points in rest pose as a linear function of shape and pose: vertices, joints, and moments of both."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class RestPoints(nn.Module):
    """template + directions coefficients, for n points.

    Buffers are not persistent: a body model is read from its (often licensed) file and does not belong in checkpoints.
    """

    template: Tensor
    basis: Tensor

    def __init__(self, template: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3 k"], dtype: torch.dtype) -> None:
        super().__init__()
        # One row for each coefficient: x of all points first, then y, then z.
        basis = directions.permute(2, 1, 0).reshape(directions.shape[2], template.numel())
        self.register_buffer("template", template.T.reshape(-1).to(dtype), persistent=False)
        self.register_buffer("basis", basis.to(dtype), persistent=False)

    def forward(self, coefficients: Float[Tensor, "b k"]) -> Float[Tensor, "b 3 n"]:
        # Not addmm: BLAS then sums the small terms onto the template one by one, ten times the rounding error.
        points = coefficients @ self.basis + self.template
        return points.view(coefficients.shape[0], 3, len(self.template) // 3)

    def directions(self, first: int, last: int) -> Float[Tensor, "n 3 k"]:
        """Those of coefficients first to last - 1, as a file has them."""
        return self.basis[first:last].view(last - first, 3, len(self.template) // 3).permute(2, 1, 0)


def joints_first(points: Float[Tensor, "b 3 n"]) -> Float[Tensor, "n 3 b"]:
    """As the kinematic chain has them."""
    return points.permute(2, 1, 0).contiguous()


def pose_features(rotations: Float[Tensor, "b j 3 3"]) -> Float[Tensor, "b p"]:
    """R - I of all joints but the root, row-major: what pose blend shapes multiply."""
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return (rotations[:, 1:] - identity).flatten(1)
