"""Body head: a transformer decoder with iterative error feedback (IEF).

The state (pose, shape, placement, limbs) becomes one token; the token attends the image tokens; small linear heads
read a correction from it; the corrected state is fed back. After HMR 2.0 (Goel et al. 2023) and AniMer (Lyu et al.
2025).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from smil_regressor.model.attention import attend
from smil_regressor.model.state import State, StateLayout

MESH_SCALE_STEP = 0.1


EMBEDDING_GAIN = 0.1


class CrossAttention(nn.Module):
    """Queries from the token, keys and values from the context; `num_heads * dim_head` wide inside."""

    def __init__(self, dim: int, context_dim: int, num_heads: int, dim_head: int, dropout: float) -> None:
        super().__init__()
        inner = num_heads * dim_head
        self.num_heads, self.dropout = num_heads, dropout
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(context_dim, 2 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim), nn.Dropout(dropout))

    def forward(self, token: Tensor, key_value: Tensor, mask: Tensor | None) -> Tensor:
        key, value = key_value.chunk(2, dim=-1)
        p = self.dropout if self.training else 0.0
        out: Tensor = self.to_out(attend(self.to_q(token), key, value, self.num_heads, mask, p))
        return out


class FeedForward(nn.Module):
    def __init__(self, dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim, mlp_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(mlp_dim, dim), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class DecoderLayer(nn.Module):
    """Pre-norm cross-attention, then a feed-forward block. `key_value` does not depend on the state."""

    def __init__(self, dim: int, context_dim: int, num_heads: int, dim_head: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm_context, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(context_dim), nn.LayerNorm(dim)
        self.cross_attn = CrossAttention(dim, context_dim, num_heads, dim_head, dropout)
        self.ff = FeedForward(dim, mlp_dim, dropout)

    def key_value(self, context: Tensor) -> Tensor:
        out: Tensor = self.cross_attn.to_kv(self.norm_context(context))
        return out

    def forward(self, token: Tensor, key_value: Tensor, mask: Tensor | None) -> Tensor:
        token = token + self.cross_attn(self.norm1(token), key_value, mask)
        feed: Tensor = self.ff(self.norm2(token))
        return token + feed


class DecoderHead(nn.Module):
    """Tokens in, the state after each iteration out. Runs in float32 also under autocast.

    Parameter and buffer names are those of the published model. `trans_factor` and `scale_factor` multiply the
    corrections of the placement with the joint offsets, and of the limb scales.
    """

    token_embedding: nn.Linear

    def __init__(
        self,
        layout: StateLayout,
        context_dim: int,
        hidden_dim: int = 1024,
        depth: int = 6,
        num_heads: int = 8,
        dim_head: int = 64,
        mlp_dim: int = 1024,
        dropout: float = 0.1,
        iterations: int = 3,
        trans_factor: float = 1.0,
        scale_factor: float = 1.0,
        initial: State | None = None,
    ) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"IEF needs at least one iteration, got {iterations}")
        self.layout, self.iterations = layout, iterations
        self.factors = {"trans": trans_factor, "joint_trans": trans_factor, "scales": scale_factor}
        self.pos_embedding = nn.Parameter(torch.zeros(1, 1, hidden_dim))
        self.param_norm = nn.LayerNorm(layout.dim)
        self.token_embedding = nn.Linear(layout.dim, hidden_dim)
        self.layers = nn.ModuleList(
            DecoderLayer(hidden_dim, context_dim, num_heads, dim_head, mlp_dim, dropout) for _ in range(depth)
        )
        initial = initial or layout.initial()
        self.names = tuple(initial)
        for name, value in initial.items():
            self.register_buffer(f"init_{name}", value.clone())
            self.add_module(f"{name}_head", nn.Linear(hidden_dim, value.shape[-1]))
        self._initialise()

    def _initialise(self) -> None:
        """Small first corrections: the first predictions are near the initial state."""
        heads = [module for name, module in self.named_children() if name.endswith("_head")]
        for module, gain in [(self.token_embedding, EMBEDDING_GAIN), *((head, 0.01) for head in heads)]:
            assert isinstance(module, nn.Linear)
            nn.init.xavier_uniform_(module.weight, gain=gain)
            nn.init.zeros_(module.bias)
        nn.init.normal_(self.pos_embedding, std=0.02)

    def reset_token_embedding(self) -> None:
        """Begin the state's embedding afresh, as a new head has it."""
        nn.init.xavier_uniform_(self.token_embedding.weight, gain=EMBEDDING_GAIN)
        nn.init.zeros_(self.token_embedding.bias)

    def initial_state(self, batch: int) -> State:
        return {name: self.get_buffer(f"init_{name}").expand(batch, -1) for name in self.names}

    def forward(
        self, context: Float[Tensor, "b k d"], context_mask: Bool[Tensor, "b k"] | None = None
    ) -> tuple[list[State], Int[Tensor, ""]]:
        """States after each iteration, and how many corrections were not finite and were left out."""
        with torch.autocast(context.device.type, enabled=False):
            context = context.float()
            # Keys and values depend on the images alone: once a layer, not once a layer and iteration.
            key_values = [layer.key_value(context) for layer in self.layers]  # type: ignore[operator]
            state = self.initial_state(context.shape[0])
            history, nonfinite = [], torch.zeros((), dtype=torch.long, device=context.device)
            for _ in range(self.iterations):
                state, dropped = self.refine(state, key_values, context_mask)
                history.append(state)
                nonfinite = nonfinite + dropped
            return history, nonfinite

    def refine(self, state: State, key_values: list[Tensor], mask: Tensor | None) -> tuple[State, Tensor]:
        """One iteration: the state corrected by what its own token reads from the context."""
        vector = torch.cat([state[name] for name in self.layout.groups], dim=-1)
        token = self.token_embedding(self.param_norm(vector))[:, None] + self.pos_embedding
        for layer, key_value in zip(self.layers, key_values, strict=True):
            token = layer(token, key_value, mask)
        refined: State = {}
        dropped = torch.zeros((), dtype=torch.long, device=token.device)
        for name, value in state.items():
            step = self.get_submodule(f"{name}_head")(token[:, 0])
            finite = step.isfinite()
            dropped = dropped + (~finite).sum()
            factor = MESH_SCALE_STEP if name == "mesh_scale" else self.factors.get(name, 1.0)
            refined[name] = value + factor * torch.where(finite, step, 0.0)
        return refined, dropped
