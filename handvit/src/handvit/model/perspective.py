"""What the camera sees through the patch: viewing rays on a grid, brought into the tokens."""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from handvit.model.attention import CrossAttentionLayers, TokenDecoder


def cell_centers(num_sample: int) -> Float[Tensor, "n n 2"]:
    """Centres (i + 0.5) / n of an n x n grid over the patch, 0..1; the first index runs along x."""
    edge = (torch.arange(num_sample) + 0.5) / num_sample
    return torch.stack(torch.meshgrid(edge, edge, indexing="ij"), -1)


def ray_grid(
    grid_uv: Float[Tensor, "n n 2"],
    patch_bbox: Float[Tensor, "b 4"],
    focal: Float[Tensor, "b 2"],
    princpt: Float[Tensor, "b 2"],
) -> Float[Tensor, "b n n 2"]:
    """x and y of the unit viewing rays through the grid's points; boxes and K in the same pixels."""
    corner, size = patch_bbox[:, None, None, :2], (patch_bbox[:, 2:] - patch_bbox[:, :2])[:, None, None]
    pixels = corner + grid_uv * size
    slopes = (pixels - princpt[:, None, None]) / focal[:, None, None]
    return F.normalize(F.pad(slopes, (0, 1), value=1.0), dim=-1)[..., :2]


class PerspCrossAttention(nn.Module):
    """`ca`: tokens attend rays and their places; the answer is added through a projection that starts at zero."""

    grid_uv: Tensor

    def __init__(self, dim: int, num_tokens: int, num_sample: int = 8, num_head: int = 8, dim_head: int = 64) -> None:
        super().__init__()
        grid_uv = cell_centers(num_sample)
        self.register_buffer("grid_edge", grid_uv[:, 0, 0].clone())
        self.register_buffer("grid_uv", grid_uv)
        layers = CrossAttentionLayers(dim, 4, 1, num_head, dim_head, 4 * dim, 0.0)
        self.net = TokenDecoder(num_tokens, dim, dim, layers)
        self.zero_linear = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.zero_linear.weight)

    def context(
        self, patch_bbox: Float[Tensor, "b 4"], focal: Float[Tensor, "b 2"], princpt: Float[Tensor, "b 2"]
    ) -> Float[Tensor, "b nn 4"]:
        rays = ray_grid(self.grid_uv, patch_bbox, focal, princpt)
        return torch.cat((rays, self.grid_uv.expand_as(rays)), -1).flatten(1, 2)

    def forward(
        self,
        tokens: Float[Tensor, "b n d"],
        patch_bbox: Float[Tensor, "b 4"],
        focal: Float[Tensor, "b 2"],
        princpt: Float[Tensor, "b 2"],
    ) -> Float[Tensor, "b n d"]:
        answer: Tensor = self.zero_linear(self.net(tokens, self.context(patch_bbox, focal, princpt)))
        return tokens + answer


class PerspDense(nn.Module):
    """`dense`: one vector made of all rays is added to the class token, the patches, or all.

    Its batch norms use the batch of one process in training (see LayerFusion) and stored statistics in eval().
    """

    grid_uv: Tensor

    def __init__(
        self, dim: int, has_cls: bool, num_sample: int = 8, fusion: Literal["cls", "patch", "all"] = "all"
    ) -> None:
        super().__init__()
        if fusion == "cls" and not has_cls:
            raise ValueError("fusion cls needs a class token, and these tokens have none")
        self.register_buffer("grid_uv", cell_centers(num_sample), persistent=False)
        self.fusion, self.has_cls = fusion, has_cls
        widths = (2 * num_sample**2, dim, dim, dim)
        self.mlp = nn.Sequential(
            *(
                layer
                for before, after in pairwise(widths)
                for layer in (nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU())
            )
        )

    def forward(
        self,
        tokens: Float[Tensor, "b n d"],
        patch_bbox: Float[Tensor, "b 4"],
        focal: Float[Tensor, "b 2"],
        princpt: Float[Tensor, "b 2"],
    ) -> Float[Tensor, "b n d"]:
        rays = ray_grid(self.grid_uv, patch_bbox, focal, princpt)
        added: Tensor = self.mlp(rays.flatten(1))[:, None]
        if self.fusion == "cls":
            return torch.cat((tokens[:, :1] + added, tokens[:, 1:]), 1)
        if self.fusion == "patch" and self.has_cls:
            return torch.cat((tokens[:, :1], tokens[:, 1:] + added), 1)
        return tokens + added


PerspInfoEmbedder = PerspCrossAttention | PerspDense
