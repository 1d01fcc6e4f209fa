"""Euler angles in the twelve orders, intrinsic (capitals) and extrinsic (small letters), as SciPy names them."""

import torch
from jaxtyping import Float
from torch import Tensor

_AXES = {"x": 0, "y": 1, "z": 2}


def euler_to_matrix(angles: Float[Tensor, "*batch 3"], order: str) -> Float[Tensor, "*batch 3 3"]:
    """Three turns in radians. `"XYZ"` is `Rx(a0) Ry(a1) Rz(a2)` (turning axes), `"xyz"` is `Rz(a2) Ry(a1) Rx(a0)`."""
    axes, intrinsic = _parse(order)
    first, second, third = (_turn(angles[..., i], axis) for i, axis in enumerate(axes))
    return first @ second @ third if intrinsic else third @ second @ first


def matrix_to_euler(R: Float[Tensor, "*batch 3 3"], order: str) -> Float[Tensor, "*batch 3"]:
    """Angles of the given order; the middle one is in [-pi/2, pi/2] for three different axes, else in [0, pi].

    In gimbal lock only the sum or difference of the outer angles is fixed: the third angle of the intrinsic order (the
    first of the extrinsic one) is 0 then, as in SciPy. Near the lock the gradient of the outer angles grows as one over
    the distance to it.
    """
    axes, intrinsic = _parse(order)
    if intrinsic:
        return torch.stack(_intrinsic(R, axes), -1)
    return torch.stack(_intrinsic(R, axes[::-1])[::-1], -1)


def _parse(order: str) -> tuple[tuple[int, ...], bool]:
    axes = tuple(_AXES.get(letter, -1) for letter in order.lower())
    neighbours_differ = len(axes) == 3 and axes[0] != axes[1] != axes[2]
    if -1 in axes or not neighbours_differ or not (order.isupper() or order.islower()):
        raise ValueError(
            f"order: {order!r} is no Euler order; three letters such as 'XYZ' (intrinsic) or 'zxz' (extrinsic)"
        )
    return axes, order.isupper()


def _turn(angle: Tensor, axis: int) -> Tensor:
    """Matrix of a turn about one coordinate axis."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    cosine, sine, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    entries = {(axis, axis): torch.ones_like(angle), (i, i): cosine, (j, j): cosine, (i, j): -sine, (j, i): sine}
    rows = [entries.get((row, column), zero) for row in range(3) for column in range(3)]
    return torch.stack(rows, -1).reshape(*angle.shape, 3, 3)


def _intrinsic(R: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Angles of `R_i(a) R_j(b) R_k(c)`.

    The entries that give the outer angles carry the middle one's cosine (i != k) or sine (i == k), which vanishes in
    gimbal lock. The last angle is read from what the first one leaves, `R_i(-a) R = R_j(b) R_k(c)`, whose row j is that
    of R_k(c): so the angles give R back even next to the lock, where rounding decides the first one.
    """
    i, j, k = axes
    other = 3 - i - j
    hand = 1.0 if (j - i) % 3 == 1 else -1.0  # is (i, j, other) right-handed?
    if i == k:
        outer, free = _length(R[..., i, j], R[..., i, other])
        b = torch.atan2(outer, R[..., i, i])
        sine, cosine = R[..., j, i], -hand * R[..., other, i]
    else:
        outer, free = _length(R[..., i, i], R[..., i, j])
        b = torch.atan2(hand * R[..., i, k], outer)
        sine, cosine = -hand * R[..., j, k], R[..., k, k]
    # In lock, c = 0 leaves R = R_i(a) R_j(b), whose column j is that of R_i(a).
    a = torch.atan2(torch.where(free, sine, hand * R[..., other, j]), torch.where(free, cosine, R[..., j, j]))
    row = torch.cos(a)[..., None] * R[..., j, :] + hand * torch.sin(a)[..., None] * R[..., other, :]
    sine_of_c = -hand * row[..., other] if i == k else hand * row[..., i]
    return a, b, torch.atan2(sine_of_c, row[..., j])


def _length(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """|(x, y)| with zero gradient at 0, and whether it is far enough from 0 for a direction."""
    squared = x * x + y * y
    free = squared > (16 * torch.finfo(x.dtype).eps) ** 2
    return torch.where(free, torch.where(free, squared, 1).sqrt(), 0), free
