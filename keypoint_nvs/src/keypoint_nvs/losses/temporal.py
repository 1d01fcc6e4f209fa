"""Maps of neighbouring frames of a video resemble each other (Skel4D)."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

TemporalKind = Literal["l2", "kl", "weighted"]
FLOOR = 1e-8
"""Added to probabilities before their logarithm."""
DECAY = 0.1
"""Squared difference of a map at which the weight of `weighted` has fallen to 1/e."""


def temporal(
    maps: Float[Tensor, "*batch k h w"],
    next_maps: Float[Tensor, "*batch k h w"],
    kind: TemporalKind = "l2",
    token_weights: Float[Tensor, "*batch k"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Difference of the same tokens' maps in two frames.

    Args:
        kind: l2: mean squared difference. kl: divergence of the first frame's map, made a distribution over pixels by a
            softmax, from the next one's; mean over pixels as upstream has it. weighted: l2 times the mean over tokens of
            exp(-difference / 0.1): frames that differ much, as at a cut, are let go.
        token_weights: Each token's difference is multiplied by its own. The mean still counts all tokens.
    """
    differences = _differences(maps, next_maps, kind)
    weighed = differences if token_weights is None else differences * token_weights
    mean: Tensor = weighed.mean(-1)
    return mean * torch.exp(-differences / DECAY).mean(-1) if kind == "weighted" else mean


def temporal_errors(
    maps: Float[Tensor, "b v k r r"],
    selected: Int64[Tensor, "b k"],
    follows: Bool[Tensor, " b"],
    kind: TemporalKind = "l2",
) -> Float[Tensor, " b"]:
    """Of each sample and the one before it in the batch, over the tokens that both have chosen, mean over views.

    0 where a sample does not follow its neighbour (`follows`; that of the first is ignored), or where no token is in both.
    """
    same = selected[1:, :, None] == selected[:-1, None, :]  # (b-1 k k'): token k of a sample is k' of the one before
    is_shared = same.any(-1)
    before = torch.einsum("bkl,bvlij->bvkij", same.to(maps.dtype), maps[:-1])
    differences = _differences(before, maps[1:], kind)
    errors = _mean_of(differences, is_shared)
    if kind == "weighted":
        errors = errors * _mean_of(torch.exp(-differences / DECAY), is_shared)
    return torch.cat([errors.new_zeros(1), torch.where(follows[1:], errors.mean(1), 0)])


def follows_previous(sample_ids: Sequence[str], frames: int | None = None) -> list[bool]:
    """Whether a sample is of the same object (or folder) as the one before it in the batch: ids are OBJECT/INDEX.

    `frames`: the batch is clips of so many, one after the other, and the first of a clip follows nothing, whatever clip
    is before it: then the pairs do not depend on how the batch is split. None: every neighbour counts.
    """
    objects = [sample_id.rpartition("/")[0] for sample_id in sample_ids]
    is_inside = [i > 0 and (frames is None or i % frames > 0) for i in range(len(objects))]
    return [
        inside and bool(name) and name == objects[i - 1]
        for i, (inside, name) in enumerate(zip(is_inside, objects, strict=True))
    ]


def _differences(maps: Tensor, next_maps: Tensor, kind: TemporalKind) -> Tensor:
    """Of each token's maps (* k)."""
    if kind == "kl":
        now, later = (_over_pixels(values) for values in (maps, next_maps))
        return (now * (now / later).log()).mean(-1)
    return (maps - next_maps).square().flatten(-2).mean(-1)


def _over_pixels(maps: Tensor) -> Tensor:
    return maps.flatten(-2).softmax(-1) + FLOOR


def _mean_of(values: Tensor, is_shared: Tensor) -> Tensor:
    """Mean over the tokens (b v k) that two samples share (b k); 0 where they share none."""
    mask = is_shared[:, None].to(values.dtype)
    mean: Tensor = (values * mask).sum(-1) / mask.sum(-1).clamp_min(1)
    return mean
