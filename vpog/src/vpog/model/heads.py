"""What is read from decoded tokens: matches of patches, flows within matched pairs, and how much the solver trusts them."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vpog.model.attention import start_as_croco
from vpog.model.prediction import DenseMatches

START_TEMPERATURE = 0.07
SMALLEST_LOGIT_SCALE, LARGEST_LOGIT_SCALE = 1e-3, 100.0
SMALLEST_SCALE = 1e-4
"""Of the Laplace distribution, in patches."""
SMALL_START_STD = 0.02


class Projection(nn.Module):
    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, out))

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch out"]:
        out: Tensor = self.net(x)
        return out


class ClassificationHead(nn.Module):
    """Cosine similarity of projected tokens, times a learnt factor (an inverse temperature)."""

    def __init__(self, dim: int, hidden: int, proj: int) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1.0 / START_TEMPERATURE)))
        self.q_proj = Projection(dim, hidden, proj)
        self.t_proj = Projection(dim, hidden, proj)
        start_as_croco(self)

    def forward(
        self, query: Float[Tensor, "b sq p d"], templates: Float[Tensor, "b s p1 d"]
    ) -> Float[Tensor, "b s p p1"]:
        """Logits, always float32; sq is s or 1."""
        query, templates = self.q_proj(query), self.t_proj(templates)
        with torch.autocast(query.device.type, enabled=False):
            similarity = _unit(query) @ _unit(templates).transpose(-1, -2)
            scale = self.logit_scale.float().exp().clamp(SMALLEST_LOGIT_SCALE, LARGEST_LOGIT_SCALE)
            return scale * similarity


class DenseHead(nn.Module):
    """Flow of every pixel of a template patch into its query patch, with its uncertainty, and flow of the centre.

    It starts from the answer that pixels lie in the query patch where they lie in the template patch.
    """

    def __init__(self, dim: int, widths: tuple[int, int], patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        hidden, features = widths
        self.backbone = nn.Sequential(
            *(nn.Linear(2 * dim, hidden), nn.LayerNorm(hidden), nn.GELU()),
            *(nn.Linear(hidden, features), nn.LayerNorm(features), nn.GELU()),
        )
        self.flow_head = nn.Linear(features, 2 * patch_size**2)
        self.b_head = nn.Linear(features, patch_size**2)
        self.centre = Projection(2 * dim, hidden, 2)
        start_as_croco(self)
        for last in (self.flow_head, self.b_head, self.centre.net[-1]):
            nn.init.normal_(last.weight, std=SMALL_START_STD)  # type: ignore[arg-type]
        with torch.no_grad():
            self.flow_head.bias.copy_(pixel_offsets(patch_size).flatten())

    def forward(self, query: Float[Tensor, "m d"], templates: Float[Tensor, "m d"]) -> DenseMatches:
        """Of m matched pairs; m may be 0."""
        pairs = torch.cat((query, templates), -1)
        features, side = self.backbone(pairs), self.patch_size
        flow, raw, centre = self.flow_head(features), self.b_head(features), self.centre(pairs)
        scale = F.softplus(raw.float()) + SMALLEST_SCALE
        return DenseMatches(
            torch.unflatten(flow.float(), -1, (side, side, 2)), torch.unflatten(scale, -1, (side, side)), centre.float()
        )


class SolverScaleHead(nn.Module):
    """Two positive factors for the pose solver's weights, x and y."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2)
        nn.init.normal_(self.linear.weight, std=SMALL_START_STD)
        nn.init.zeros_(self.linear.bias)

    def forward(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b 2"]:
        log_scale: Tensor = self.linear(pooled)
        return log_scale.float().exp()


def pixel_offsets(patch_size: int) -> Float[Tensor, "ps ps 2"]:
    """Of each pixel of a patch from the patch's centre, which is pixel ps // 2; in patches, order (x, y)."""
    steps = (torch.arange(patch_size) - patch_size // 2) / patch_size
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack((columns, rows), -1)


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1)
