"""Unit quaternions, real part first (wxyz), to matrices and back."""

import torch
from jaxtyping import Float
from torch import Tensor


def quaternion_wxyz_to_matrix(q: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Matrix of q/|q|; the zero quaternion gives the identity, with zero gradient.

    Convention: (cos(pi/4), 0, 0, sin(pi/4)) turns x into y: the matrix's first column is (0, 1, 0).
    """
    squared = (q * q).sum(-1)
    two = torch.where(squared > 0, 2 / torch.where(squared > 0, squared, 1), 0)
    w, x, y, z = q.unbind(-1)
    tx, ty, tz = two * x, two * y, two * z
    xx, yy, zz, xy, xz, yz = tx * x, ty * y, tz * z, tx * y, tx * z, ty * z
    wx, wy, wz = tx * w, ty * w, tz * w
    entries = (1 - yy - zz, xy - wz, xz + wy, xy + wz, 1 - xx - zz, yz - wx, xz - wy, yz + wx, 1 - xx - yy)
    return torch.stack(entries, -1).reshape(*q.shape[:-1], 3, 3)


def matrix_to_quaternion_wxyz(R: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion with w >= 0. At pi exactly (w = 0) both signs mean the same; one is returned.

    The matrix is read as 4 q q^T and the row of q's largest component is normalised, which is exact to rounding
    for every angle (Shepperd 1978, as in SciPy).
    """
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = R.flatten(-2).unbind(-1)
    wx, wy, wz = r21 - r12, r02 - r20, r10 - r01
    xy, xz, yz = r10 + r01, r02 + r20, r21 + r12
    ww, xx = 1 + r00 + r11 + r22, 1 + r00 - r11 - r22
    yy, zz = 1 - r00 + r11 - r22, 1 - r00 - r11 + r22
    w_largest = (r11 + r22 > 0) & (r00 + r22 > 0) & (r00 + r11 > 0)
    x_largest, y_largest = (r00 > r11) & (r00 > r22), r11 > r22

    def pick(w: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return torch.where(w_largest, w, torch.where(x_largest, x, torch.where(y_largest, y, z)))

    row = (pick(ww, wx, wy, wz), pick(wx, xx, xy, xz), pick(wy, xy, yy, yz), pick(wz, xz, yz, zz))
    scale = (row[0] * row[0] + row[1] * row[1] + row[2] * row[2] + row[3] * row[3]).rsqrt()
    signed = torch.where(row[0] < 0, -scale, scale)
    return torch.stack([signed * entry for entry in row], -1)
