"""Where the pixels of a template patch lie in the query."""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from posecore.losses import Term, masked_difference, weighed
from vpog.losses.robust import robust
from vpog.model.prediction import DenseMatches

EPSILON = 1e-4
"""Added to the scale, in patches."""
INVISIBLE_SHARE = 0.1

DenseKind = Literal["laplace", "l1", "huber"]


def dense_term(
    dense: DenseMatches,
    flow: Float[Tensor, "m ps ps 2"],
    visibility: Bool[Tensor, "m ps ps"],
    kind: DenseKind = "laplace",
    delta: float = 0.5,
) -> Term:
    """Over visible pixels. laplace: |df|_1 / (b + e) + 2 log(b + e), twice the negative log likelihood up to a constant
    shared by both coordinates; l1, huber: of the flow alone, summed over x and y.
    """
    visible = visibility.to(dense.flow)
    difference = masked_difference(dense.flow, flow, visible)
    if kind != "laplace":
        return weighed(robust(difference, kind, delta).sum(-1), visible)
    scale = dense.scale + EPSILON
    return weighed(difference.abs().sum(-1) / scale + 2 * scale.log(), visible)


def invisible_term(dense: DenseMatches, visibility: Bool[Tensor, "m ps ps"]) -> Term:
    """A tenth of the confidence 1 / (b + e) of pixels that cannot be seen."""
    return weighed(INVISIBLE_SHARE / (dense.scale + EPSILON), (~visibility).to(dense.scale))


def visible_count(visibility: Bool[Tensor, "m ps ps"]) -> Float[Tensor, ""]:
    return visibility.sum().float()


def invisible_count(visibility: Bool[Tensor, "m ps ps"]) -> Float[Tensor, ""]:
    return (~visibility).sum().float()


def flow_error_sums(
    dense: DenseMatches, flow: Float[Tensor, "m ps ps 2"], visibility: Bool[Tensor, "m ps ps"]
) -> tuple[Tensor, Tensor]:
    """Sum of the flow's errors, in pixels, and how many pixels are visible."""
    difference = masked_difference(dense.flow, flow, visibility.to(dense.flow))
    return (difference.norm(dim=-1) * flow.shape[1]).double().sum(), visibility.sum().double()
