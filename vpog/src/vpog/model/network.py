"""The whole network: a query and its templates in, matches of patches and of pixels out."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vpog.model.encoder import Encoder
from vpog.model.group_decoder import GroupDecoder
from vpog.model.heads import ClassificationHead, DenseHead, SolverScaleHead
from vpog.model.prediction import DenseMatches, GroupGeometry, Matching, MatchInput, Prediction


class VpogNetwork(nn.Module):
    """Three steps that may run apart: `encode` pictures (templates once an object), `match` patches, `dense` flows."""

    def __init__(
        self, encoder: Encoder, decoder: GroupDecoder, hidden: int, proj: int, flow_hidden: int, img_size: int
    ) -> None:
        super().__init__()
        self.img_size, self.patch_size = img_size, encoder.patch_size
        self.grid = (img_size // self.patch_size, img_size // self.patch_size)
        self.encoder, self.decoder = encoder, decoder
        self.classification = ClassificationHead(decoder.width, hidden, proj)
        self.flow = DenseHead(decoder.width, (flow_hidden, flow_hidden), self.patch_size)
        self.solver_scale = SolverScaleHead(decoder.width)

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]

    def forward(self, inputs: MatchInput, pairs: Int64[Tensor, "m 4"]) -> Prediction:
        """What training runs: flows are predicted for the given pairs (sample, template, query patch, template patch)."""
        tokens = torch.unflatten(self.encode(inputs.images.flatten(0, 1)), 0, inputs.images.shape[:2])
        matching = self.match(tokens[:, 0], tokens[:, 1:], inputs.geometry)
        return Prediction(matching, self.dense(matching, pairs))

    def encode(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p d"]:
        """Tokens of pictures, RGB 0..1, each by itself: what a cache of templates keeps.

        Raises:
            ValueError: Pictures of another size than the network's.
        """
        if tuple(images.shape[1:]) != (3, self.img_size, self.img_size):
            raise ValueError(f"pictures are {tuple(images.shape[1:])}, not (3, {self.img_size}, {self.img_size})")
        tokens: Tensor = self.encoder(self.encoder.normalised(images))
        return tokens

    def match(
        self, query_tokens: Float[Tensor, "b p d"], template_tokens: Float[Tensor, "b s p d"], geometry: GroupGeometry
    ) -> Matching:
        """Matches of each query with each of its templates, any number of them.

        Raises:
            ValueError: No template, or directions of another number of templates.
        """
        if template_tokens.shape[1] < 1 or template_tokens.shape[:2] != geometry.directions.shape[:2]:
            raise ValueError(
                f"{tuple(template_tokens.shape[:2])} templates and {tuple(geometry.directions.shape[:2])} directions: "
                "should be equal, and at least one template a query"
            )
        tokens = self.decoder(query_tokens, template_tokens, geometry)
        num_templates = template_tokens.shape[1]
        return Matching(
            self.classification(tokens.query, tokens.templates),
            tokens.query.expand(-1, num_templates, -1, -1),
            tokens.templates[:, :, :-1],
            self.solver_scale(_pooled(tokens.query, geometry.is_valid)),
        )

    def dense(self, matching: Matching, pairs: Int64[Tensor, "m 4"]) -> DenseMatches:
        """Flows of pairs: sample, template, query patch, template patch."""
        sample, template, query_patch, template_patch = pairs.unbind(-1)
        dense: DenseMatches = self.flow(
            matching.query_features[sample, template, query_patch],
            matching.template_features[sample, template, template_patch],
        )
        return dense


def _pooled(query: Float[Tensor, "b sq p d"], is_valid: Bool[Tensor, "b s"] | None) -> Float[Tensor, "b d"]:
    """Mean over patches, and over the templates that are there where each gave its own."""
    if is_valid is None or query.shape[1] == 1:
        return query.mean((1, 2))
    weights = is_valid / is_valid.sum(1, keepdim=True)
    return torch.einsum("bsd,bs->bd", query.mean(2), weights.to(query.dtype))
