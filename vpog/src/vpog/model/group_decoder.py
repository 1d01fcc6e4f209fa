"""What the network needs of a decoder: tokens of a query and of its templates in, tokens that know each other out."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vpog.model.prediction import GroupGeometry


@dataclass(frozen=True)
class GroupTokens:
    query: Float[Tensor, "b sq p d"]
    """sq: 1 where the decoder sees the group at once, else s."""
    templates: Float[Tensor, "b s p1 d"]
    """Of p patches and, last, of no patch at all ("unmatched")."""


class GroupDecoder(nn.Module):
    width: int
    """d, of its tokens."""

    def forward(
        self, query: Float[Tensor, "b p e"], templates: Float[Tensor, "b s p e"], geometry: GroupGeometry
    ) -> GroupTokens:
        """Any number of templates from 1."""
        raise NotImplementedError


class UnmatchedToken(nn.Module):
    """One learnt token that stands, in every template, for "this query patch is not here"."""

    START_STD = 0.02

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(self.START_STD * torch.randn(dim))

    def appended(self, templates: Float[Tensor, "b s p d"]) -> Float[Tensor, "b s p1 d"]:
        token = self.token.to(templates.dtype).expand(*templates.shape[:2], 1, -1)
        return torch.cat((templates, token), 2)
