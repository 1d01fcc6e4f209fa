"""What goes into the network and what comes out. All in the network's frame: after mirroring, turning, augmentation."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class HandInput:
    """b clips of t frames; p x p patches. Pixels are those of the network's image, where patch boxes and K live."""

    patches: Float[Tensor, "b t 3 p p"]
    """RGB 0..1, not normalised."""
    patch_bbox: Float[Tensor, "b t 4"]
    """x1, y1, x2, y2 of the square that was cut out."""
    hand_bbox: Float[Tensor, "b t 4"]
    """Tight box of the hand."""
    focal: Float[Tensor, "b t 2"]
    princpt: Float[Tensor, "b t 2"]
    timestamp_ms: Float[Tensor, "b t"]


@dataclass(frozen=True)
class Heatmap:
    """A distribution over the bins of one axis."""

    log_probabilities: Float[Tensor, "b t n"]
    centers: Float[Tensor, " n"]
    """In the unit of the root: mm, or hand sizes with norm_by_hand."""


@dataclass(frozen=True)
class DepthBins:
    """Log depth (or distance) over a prior, as a bin and a residual in bin widths."""

    logits: Float[Tensor, "b t n"]
    residuals: Float[Tensor, "b t n"]
    log_prior: Float[Tensor, "b t"]
    is_distance: bool
    """The prior is of the distance along the ray, not of z."""


@dataclass(frozen=True)
class TranslationPrediction:
    """The root (wrist) in the camera frame, and what the head's own losses need."""

    root: Float[Tensor, "b t 3"]
    """mm, or hand sizes with norm_by_hand."""
    heatmaps: tuple[Heatmap, ...] = ()
    """x, y, z (softargmax3d); x, y (xy_rootz_multibin)."""
    bins: DepthBins | None = None
    log_depth: Float[Tensor, "b t"] | None = None
    """log(distance / prior) where it is regressed plainly (kind log_depth)."""
    log_prior: Float[Tensor, "b t"] | None = None
    uv_log_probabilities: Float[Tensor, "b t n n"] | None = None
    """2D heat map over the patch (rows y, columns x), cells as in `patch_uv`: centres at (i + 0.5) / n."""
    patch_uv: Float[Tensor, "b t 2"] | None = None
    """Expectation of the heat map, 0..1 across the patch."""


@dataclass(frozen=True)
class HandPrediction:
    """t frames, or only the last one where a temporal encoder answers (then t is 1)."""

    rotations: Float[Tensor, "b t 16 3 3"]
    """Local, root first, absolute (a flat hand is the identity)."""
    pose_params: Float[Tensor, "b t k"]
    """As the decoder gave them: 6D (96), axis-angle (48) or quaternion wxyz (64)."""
    betas: Float[Tensor, "b t 10"]
    translation: TranslationPrediction
    tokens: Float[Tensor, "b t d"]
