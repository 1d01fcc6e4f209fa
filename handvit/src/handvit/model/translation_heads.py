"""Where the root is: four heads that read it from the decoder's token, all in float32."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from handvit.model.depth_heads import DistanceBins, DistanceRegression, PatchHeatmap
from handvit.model.depth_prior import decode_depth, rho_prior, uv_to_unit_ray, z_prior
from handvit.model.prediction import HandInput, Heatmap, TranslationPrediction

ROOT_MEAN_MM, ROOT_STD_MM = (-24.41, 2.29, 910.08), (118.75, 102.83, 219.13)
ROOT_MEAN_HANDS, ROOT_STD_HANDS = (-0.2745, 0.0308, 10.4328), (1.4501, 1.2678, 2.2520)
"""Root positions of the training data, in mm and in hand sizes."""
HAND_SIZE_MM = 86.99
NEAREST_Z_MM = 10.0
"""First centre of the bins of z, unless parity with published checkpoints is asked for: theirs start behind the camera."""
REACH = 5.0
"""Bins reach so many standard deviations to both sides."""


class AxisHeatmaps(nn.Module):
    """Heat maps of one to three axes: a bias-free projection each, an expectation over fixed centres."""

    x_centers: Tensor
    y_centers: Tensor

    def __init__(
        self, dim: int, num_bins: Sequence[int], mean: Sequence[float], std: Sequence[float], nearest_z: float | None
    ) -> None:
        super().__init__()
        self.axes = "xyz"[: len(num_bins)]
        for axis, bins, middle, spread in zip(self.axes, num_bins, mean, std, strict=False):
            low, high = middle - REACH * spread, middle + REACH * spread
            if axis == "z" and nearest_z is not None:
                low = max(low, nearest_z)
            self.register_buffer(f"{axis}_centers", torch.linspace(low, high, bins))
            self.add_module(f"dec{axis}", nn.Linear(dim, bins, bias=False))

    def heatmaps(self, token: Float[Tensor, "b t d"]) -> tuple[Heatmap, ...]:
        return tuple(
            Heatmap(getattr(self, f"dec{axis}")(token).log_softmax(-1), getattr(self, f"{axis}_centers"))
            for axis in self.axes
        )


def expectation(heatmap: Heatmap) -> Float[Tensor, "b t"]:
    return (heatmap.log_probabilities.exp() * heatmap.centers).sum(-1)


class SoftArgmax3d(AxisHeatmaps):
    """x, y, z as expectations (mm, or hand sizes)."""

    def forward(self, token: Float[Tensor, "b t d"], frames: HandInput) -> TranslationPrediction:
        maps = self.heatmaps(token)
        return TranslationPrediction(torch.stack([expectation(m) for m in maps], -1), heatmaps=maps)


class RootZMultibin(AxisHeatmaps):
    """x, y as expectations; z = prior of the box, times a bin and its residual (mm)."""

    def __init__(
        self, dim: int, num_bins: Sequence[int], mean: Sequence[float], std: Sequence[float], num_depth_bins: int
    ) -> None:
        super().__init__(dim, num_bins, mean, std, None)
        self.dist = DistanceBins(dim, num_depth_bins)

    def forward(self, token: Float[Tensor, "b t d"], frames: HandInput) -> TranslationPrediction:
        maps = self.heatmaps(token)
        log_prior = z_prior(frames.focal, frames.hand_bbox).log()
        bins = self.dist(token, frames, log_prior, is_distance=False)
        z = decode_depth(bins.logits, bins.residuals, log_prior)
        root = torch.stack((*(expectation(m) for m in maps), z), -1)
        return TranslationPrediction(root, heatmaps=maps, bins=bins, log_prior=log_prior)


class PatchRhoMultibin(nn.Module):
    """Place in the patch, and distance along its ray as prior, bin and residual (mm)."""

    def __init__(self, dim: int, num_cells: int, num_depth_bins: int) -> None:
        super().__init__()
        self.place = PatchHeatmap(dim, num_cells)
        self.dist = DistanceBins(dim, num_depth_bins)

    def forward(self, token: Float[Tensor, "b t d"], frames: HandInput) -> TranslationPrediction:
        log_probabilities, uv = self.place(token)
        log_prior = rho_prior(frames.focal, frames.princpt, frames.hand_bbox).log()
        bins = self.dist(token, frames, log_prior, is_distance=True)
        rho = decode_depth(bins.logits, bins.residuals, log_prior)
        root = rho[..., None] * uv_to_unit_ray(uv, frames.patch_bbox, frames.focal, frames.princpt)
        return TranslationPrediction(
            root, bins=bins, log_prior=log_prior, uv_log_probabilities=log_probabilities, patch_uv=uv
        )


class LogDepth(nn.Module):
    """Place in the patch, and log(distance / prior) along its ray as one number (mm)."""

    def __init__(self, dim: int, num_cells: int) -> None:
        super().__init__()
        self.place = PatchHeatmap(dim, num_cells)
        self.dist = DistanceRegression(dim)

    def forward(self, token: Float[Tensor, "b t d"], frames: HandInput) -> TranslationPrediction:
        log_probabilities, uv = self.place(token)
        log_prior = rho_prior(frames.focal, frames.princpt, frames.hand_bbox).log()
        log_depth = self.dist(token, frames, log_prior)
        rho = (log_prior + log_depth).exp()
        root = rho[..., None] * uv_to_unit_ray(uv, frames.patch_bbox, frames.focal, frames.princpt)
        return TranslationPrediction(
            root, log_depth=log_depth, log_prior=log_prior, uv_log_probabilities=log_probabilities, patch_uv=uv
        )


TranslationHead = SoftArgmax3d | RootZMultibin | PatchRhoMultibin | LogDepth
