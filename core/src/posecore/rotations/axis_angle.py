"""Axis-angle vectors to matrices (Rodrigues) and back."""

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.rotations.quaternion import matrix_to_quaternion_wxyz

SERIES_BELOW = 1e-3
"""Squared angle (or squared sine) below which series replace the quotients: five terms are exact to float64 there,
and above it autograd's cancellation in the quotients costs no more than one rounding."""


def axis_angle_to_matrix(a: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation by |a| radians about a (Rodrigues): `I + sin|a|/|a| [a] + (1 - cos|a|)/|a|^2 [a]^2`.

    Convention: (0, 0, pi/2) turns x into y: the matrix's first column is (0, 1, 0).
    """
    squared = (a * a).sum(-1)
    sine, versine = _sine_and_versine_quotients(squared)
    x, y, z = a.unbind(-1)
    sx, sy, sz = sine * x, sine * y, sine * z
    vx, vy, vz = versine * x, versine * y, versine * z
    xx, yy, zz, xy, xz, yz = vx * x, vy * y, vz * z, vx * y, vx * z, vy * z
    entries = (1 - yy - zz, xy - sz, xz + sy, xy + sz, 1 - xx - zz, yz - sx, xz - sy, yz + sx, 1 - xx - yy)
    return torch.stack(entries, -1).reshape(*a.shape[:-1], 3, 3)


def matrix_to_axis_angle(R: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Axis times angle, angle in [0, pi]. At pi exactly both signs of the axis mean the same; one is returned."""
    quat_wxyz = matrix_to_quaternion_wxyz(R)
    w, vector = quat_wxyz[..., 0], quat_wxyz[..., 1:]
    squared = (vector * vector).sum(-1)  # sin^2(angle / 2)
    small = squared < SERIES_BELOW
    sine = torch.where(small, 1, squared).sqrt()
    # 2 asin(s)/s, with asin by its series near 0
    series = 2 + squared * (
        1 / 3 + squared * (3 / 20 + squared * (5 / 56 + squared * (35 / 576 + squared * 63 / 1408)))
    )
    return torch.where(small, series, 2 * torch.atan2(sine, w) / sine)[..., None] * vector


def _sine_and_versine_quotients(squared: Tensor) -> tuple[Tensor, Tensor]:
    """sin(t)/t and (1 - cos t)/t^2 from t^2, smooth at 0."""
    small = squared < SERIES_BELOW
    angle = torch.where(small, 1, squared).sqrt()
    sine_series = 1 - squared / 6 * (1 - squared / 20 * (1 - squared / 42 * (1 - squared / 72)))
    half_series = 0.5 - squared / 48 * (1 - squared / 80 * (1 - squared / 168 * (1 - squared / 288)))
    half = torch.where(small, half_series, torch.sin(angle / 2) / angle)  # 1 - cos t = 2 sin^2(t/2) does not cancel
    return torch.where(small, sine_series, torch.sin(angle) / angle), 2 * half * half
