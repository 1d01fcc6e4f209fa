"""Which template patch a query patch shows."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from posecore.data.counter_random import uniforms
from posecore.losses import Term

BACKGROUND_STREAM = 7201
"""Of `counter_random`: which background patches count as unmatched."""


def background_as_unmatched(
    patch_cls: Int64[Tensor, "b s hp wp"], seeds: Int64[Tensor, " b"], probability: float
) -> Int64[Tensor, "b s hp wp"]:
    """Relabel some background patches (-1) as unmatched (p), for all templates of a sample alike, so that a network that
    is given a box alone learns to say no. The choice depends on the sample's seed alone."""
    hp, wp = patch_cls.shape[-2:]
    is_chosen = uniforms(seeds, BACKGROUND_STREAM, hp * wp).reshape(-1, 1, hp, wp) < probability
    return torch.where((patch_cls < 0) & is_chosen, hp * wp, patch_cls)


def classification_term(
    logits: Float[Tensor, "b s p p1"],
    patch_cls: Int64[Tensor, "b s hp wp"],
    tau: float = 1.0,
    unmatched_weight: float = 1.0,
    label_smoothing: float = 0.0,
) -> Term:
    """Cross entropy of the patches that have a label; unmatched ones weigh otherwise, but all count as one."""
    labels, is_labelled, is_unmatched = _labels(logits, patch_cls)
    error = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 2) / tau, labels, reduction="none", label_smoothing=label_smoothing
    )
    weight = torch.where(is_unmatched, unmatched_weight, 1.0) * is_labelled
    return Term((error * weight).sum(), is_labelled.sum().to(error))


def classification_count(patch_cls: Int64[Tensor, "b s hp wp"]) -> Float[Tensor, ""]:
    return (patch_cls >= 0).sum().float()


def accuracy_sums(
    logits: Float[Tensor, "b s p p1"], patch_cls: Int64[Tensor, "b s hp wp"]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Right answers and what they are of: all labelled patches, those with a match, those without."""
    labels, is_labelled, is_unmatched = _labels(logits, patch_cls)
    is_right = logits.flatten(0, 2).argmax(-1) == labels
    groups = {"": is_labelled, "_matched": is_labelled & ~is_unmatched, "_unmatched": is_unmatched}
    return {
        f"accuracy{name}": ((is_right & group).sum().double(), group.sum().double()) for name, group in groups.items()
    }


def _labels(logits: Tensor, patch_cls: Tensor) -> tuple[Int64[Tensor, " n"], Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Labels that index the logits, which of them exist, and which say unmatched."""
    labels = patch_cls.flatten()
    return labels.clamp_min(0), labels >= 0, labels == logits.shape[-1] - 1
