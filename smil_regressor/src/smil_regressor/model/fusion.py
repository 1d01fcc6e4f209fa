"""Cross-view attention: the views of one moment exchange what they see."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from smil_regressor.model.attention import attend


class FusionLayer(nn.Module):
    """Pre-norm attention over the views, then a feed-forward block four times as wide.

    Parameter names are those of the published model, so that its checkpoints load.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, nn.Dropout(dropout)
        self.q_proj, self.k_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.v_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.ffn = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim), nn.Dropout(dropout)
        )

    def forward(self, x: Float[Tensor, "b v d"], view_mask: Bool[Tensor, "b v"] | None) -> Float[Tensor, "b v d"]:
        y = self.norm1(x)
        p = self.dropout.p if self.training else 0.0
        y = attend(self.q_proj(y), self.k_proj(y), self.v_proj(y), self.num_heads, view_mask, p)
        x = x + self.dropout(self.out_proj(y))
        ffn: Tensor = self.ffn(self.norm2(x))
        return x + ffn


class ViewFusion(nn.Module):
    """`num_layers` fusion layers and a final norm. Masked views are never attended; their own rows stay finite."""

    def __init__(self, dim: int, num_layers: int = 2, num_heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{num_heads} attention heads do not divide the feature width {dim}")
        self.layers = nn.ModuleList(FusionLayer(dim, num_heads, dropout) for _ in range(num_layers))
        self.final_norm = nn.LayerNorm(dim)

    def forward(
        self, features: Float[Tensor, "b v d"], view_mask: Bool[Tensor, "b v"] | None = None
    ) -> Float[Tensor, "b v d"]:
        for layer in self.layers:
            features = layer(features, view_mask)
        fused: Tensor = self.final_norm(features)
        return fused
