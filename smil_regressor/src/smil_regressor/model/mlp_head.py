"""Body head: a multi-layer perceptron on one pooled feature, all parameters at once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from smil_regressor.model.state import State, StateLayout


class MLPHead(nn.Module):
    """Three hidden layers (h, h/2, h/4), each with LayerNorm, ReLU and dropout, then one linear layer.

    It predicts the difference to the initial state; same result as the decoder head, with a history of one.
    Layer names are those of the published model.
    """

    initial: Tensor
    fc1: nn.Linear

    def __init__(
        self,
        layout: StateLayout,
        feature_dim: int,
        hidden_dim: int = 1024,
        dropout: float = 0.3,
        initial: State | None = None,
    ) -> None:
        super().__init__()
        if hidden_dim < 4:
            raise ValueError(f"the MLP head needs a hidden width of 4 or more, got {hidden_dim}")
        widths = [feature_dim, hidden_dim, hidden_dim // 2, hidden_dim // 4]
        for i in (1, 2, 3):
            self.add_module(f"fc{i}", nn.Linear(widths[i - 1], widths[i]))
            self.add_module(f"ln{i}", nn.LayerNorm(widths[i]))
        self.dropout = nn.Dropout(dropout)
        state = initial or layout.initial()
        self.widths = {name: value.shape[-1] for name, value in state.items()}
        self.register_buffer("initial", torch.cat(list(state.values()), dim=-1))
        self.regressor = nn.Linear(widths[3], sum(self.widths.values()))
        nn.init.xavier_uniform_(self.regressor.weight, gain=0.01)
        nn.init.zeros_(self.regressor.bias)

    def forward(self, features: Float[Tensor, "b d"]) -> tuple[list[State], Int[Tensor, ""]]:
        """The state, and how many of its values were not finite and were left at their initial value."""
        with torch.autocast(features.device.type, enabled=False):
            x = features.float()
            for i in (1, 2, 3):
                x = self.get_submodule(f"fc{i}")(x)
                x = self.dropout(torch.relu(self.get_submodule(f"ln{i}")(x)))
            step: Tensor = self.regressor(x)
            finite = step.isfinite()
            parts = torch.split(self.initial + torch.where(finite, step, 0.0), list(self.widths.values()), dim=-1)
            return [dict(zip(self.widths, parts, strict=True))], (~finite).sum()
