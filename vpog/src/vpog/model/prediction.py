"""What the network is asked and what it answers. s: templates of a group; p: patches of a picture, row by row."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class GroupGeometry:
    """Where the templates of each group look from; unit vectors in the object's frame, towards the camera."""

    directions: Float[Tensor, "b s 3"]
    d_ref: Float[Tensor, "b 3"]
    is_valid: Bool[Tensor, "b s"] | None = None
    """False: padding, that no other token attends; what is predicted for it means nothing. None: all are templates."""
    cam_from_obj_rot: Float[Tensor, "b s 3 3"] | None = None
    """Of the templates; only a decoder with `position` rotation_block needs it."""


@dataclass(frozen=True)
class MatchInput:
    """Queries (index 0 of s1 = s + 1) and their templates: RGB 0..1, not normalised; the encoder does that."""

    images: Float[Tensor, "b s1 3 h w"]
    geometry: GroupGeometry


@dataclass(frozen=True)
class Matching:
    """How well each query patch fits each template patch."""

    logits: Float[Tensor, "b s p p1"]
    """Query patch against p template patches and, last, against none of them."""
    query_features: Float[Tensor, "b s p d"]
    """The same for all s where the decoder sees the group at once (an expanded view)."""
    template_features: Float[Tensor, "b s p d"]
    pnp_scale: Float[Tensor, "b 2"]
    """What the weights of the pose solver are multiplied with, x and y, positive."""


@dataclass(frozen=True)
class DenseMatches:
    """Of m pairs of a query patch and a template patch; flows in patches, order (x, y)."""

    flow: Float[Tensor, "m ps ps 2"]
    """Where each pixel of the template patch lies in the query, from the query patch's centre."""
    scale: Float[Tensor, "m ps ps"]
    """Of the Laplace distribution of that flow, at least 1e-4, in patches."""
    centre_flow: Float[Tensor, "m 2"]
    """Where the query patch's centre lies, from the template patch's centre."""

    @property
    def weight(self) -> Float[Tensor, "m ps ps"]:
        return 1.0 / (self.scale + 1e-4)


Pairs = Int64[Tensor, "m 4"]
"""Sample, template, query patch, template patch."""


@dataclass(frozen=True)
class Prediction:
    """The network's whole answer in training."""

    matching: Matching
    dense: DenseMatches
    """Of the pairs that were asked for."""
