"""Which tokens mark keypoints in some pictures, from their scores: a few pictures' maps at a time."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keypoint_nvs.model.token_scores import TokenScores
from keypoint_nvs.peaks import argmax_peaks
from keypoint_nvs.selection import Ranking, farthest_points, gaussian_kl, map_entropy

MAPS_AT_ONCE = 2**25
"""Pixels of maps of all tokens, 128 MB; all pictures of a batch would be gigabytes."""


@dataclass(frozen=True)
class ChoiceRule:
    """`selection.select_tokens_of_views` has the meaning of each field."""

    num_keypoints: int = 10
    candidates: int = 25
    sigma: float = 2.0
    """Pixels of the map."""
    ranking: Ranking = "kl"
    fps_on: Literal["transformed", "original"] = "original"
    subjects: int = 1


@torch.no_grad()
def choose_tokens(
    scores: TokenScores, views: int, rule: ChoiceRule, warped: TokenScores | None = None
) -> Int64[Tensor, "b k"]:
    """Tokens of each of b objects, over its `views` pictures that follow each other in `scores`.

    The same as `select_tokens_of_views` on the maps of all tokens. `warped`: of the warped copies, whose peaks'
    distances count with fps_on transformed.
    """
    costs, peaks = _costs_and_peaks(scores, rule)
    if warped is not None and rule.fps_on == "transformed":
        peaks = torch.cat([argmax_peaks(maps) for maps in warped.maps_in_parts(_at_once(warped))])
    best = torch.unflatten(costs, 0, (-1, views)).mean(1).sort(dim=-1, stable=True).indices[:, : rule.candidates]
    places = torch.unflatten(peaks, 0, (-1, views)).transpose(1, 2).flatten(2)  # (b m 2v)
    kept = farthest_points(places.gather(1, best[..., None].expand(-1, -1, places.shape[-1])), rule.num_keypoints)
    chosen: Tensor = best.gather(1, kept)
    return chosen


def _costs_and_peaks(scores: TokenScores, rule: ChoiceRule) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m 2"]]:
    costs, peaks = [], []
    for maps in scores.maps_in_parts(_at_once(scores)):
        peaks.append(argmax_peaks(maps))
        costs.append(_costs(maps, rule))
    return torch.cat(costs), torch.cat(peaks)


def _costs(maps: Float[Tensor, "n m r r"], rule: ChoiceRule) -> Float[Tensor, "n m"]:
    if rule.ranking == "kl":
        return gaussian_kl(maps, rule.sigma, rule.subjects)
    if rule.ranking == "entropy":
        return map_entropy(maps)
    order = torch.arange(maps.shape[1], device=maps.device, dtype=maps.dtype)
    return order.expand(len(maps), -1)


def _at_once(scores: TokenScores) -> int:
    return max(1, MAPS_AT_ONCE // (scores.num_tokens * scores.size**2))
