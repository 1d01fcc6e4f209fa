"""How far the predicted velocity is from the true one."""

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.losses import Term


def denoising(
    v_pred: Float[Tensor, "b c h w"], v: Float[Tensor, "b c h w"], weights: Float[Tensor, " b"] | None = None
) -> Float[Tensor, ""]:
    """Mean squared error; `weights` (of samples) multiply each sample's own, and the mean still counts samples."""
    return denoising_term(v_pred, v, weights).mean()


def denoising_term(
    v_pred: Float[Tensor, "b c h w"], v: Float[Tensor, "b c h w"], weights: Float[Tensor, " b"] | None = None
) -> Term:
    """The same as a sum over samples, in float32 or better."""
    v_pred, v = (values if values.dtype == torch.float64 else values.float() for values in (v_pred, v))
    errors = (v_pred - v).square().flatten(1).mean(1)
    if weights is not None:
        errors = errors * weights
    return Term(errors.sum(), errors.new_tensor(float(len(errors))))
