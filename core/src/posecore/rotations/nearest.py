"""The rotation nearest to a matrix."""

import torch
from jaxtyping import Float
from torch import Tensor


def project_to_so3(M: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation R (det +1) that minimises |R - M| (Frobenius), by SVD with the sign of the last direction fixed.

    With singular values s1 >= s2 >= s3 and d = sign(det M), the answer is unique where s2 + d s3 > 0; its derivative,
    with R^T M = V diag(s1, s2, d s3) V^T, is `R V [V^T (R^T dM - dM^T R) V / (s_i + s_j)] V^T`. It needs no gap between
    the singular values themselves, unlike autograd through the SVD, which is NaN at every rotation matrix.
    Where s2 + d s3 vanishes one of several nearest rotations is returned and their common direction gets zero gradient.
    """
    with torch.no_grad():
        rotation, V, sums = _polar(M)
    if not (torch.is_grad_enabled() and M.requires_grad):
        return rotation
    # R^T M is symmetric up to rounding, so this step moves R by no more than that, and carries the derivative.
    relative = rotation.mT @ M
    turn = V @ (V.mT @ (relative - relative.mT) @ V * sums) @ V.mT
    return rotation + rotation @ turn


def _polar(M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest rotation, V, and 1/(s_i + s_j), which is 0 where the sum vanishes."""
    U, s, Vh = torch.linalg.svd(M)
    sign = torch.linalg.det(U @ Vh)
    flip = torch.stack((torch.ones_like(sign), torch.ones_like(sign), sign), -1)
    signed = s * flip
    sums = signed[..., :, None] + signed[..., None, :]
    unique = sums > 16 * torch.finfo(M.dtype).eps * s[..., :1, None]
    inverse = torch.where(unique, 1 / torch.where(unique, sums, 1), 0)
    return (U * flip[..., None, :]) @ Vh, Vh.mT, inverse
