"""Small weights."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from posecore.losses import Term


def regularised(model: nn.Module) -> Iterator[nn.Parameter]:
    """Trained weights but biases, norms, learnt numbers and learnt tokens."""
    for name, parameter in model.named_parameters():
        is_token = "token" in name.rsplit(".", 1)[-1]
        if parameter.requires_grad and parameter.ndim > 1 and not is_token:
            yield parameter


def l2_term(model: nn.Module, num_samples: int) -> Term:
    """Sum of squares of the weights; each micro-batch gives its samples' share of it."""
    squares = [parameter.float().square().sum() for parameter in regularised(model)]
    if not squares:
        raise ValueError("l2: the model has no trained weight matrix")
    total: Float[Tensor, ""] = torch.stack(squares).sum()
    return Term(total * num_samples, torch.tensor(float(num_samples), device=total.device))
