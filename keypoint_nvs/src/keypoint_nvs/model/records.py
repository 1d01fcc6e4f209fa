"""What goes into the networks and comes out."""

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class NvsOutput:
    """Of one denoising step on the grid of views; what its loss needs."""

    v_pred: Float[Tensor, "b 4 hh ww"]
    v: Float[Tensor, "b 4 hh ww"]
    """The true velocity."""
    t: Int64[Tensor, " b"]


@dataclass(frozen=True)
class KeypointOutput:
    """Maps of the chosen tokens in v pictures of each of b objects, and in one warped copy of each picture."""

    selected: Int64[Tensor, "b k"]
    """Tokens, chosen for each object over all its pictures."""
    maps: Float[Tensor, "b v k r r"]
    """Softmax over all tokens at each pixel; float32, with gradient."""
    warped_maps: Float[Tensor, "b v k r r"]
    theta: Float[Tensor, "b v 2 3"]
    """warped(x) = picture(theta x), in affine_grid's units (align_corners False)."""


@dataclass(frozen=True)
class AutoencoderOutput:
    """Of the autoencoder in training."""

    reconstruction: Float[Tensor, "n 3 h w"]
    """In the scaled range of the pictures that it was given, (p - 0.5) / 0.8."""
    target: Float[Tensor, "n 3 h w"]
    mean: Float[Tensor, "n 4 hh ww"]
    logvar: Float[Tensor, "n 4 hh ww"]
