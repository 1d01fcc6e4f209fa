"""The group's own decoder: a query and all its templates attend one another, then each picture attends itself."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vpog.model.attention import FeedForward, SelfAttention, start_as_croco
from vpog.model.group_decoder import GroupDecoder, GroupTokens, UnmatchedToken
from vpog.model.positions import TemplatePositions
from vpog.model.prediction import GroupGeometry
from vpog.model.rope import Consecutive, Position, Rotary, grid_positions, rope2d, rope2d_angles
from vpog.model.windows import from_windows, to_windows

MLP_RATIO = 4


@dataclass(frozen=True)
class GroupLayout:
    """What every block of a batch needs besides its tokens; made once."""

    grid: tuple[int, int]
    window: int
    group_position: Position
    """Of the query's patches and then all templates' tokens."""
    query_windows: Position
    template_windows: Position
    is_attended: Bool[Tensor, "b n"] | None


class JointBlock(nn.Module):
    """Attention over the group, attention within windows of each picture, feed-forward; pre-norm."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm_q1, self.norm_q2, self.norm_q3 = (nn.LayerNorm(dim) for _ in range(3))
        self.norm_t1, self.norm_t2, self.norm_t3 = (nn.LayerNorm(dim) for _ in range(3))
        self.g_attn = SelfAttention(dim, num_heads)
        self.l_attn = SelfAttention(dim, num_heads)
        self.mlp_q = FeedForward(dim, MLP_RATIO * dim)
        self.mlp_t = FeedForward(dim, MLP_RATIO * dim)

    def forward(
        self, query: Float[Tensor, "b p d"], templates: Float[Tensor, "b s p1 d"], layout: GroupLayout
    ) -> tuple[Float[Tensor, "b p d"], Float[Tensor, "b s p1 d"]]:
        p, group = query.shape[1], templates.shape[1:3]
        tokens = torch.cat((self.norm_q1(query), self.norm_t1(templates).flatten(1, 2)), 1)
        change = self.g_attn(tokens, layout.group_position, layout.is_attended)
        query, templates = query + change[:, :p], templates + torch.unflatten(change[:, p:], 1, group)
        query = query + self._within_query(self.norm_q2(query), layout)
        templates = templates + self._within_templates(self.norm_t2(templates), layout)
        return query + self.mlp_q(self.norm_q3(query)), templates + self.mlp_t(self.norm_t3(templates))

    def _within_query(self, tokens: Float[Tensor, "b p d"], layout: GroupLayout) -> Float[Tensor, "b p d"]:
        windows = to_windows(tokens, layout.grid, layout.window)
        attended = self.l_attn(windows.flatten(0, 1), layout.query_windows)
        return from_windows(torch.unflatten(attended, 0, windows.shape[:2]), layout.grid, layout.window)

    def _within_templates(self, tokens: Float[Tensor, "b s p1 d"], layout: GroupLayout) -> Float[Tensor, "b s p1 d"]:
        """The unmatched token joins every window; it changes by the mean of what they say."""
        each = tokens.flatten(0, 1)
        windows = to_windows(each[:, :-1], layout.grid, layout.window)
        unmatched = each[:, None, -1:].expand(-1, windows.shape[1], -1, -1)
        joined = torch.cat((windows, unmatched), 2)
        attended = self.l_attn(joined.flatten(0, 1), layout.template_windows)
        attended = torch.unflatten(attended, 0, joined.shape[:2])
        patches = from_windows(attended[:, :, :-1], layout.grid, layout.window)
        unmatched = attended[:, :, -1].mean(1, keepdim=True)
        return torch.unflatten(torch.cat((patches, unmatched), 1), 0, tokens.shape[:2])


class JointDecoder(GroupDecoder):
    """Attention over 162 templates is over 32,000 tokens: score them in chunks, then decode the best together."""

    def __init__(
        self,
        encoder_dim: int,
        dim: int,
        depth: int,
        num_heads: int,
        window: int,
        grid: tuple[int, int],
        positions: TemplatePositions,
    ) -> None:
        super().__init__()
        self.width, self.head_dim, self.window, self.grid = dim, dim // num_heads, window, grid
        self.positions = positions
        self.embed = nn.Identity() if encoder_dim == dim else nn.Linear(encoder_dim, dim)
        self.blocks = nn.ModuleList(JointBlock(dim, num_heads) for _ in range(depth))
        self.unmatched = UnmatchedToken(dim)
        start_as_croco(self)

    def forward(
        self, query: Float[Tensor, "b p e"], templates: Float[Tensor, "b s p e"], geometry: GroupGeometry
    ) -> GroupTokens:
        query, known = self.embed(query), self.unmatched.appended(self.embed(templates))
        layout = self.layout(geometry)
        for block in self.blocks:
            query, known = block(query, known, layout)
        return GroupTokens(query[:, None], known)

    def layout(self, geometry: GroupGeometry) -> GroupLayout:
        b, s = geometry.directions.shape[:2]
        device = geometry.directions.device
        p = self.grid[0] * self.grid[1]
        query_position = rope2d(self.grid, self.head_dim, device)
        windows = window_angles(self.grid, self.window, self.head_dim, device)
        with_unmatched = nn.functional.pad(windows, (0, 0, 0, 1))
        return GroupLayout(
            self.grid,
            self.window,
            Consecutive(query_position, self.positions(geometry, self.grid), p),
            Rotary.of_angles(windows[:, None], "halves").repeated(b),
            Rotary.of_angles(with_unmatched[:, None], "halves").repeated(b * s),
            None if geometry.is_valid is None else _attended_tokens(geometry.is_valid, p),
        )


def window_angles(
    grid: tuple[int, int], window: int, head_dim: int, device: torch.device
) -> Float[Tensor, "windows ww half_d"]:
    """RoPE2D by the place in the whole picture: the unmatched token, which does not turn, tells windows apart."""
    return rope2d_angles(to_windows(grid_positions(grid, device)[None], grid, window)[0], head_dim)


def _attended_tokens(is_valid: Bool[Tensor, "b s"], p: int) -> Bool[Tensor, "b n"]:
    query = torch.ones(len(is_valid), p, dtype=torch.bool, device=is_valid.device)
    return torch.cat((query, is_valid.repeat_interleave(p + 1, 1)), 1)
