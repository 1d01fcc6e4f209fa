"""Novel views that are had without looking at the input, or without learning."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def mean_view(training: Float[Tensor, "n v 3 h w"]) -> Float[Tensor, "v 3 h w"]:
    """Mean of the training objects, view by view: the best constant answer."""
    return training.mean(0)


def best_training_object(
    training: Float[Tensor, "n v 3 h w"], truth: Float[Tensor, "m v 3 h w"], at_once: int = 256
) -> Int64[Tensor, " m"]:
    """For each object the training object whose views are nearest to its true ones (mean squared error).

    No method knows it: it is chosen by the truth.
    """
    flat = training.flatten(1)
    nearest = []
    for part in torch.split(truth.flatten(1), at_once):
        distances = torch.cdist(part, flat)
        nearest.append(distances.argmin(1))
    return torch.cat(nearest)
