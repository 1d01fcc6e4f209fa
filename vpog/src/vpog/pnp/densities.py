"""Distributions of translations and rotations: how dense they are, and draws from them."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

DEGREES_OF_FREEDOM = 3
JITTERS = (0.0, 1e-6, 1e-3)
"""Shares of the mean diagonal that are added, one after the other, to a matrix that is not positive definite."""


def student_t_log_density(
    x: Float[Tensor, "*b k d"], location: Float[Tensor, "*#b d"], scale_tril: Float[Tensor, "*#b d d"]
) -> Float[Tensor, "*b k"]:
    """Multivariate Student-t with 3 degrees of freedom; `scale_tril` is the Cholesky factor of its scale, not covariance."""
    d, nu = x.shape[-1], DEGREES_OF_FREEDOM
    white = torch.linalg.solve_triangular(scale_tril, (x - location[..., None, :]).mT, upper=False)
    log_det = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = math.lgamma((nu + d) / 2) - math.lgamma(nu / 2) - d / 2 * math.log(nu * math.pi)
    density: Tensor = constant - log_det[..., None] - (nu + d) / 2 * torch.log1p(white.square().sum(-2) / nu)
    return density


def acg_log_density(quat: Float[Tensor, "*b k 4"], scale_tril: Float[Tensor, "*#b 4 4"]) -> Float[Tensor, "*b k"]:
    """Angular central Gaussian on the unit sphere of quaternions: the direction of a normal vector (Tyler 1987)."""
    white = torch.linalg.solve_triangular(scale_tril, quat.mT, upper=False)
    log_det = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    density: Tensor = -2 * white.square().sum(-2).log() - log_det[..., None] - math.log(2 * math.pi**2)
    return density


def student_t_samples(
    normals: Float[Tensor, "b k d"],
    chi_normals: Float[Tensor, "b k nu"],
    location: Float[Tensor, "b d"],
    scale_tril: Float[Tensor, "b d d"],
) -> Float[Tensor, "b k d"]:
    """Of standard normal numbers; those of `chi_normals`, one a degree of freedom, make the tails heavy."""
    widening = (DEGREES_OF_FREEDOM / chi_normals.square().sum(-1, keepdim=True)).sqrt()
    return location[:, None] + (normals * widening) @ scale_tril.mT


def acg_samples(normals: Float[Tensor, "b k 4"], scale_tril: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b k 4"]:
    """Unit quaternions of standard normal numbers."""
    return torch.nn.functional.normalize(normals @ scale_tril.mT, dim=-1)


def cholesky_with_jitter(matrix: Float[Tensor, "*b d d"]) -> tuple[Float[Tensor, "*b d d"], Bool[Tensor, "*b"]]:
    """Lower factor, and where it is not that of the matrix itself.

    A matrix that is not positive definite is tried again with more on its diagonal, at last by its diagonal alone; one
    that is not finite counts as the identity. Callers report how often that was.
    """
    d = matrix.shape[-1]
    eye = torch.eye(d, dtype=matrix.dtype, device=matrix.device)
    is_finite = matrix.isfinite().all(-1).all(-1)
    matrix = torch.where(is_finite[..., None, None], matrix, eye)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(matrix.dtype).tiny)
    factor = torch.diag_embed(diagonal.sqrt())
    fell_back = ~is_finite
    for jitter in reversed(JITTERS):
        raised = matrix + jitter * diagonal.mean(-1)[..., None, None] * eye
        attempt, info = torch.linalg.cholesky_ex(raised)
        worked = info == 0
        factor = torch.where(worked[..., None, None], attempt, factor)
        if jitter == 0:
            fell_back = fell_back | ~worked
    return factor, fell_back
