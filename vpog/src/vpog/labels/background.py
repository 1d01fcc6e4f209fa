"""Background patches that are to be learnt as unmatched, so that a crop from a box alone can be read."""

from dataclasses import replace

import torch
from jaxtyping import Int64
from torch import Tensor

from posecore.data.counter_random import uniforms
from vpog.labels.records import FlowLabels

BACKGROUND_STREAM = 0x6C62
"""Of `counter_random`: other draws from a sample's seed take other numbers."""


def relabel_background(labels: FlowLabels, probability: float, seeds: Int64[Tensor, " b"]) -> FlowLabels:
    """Label background patches as unmatched (p in place of -1), each with this probability, in all templates alike.

    Args:
        seeds: Of each sample; a patch's draw depends on its sample's seed alone.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability: {probability} is not within 0..1")
    b, _, rows, columns = labels.patch_cls.shape
    drawn = uniforms(seeds, BACKGROUND_STREAM, rows * columns).reshape(b, 1, rows, columns) < probability
    unmatched = torch.full_like(labels.patch_cls, rows * columns)
    return replace(labels, patch_cls=torch.where((labels.patch_cls < 0) & drawn, unmatched, labels.patch_cls))
