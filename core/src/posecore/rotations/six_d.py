"""The continuous 6D form of a rotation: two 3-vectors, orthonormalised (Zhou et al. 2019)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Layout = Literal["rows", "columns", "interleaved"]
"""How the six numbers lie in the matrix:

- `rows`: the first two rows, one after the other (PyTorch3D); the identity is (1, 0, 0, 0, 1, 0).
- `columns`: the first two columns, one after the other; the identity is (1, 0, 0, 0, 1, 0).
- `interleaved`: the 3x2 matrix of the first two columns, row by row (HMR, SPIN); the identity is (1, 0, 0, 1, 0, 0).
"""

TINY = 1e-8
"""Vectors shorter than this have no direction."""


def rotation_6d_to_matrix(d: Float[Tensor, "*batch 6"], layout: Layout) -> Float[Tensor, "*batch 3 3"]:
    """Gram-Schmidt on the two vectors of d; the third is their cross product.

    The answer is a rotation for every d. A first vector shorter than 1e-8 is read as the x axis; a second one that is
    as short, or parallel to the first, as a fixed direction across the first (y for x, so that zero gives the
    identity). What is read in place of a vector carries no gradient.
    """
    first, second = _split(d, layout)
    one, zero = torch.ones_like(first[0]), torch.zeros_like(first[0])
    b1 = _unit(first, (one, zero, zero))
    across = _reject(second, b1)
    parallel = _dot(across, across) <= (8 * torch.finfo(d.dtype).eps) ** 2 * _dot(second, second)
    spare = _across(b1)
    b2 = _unit(_where(parallel, spare, across), spare)
    b2 = _unit(_reject(b2, b1), b2)  # a second pass keeps b2 orthogonal where the two vectors are nearly parallel
    vectors = torch.stack((*b1, *b2, *_cross(b1, b2)), -1).reshape(*d.shape[:-1], 3, 3)
    return vectors if layout == "rows" else vectors.mT


def matrix_to_rotation_6d(R: Float[Tensor, "*batch 3 3"], layout: Layout) -> Float[Tensor, "*batch 6"]:
    """The first two rows or columns of R in the given layout."""
    if layout == "rows":
        return R[..., :2, :].flatten(-2)
    if layout == "columns":
        return R[..., :, :2].mT.flatten(-2)
    if layout == "interleaved":
        return R[..., :, :2].flatten(-2)
    raise ValueError(_unknown(layout))


# Vectors as three tensors of components: sums over an axis of length 3 cost several times as much.
Vector = tuple[Tensor, Tensor, Tensor]


def _split(d: Tensor, layout: str) -> tuple[Vector, Vector]:
    a, b, c, e, f, g = d.unbind(-1)
    if layout in ("rows", "columns"):
        return (a, b, c), (e, f, g)
    if layout == "interleaved":
        return (a, c, f), (b, e, g)
    raise ValueError(_unknown(layout))


def _unknown(layout: str) -> str:
    return f"layout: {layout!r} is none of 'rows', 'columns', 'interleaved'"


def _dot(v: Vector, w: Vector) -> Tensor:
    return v[0] * w[0] + v[1] * w[1] + v[2] * w[2]


def _cross(v: Vector, w: Vector) -> Vector:
    return v[1] * w[2] - v[2] * w[1], v[2] * w[0] - v[0] * w[2], v[0] * w[1] - v[1] * w[0]


def _where(mask: Tensor, v: Vector, w: Vector) -> Vector:
    return torch.where(mask, v[0], w[0]), torch.where(mask, v[1], w[1]), torch.where(mask, v[2], w[2])


def _unit(v: Vector, instead: Vector) -> Vector:
    """v/|v|, or `instead` where v is too short to have a direction."""
    squared = _dot(v, v)
    long = squared > TINY**2
    scale = torch.where(long, squared, 1).rsqrt()
    return _where(long, (v[0] * scale, v[1] * scale, v[2] * scale), instead)


def _reject(v: Vector, unit: Vector) -> Vector:
    """The part of v across `unit`."""
    along = _dot(v, unit)
    return v[0] - along * unit[0], v[1] - along * unit[1], v[2] - along * unit[2]


@torch.no_grad()
def _across(unit: Vector) -> Vector:
    """A unit vector across a unit vector, without branches (Duff et al. 2017); y for x."""
    x, y, z = unit
    sign = torch.where(z < 0, -torch.ones_like(z), torch.ones_like(z))  # copysign has no counterpart in ONNX
    y_scaled = y / (sign + z)
    return -x * y_scaled, sign - y * y_scaled, -y
