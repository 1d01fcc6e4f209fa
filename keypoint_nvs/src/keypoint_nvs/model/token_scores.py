"""What a pass over pictures leaves for the maps of tokens: queries and keys of the captured layers."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keypoint_nvs.model.token_softmax import ChosenTokenMaps, all_token_maps


@dataclass(frozen=True)
class LayerScores:
    """Of one cross-attention: its scores are queries times keys, float32."""

    query: Float[Tensor, "n h s s d"]
    """Of each pixel of the layer's own map, times head_dim^-0.5."""
    key: Float[Tensor, "h m d"]
    """Of each token; the same for all pictures."""

    def scores(self) -> Float[Tensor, "n h m s s"]:
        """At the layer's own resolution, before any softmax."""
        return torch.einsum("nhyxd,hmd->nhmyx", self.query, self.key)


@dataclass(frozen=True)
class TokenScores:
    """Scores of n pictures, from which maps of all or some tokens are made."""

    layers: tuple[LayerScores, ...]
    """In the order in which the UNet runs them."""
    size: int
    """Side of the maps."""
    _normalisers: list[Float[Tensor, "n _h r r"]] = field(default_factory=list, repr=False)
    """Of each layer, kept from the first maps."""

    def __len__(self) -> int:
        return len(self.layers[0].query)

    @property
    def num_tokens(self) -> int:
        """Of the softmax."""
        return self.layers[0].key.shape[1]

    def part(self, pictures: slice) -> "TokenScores":
        """Of some of the pictures."""
        layers = tuple(replace(layer, query=layer.query[pictures]) for layer in self.layers)
        return TokenScores(layers, self.size, [of_layer[pictures] for of_layer in self._normalisers])

    def maps(self, indices: Int64[Tensor, " k"] | Int64[Tensor, "n k"] | None = None) -> Float[Tensor, "n m r r"]:
        """Softmax over ALL tokens at each pixel, mean over heads, mean over layers; all tokens or those of `indices`.

        The maps of all tokens have no gradient: choosing tokens needs none, and with 500 of them it would not fit. `indices`,
        the same for all pictures or of each, gives maps with a gradient to tokens (and the UNet, if it was asked to).
        """
        with torch.autocast(self.layers[0].query.device.type, enabled=False):
            if indices is None:
                maps = self._normalise(want_maps=True)
                assert maps is not None  # they were asked for
                return maps
            chosen = indices.expand(len(self), -1) if indices.ndim == 1 else indices
            if not self._normalisers:
                self._normalise(want_maps=False)
            arguments = [
                *(layer.query for layer in self.layers),
                *(layer.key for layer in self.layers),
                *self._normalisers,
            ]
            of_chosen: Tensor = ChosenTokenMaps.apply(chosen, self.size, *arguments)
            return of_chosen

    def maps_in_parts(self, pictures: int) -> Iterator[Float[Tensor, "part m r r"]]:
        """Maps of all tokens, of so many pictures at a time: all at once are large."""
        normalisers = []
        for start in range(0, len(self), pictures):
            part = self.part(slice(start, start + pictures))
            yield part.maps()
            normalisers.append(part._normalisers)
        self._normalisers[:] = [torch.cat(of_layer) for of_layer in zip(*normalisers, strict=True)]

    @torch.no_grad()
    def _normalise(self, want_maps: bool) -> Tensor | None:
        queries = [layer.query.detach() for layer in self.layers]
        keys = [layer.key.detach() for layer in self.layers]
        maps, normalisers = all_token_maps(queries, keys, self.size, want_maps)
        self._normalisers[:] = normalisers
        return maps
