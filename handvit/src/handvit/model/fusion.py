"""Fusion of several layers of the image encoder into one set of tokens."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

NARROW = 64
"""Width that each layer is brought to."""


class LayerFusion(nn.Module):
    """Each layer is narrowed, the layers are concatenated and mixed, class token and patches apart.

    All projections end in batch norm and ReLU: in training a result depends on the other samples of the batch of one
    process, and gradient accumulation normalises each part by itself. In eval() the stored statistics are used.
    """

    projection_cls: nn.ModuleList | None
    fusion_cls: nn.Module | None

    def __init__(self, dim: int, num_layers: int, with_cls: bool) -> None:
        super().__init__()
        self.projections_map = nn.ModuleList(_on_map(dim, NARROW, 1) for _ in range(num_layers))
        self.fusion_conv = _on_map(NARROW * num_layers, dim, 3)
        self.projection_cls = nn.ModuleList(_on_cls(dim, NARROW) for _ in range(num_layers)) if with_cls else None
        self.fusion_cls = _on_cls(NARROW * num_layers, dim) if with_cls else None

    def fuse(
        self, cls: Sequence[Float[Tensor, "n d"]] | None, maps: Sequence[Float[Tensor, "n d h w"]]
    ) -> Float[Tensor, "n p d"]:
        """Tokens of class (where this fusion has it) and patches, patches row by row."""
        narrow = [project(layer) for project, layer in zip(self.projections_map, maps, strict=True)]
        patches: Tensor = self.fusion_conv(torch.cat(narrow, 1)).flatten(2).transpose(1, 2)
        if self.projection_cls is None or self.fusion_cls is None:
            return patches
        assert cls is not None, "this fusion was made for class tokens"
        token = self.fusion_cls(torch.cat([p(layer) for p, layer in zip(self.projection_cls, cls, strict=True)], 1))
        return torch.cat((token[:, None], patches), 1)


def _on_cls(width: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, out), nn.BatchNorm1d(out), nn.ReLU())


def _on_map(width: int, out: int, kernel: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, out, kernel, padding=kernel // 2), nn.BatchNorm2d(out), nn.ReLU())
