"""Parts of the translation heads: distance over the box's prior, and the place in the patch."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from handvit.model.depth_prior import box_geometry
from handvit.model.prediction import DepthBins, HandInput

GEOMETRY, HIDDEN = 6, 256


class BoxFeatures(nn.Module):
    """LN(token and an embedding of the box's geometry)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(GEOMETRY, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN))
        self.norm = nn.LayerNorm(dim + HIDDEN)

    def forward(
        self, token: Float[Tensor, "b t d"], frames: HandInput, log_prior: Float[Tensor, "b t"]
    ) -> Float[Tensor, "b t e"]:
        geometry = box_geometry(log_prior, frames.focal, frames.princpt, frames.hand_bbox)
        out: Tensor = self.norm(torch.cat((token, self.mlp(geometry)), -1))
        return out


class DistanceBins(nn.Module):
    """Logits of bins of log(distance / prior), and a residual for each."""

    def __init__(self, dim: int, num_bins: int) -> None:
        super().__init__()
        self.features = BoxFeatures(dim)
        self.logits = nn.Linear(dim + HIDDEN, num_bins)
        self.residuals = nn.Linear(dim + HIDDEN, num_bins)

    def forward(
        self, token: Float[Tensor, "b t d"], frames: HandInput, log_prior: Float[Tensor, "b t"], is_distance: bool
    ) -> DepthBins:
        features = self.features(token, frames, log_prior)
        return DepthBins(self.logits(features), self.residuals(features), log_prior, is_distance)


class DistanceRegression(nn.Module):
    """log(distance / prior); near zero, that is at the prior, in a new network."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.features = BoxFeatures(dim)
        self.log_ratio = nn.Linear(dim + HIDDEN, 1)
        nn.init.normal_(self.log_ratio.weight, std=1e-3)
        nn.init.zeros_(self.log_ratio.bias)

    def forward(
        self, token: Float[Tensor, "b t d"], frames: HandInput, log_prior: Float[Tensor, "b t"]
    ) -> Float[Tensor, "b t"]:
        out: Tensor = self.log_ratio(self.features(token, frames, log_prior))
        return out[..., 0]


class PatchHeatmap(nn.Module):
    """One distribution over all n x n cells of the patch (rows y, columns x), and its expectation."""

    def __init__(self, dim: int, num_cells: int) -> None:
        super().__init__()
        self.num_cells = num_cells
        self.to_cells = nn.Linear(dim, num_cells**2, bias=False)

    def forward(self, token: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b t n n"], Float[Tensor, "b t 2"]]:
        log_probabilities = self.to_cells(token).log_softmax(-1).unflatten(-1, (self.num_cells, self.num_cells))
        probabilities = log_probabilities.exp()
        center = (torch.arange(self.num_cells, device=token.device, dtype=token.dtype) + 0.5) / self.num_cells
        u = (probabilities.sum(-2) * center).sum(-1)
        v = (probabilities.sum(-1) * center).sum(-1)
        return log_probabilities, torch.stack((u, v), -1)
