"""Points of different tokens keep their distance: all tokens at one point would be perfectly consistent."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def spread(
    points: Float[Tensor, "*batch k 3"], least_distance: float, counted: Bool[Tensor, "*batch k"] | None = None
) -> Float[Tensor, "*batch"]:
    """Mean of relu(least - |X_k - X_l|)^2 over the pairs of points that count; 0 where there is no pair.

    Points at the same place push each other in no direction: their gradient is 0, not nan.
    """
    k = points.shape[-2]
    first, second = torch.triu_indices(k, k, offset=1, device=points.device).unbind()
    distances = safe_length(points[..., first, :] - points[..., second, :])
    errors = torch.relu(least_distance - distances).square()
    if counted is None:
        counted = points.new_ones(points.shape[:-1], dtype=torch.bool)
    is_pair = (counted[..., first] & counted[..., second]).to(points.dtype)
    return (errors * is_pair).sum(-1) / is_pair.sum(-1).clamp_min(1)


def safe_length(vectors: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """Euclidean; its gradient at zero is zero."""
    squares = vectors.square().sum(-1)
    is_zero = squares == 0
    return torch.where(is_zero, 0, torch.where(is_zero, 1, squares).sqrt())


def spread_3d(points: Float[Tensor, "*batch k 3"], counted: Bool[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    """Root of the mean squared distance of the points that count from their mean, in their unit; 0 without any."""
    weights = counted.to(points.dtype)[..., None]
    total = weights.sum(-2, keepdim=True).clamp_min(1)
    mean = (points * weights).sum(-2, keepdim=True) / total
    squares = ((points - mean).square() * weights).sum((-2, -1))
    return (squares / total[..., 0, 0]).sqrt()
