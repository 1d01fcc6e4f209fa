"""A loss term as a sum and a count, so that masked means are right on any split of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Term:
    """Sum of errors and how much they count; the loss is total / count.

    A term may have groups (the views): its loss is the mean over the groups that have data of each group's mean.
    """

    total: Float[Tensor, "*groups"]
    count: Float[Tensor, "*groups"]

    def mean(self, count: Float[Tensor, "*groups"] | None = None) -> Float[Tensor, ""]:
        """With `count` of the whole global batch: this part's share of the loss. 0 where nothing counts."""
        count = self.count if count is None else count
        has_data = count > 0
        share = torch.where(has_data, self.total / torch.where(has_data, count, 1), 0)
        return share.sum() / has_data.sum().clamp_min(1)

    def names(self, name: str) -> list[str]:
        """Names of its counts, one a group."""
        return [name] if self.count.ndim == 0 else [f"{name}.{i}" for i in range(len(self.count))]

    def counts(self, name: str) -> dict[str, Tensor]:
        return dict(zip(self.names(name), self.count.reshape(-1).unbind(), strict=True))


def weighed(error: Float[Tensor, "*shape"], weight: Float[Tensor, "*shape"], groups: bool = False) -> Term:
    """Weighed sum and sum of weights (`groups`: one of each per index of the second axis). Weight 0 leaves out."""
    total = torch.where(weight > 0, error, 0) * weight
    if not groups:
        return Term(total.sum(), weight.sum())
    return Term(total.sum(0), weight.sum(0))


def masked_difference(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """prediction - target, 0 where the weight is 0: targets there may be nan, and nan * 0 is nan, in gradients too."""
    extra = prediction.ndim - weight.ndim
    mask = (weight > 0).reshape(*weight.shape, *[1] * extra)
    return torch.where(mask, prediction - target, 0)


def total_loss(
    terms: Mapping[str, Term], weights: Mapping[str, float], denominators: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Each term's loss, and their weighed sum as `total`.

    A term `a/b` has the weight of `a` and the denominator of `b` (intermediate iterations of IEF), and adds to `a`.
    Terms without a weight are reported only.
    """
    values: dict[str, Tensor] = {}
    for name, term in terms.items():
        group, _, counted = name.rpartition("/")
        count = None
        if denominators is not None:
            count = torch.stack([denominators[key] for key in term.names(counted)]).reshape(term.count.shape)
        label = group or counted
        value = term.mean(None if count is None else count.to(term.total))
        values[label] = values[label] + value if label in values else value
    if not values:
        raise ValueError("no loss term has a weight: nothing would be learned")
    values["total"] = torch.stack([weights.get(name, 0.0) * value for name, value in values.items()]).sum()
    return values
