"""Temporal encoders: tokens of a clip's frames, refined with what came before. Only differences of times matter."""

from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from handvit.model.attention import CrossAttentionLayers, FeedForward, PreNorm, SelfAttention


class TemporalEncoder(nn.Module):
    """What both kinds share: the unit of time, and the last projection, which starts at zero if so asked.

    `trope_scalar`: ms for one unit of the rotary encoding. The MLPs are twice as wide as the tokens.
    """

    def __init__(self, dim: int, trope_scalar: float, zero_linear: bool) -> None:
        super().__init__()
        self.trope_scalar = trope_scalar
        self.zero_linear = nn.Linear(dim, dim)
        if zero_linear:
            nn.init.zeros_(self.zero_linear.weight)
            nn.init.zeros_(self.zero_linear.bias)

    def times(self, timestamp_ms: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
        """Relative to the last frame: a video's late times would lose their small differences in the angles."""
        return (timestamp_ms - timestamp_ms[:, -1:]) / self.trope_scalar


class LastFrameEncoder(TemporalEncoder):
    """The last frame's token attends the raw tokens of all frames."""

    def __init__(
        self,
        dim: int,
        num_layer: int = 2,
        num_head: int = 8,
        dim_head: int = 64,
        trope_scalar: float = 20.0,
        zero_linear: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, trope_scalar, zero_linear)
        self.cross_attn = CrossAttentionLayers(dim, dim, num_layer, num_head, dim_head, 2 * dim, dropout, rotary=True)

    def forward(
        self, tokens: Float[Tensor, "b t d"], timestamp_ms: Float[Tensor, "b t"], all_frames: bool = False
    ) -> Float[Tensor, "b 1 d"]:
        if all_frames:
            raise ValueError("the temporal encoder of kind last answers for the last frame only; all need kind causal")
        times, last = self.times(timestamp_ms), tokens[:, -1:]
        seen = self.cross_attn(last, tokens, times[:, -1:], times)
        change: Tensor = self.zero_linear(seen)
        return last + change


class CausalEncoder(TemporalEncoder):
    """Every frame attends itself and the frames before it."""

    def __init__(
        self,
        dim: int,
        num_layer: int = 2,
        num_head: int = 8,
        dim_head: int = 64,
        trope_scalar: float = 20.0,
        zero_linear: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, trope_scalar, zero_linear)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                (
                    PreNorm(dim, SelfAttention(dim, num_head, dim_head, dropout, rotary=True, causal=True)),
                    PreNorm(dim, FeedForward(dim, 2 * dim, dropout)),
                )
            )
            for _ in range(num_layer)
        )

    def forward(
        self, tokens: Float[Tensor, "b t d"], timestamp_ms: Float[Tensor, "b t"], all_frames: bool = False
    ) -> Float[Tensor, "b t_out d"]:
        """Of all frames, or of the last one."""
        times = self.times(timestamp_ms)
        seen = tokens
        for layer in self.layers:
            attend, feed = cast(nn.ModuleList, layer)
            seen = feed(attend(seen, times))
        if not all_frames:
            tokens, seen = tokens[:, -1:], seen[:, -1:]
        change: Tensor = self.zero_linear(seen)
        return tokens + change
