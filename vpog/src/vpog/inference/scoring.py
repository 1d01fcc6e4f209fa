"""Which templates show what the query shows, told by classification alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from vpog.inference.objects import TemplateBank
from vpog.model.network import VpogNetwork
from vpog.model.prediction import GroupGeometry, Matching


@dataclass(frozen=True)
class PatchMatches:
    """The best template patch of each query patch."""

    patch: Int64[Tensor, "b s p"]
    """Number of the template patch."""
    probability: Float[Tensor, "b s p"]
    """0 where the query patch is outside the mask, or most probably matches nothing."""

    @property
    def score(self) -> Float[Tensor, "b s"]:
        """Sum over the query's patches."""
        return self.probability.sum(-1)


def patch_matches(logits: Float[Tensor, "b s p p1"], is_object: Bool[Tensor, "b p"]) -> PatchMatches:
    """`is_object`: query patches that may show the object."""
    probability = logits.float().softmax(-1)
    best, patch = probability[..., :-1].max(-1)
    is_matched = (best > probability[..., -1]) & is_object[:, None]
    return PatchMatches(patch, torch.where(is_matched, best, 0.0))


def match_groups(
    network: VpogNetwork, query_tokens: Float[Tensor, "g p d"], bank: TemplateBank, rows: Int64[Tensor, "g s"]
) -> Matching:
    """Queries, each with its group of the table's views. The group's mean direction is its reference."""
    directions = bank.directions[rows]
    geometry = GroupGeometry(directions, normalize(directions.sum(1), dim=-1))
    return network.match(query_tokens, bank.tokens[rows], geometry)


def score_views(
    network: VpogNetwork,
    query_tokens: Float[Tensor, "r p d"],
    is_object: Bool[Tensor, "r p"],
    bank: TemplateBank,
    groups: Int64[Tensor, "r g s"],
    views_at_once: int,
) -> Float[Tensor, "r g s"]:
    """How much of each query every view of its groups explains. Groups that are padding hold -1 and score -inf."""
    count, num_groups, size = groups.shape
    queries = torch.arange(count, device=groups.device).repeat_interleave(num_groups)
    flat = groups.reshape(-1, size)
    real = (flat >= 0).all(-1).nonzero()[:, 0]
    scores = query_tokens.new_full((len(flat), size), -torch.inf, dtype=torch.float32)
    for part in torch.split(real, max(1, views_at_once // size)):
        matching = match_groups(network, query_tokens[queries[part]], bank, flat[part])
        scores[part] = patch_matches(matching.logits, is_object[queries[part]]).score
    return scores.reshape(count, num_groups, size)
