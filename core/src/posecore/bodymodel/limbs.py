"""Limb scales and offsets of SMIL models from their principal components."""

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.bodymodel.model import BodyModel

_MIN_SCALE = 1e-4  # of the format: components may ask for scales below zero
_OFFSET_UNIT = 0.01  # of the format


def pca_limbs(
    model: BodyModel, scale_weights: Float[Tensor, "b s"], trans_weights: Float[Tensor, "b s"]
) -> tuple[Float[Tensor, "b j 3"], Float[Tensor, "b j 3"]]:
    """`log_scales` and `joint_offsets` for the body model: log(max(1 + w scaledirs, 1e-4)) and 0.01 u transdirs.

    Entangled models take their betas for both weights. Raises ValueError if the model's file has no such directions.
    """
    if model.scaledirs is None or model.transdirs is None:
        missing = "scaledirs" if model.scaledirs is None else "transdirs"
        raise ValueError(f"{missing}: not in the model's file; give log_scales and joint_offsets directly")
    scales = 1 + torch.einsum("bs,sjx->bjx", scale_weights, model.scaledirs)
    offsets = torch.einsum("bs,sjx->bjx", trans_weights, model.transdirs)
    return torch.log(scales.clamp(min=_MIN_SCALE)), _OFFSET_UNIT * offsets
