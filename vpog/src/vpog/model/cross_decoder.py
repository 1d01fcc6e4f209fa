"""The group's decoder with public weights: the query looks at each template by itself."""

from jaxtyping import Float
from torch import Tensor

from vpog.model.croco_decoder import CrocoDecoder
from vpog.model.group_decoder import GroupDecoder, GroupTokens, UnmatchedToken
from vpog.model.prediction import GroupGeometry
from vpog.model.rope import rope2d


class CrossDecoder(GroupDecoder):
    """Templates do not see one another, so their directions are not needed; b * s pairs are one batch."""

    def __init__(self, encoder_dim: int, dim: int, depth: int, num_heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.width, self.grid = dim, grid
        self.croco = CrocoDecoder(encoder_dim, dim, depth, num_heads)
        self.unmatched = UnmatchedToken(dim)

    def forward(
        self, query: Float[Tensor, "b p e"], templates: Float[Tensor, "b s p e"], geometry: GroupGeometry
    ) -> GroupTokens:
        """Template tokens go to the heads as the decoder reads them: no query changes them."""
        b, s = templates.shape[:2]
        seen = self.croco.decoder_embed(templates)
        looking = self.croco.decoder_embed(query)[:, None].expand(-1, s, -1, -1)
        position = rope2d(self.grid, self.croco.head_dim, query.device)
        found = self.croco.decode(looking.flatten(0, 1), seen.flatten(0, 1), position)
        return GroupTokens(found.reshape(b, s, *found.shape[1:]), self.unmatched.appended(seen))
