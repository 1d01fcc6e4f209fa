"""Novel views of held-out objects against the true ones, beside what is had without learning or without looking."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from keypoint_nvs.held_out import held_out_batches
from keypoint_nvs.metrics.baselines import best_training_object, mean_view
from keypoint_nvs.metrics.perceptual import Lpips
from keypoint_nvs.metrics.pictures import mse, psnr, ssim
from keypoint_nvs.predictor import Predictor
from posecore.training import SampleSource

TRAINING_AT_ONCE = 32
FOREGROUND = 0.5
"""Alpha above which a pixel is the object."""
ANSWERS = ("ours", "other_condition", "mean_view", "best_training_object", "input_copy")


@dataclass(frozen=True)
class ViewReport:
    """Views 0..1 of n held-out objects, by where they come from (`ANSWERS`)."""

    inputs: Float[Tensor, "n 3 h w"]
    truth: Float[Tensor, "n v 3 h w"]
    alpha: Float[Tensor, "n v h w"]
    answers: dict[str, Float[Tensor, "n v 3 h w"]]
    perceptual: Lpips | None = None

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean squared error, PSNR (dB), SSIM and LPIPS of each answer, whole and on the object; means over views, then objects."""
        return {name: self._scores(views) for name, views in self.answers.items()}

    def errors(self, name: str) -> Float[Tensor, " n"]:
        """Mean squared error of each object."""
        return mse(self.answers[name], self.truth).mean(1)

    def _scores(self, views: Tensor) -> dict[str, float]:
        mask = self.alpha > FOREGROUND
        measured = {
            "mse": mse(views, self.truth),
            "psnr_db": psnr(views, self.truth),
            "ssim": ssim(views, self.truth),
            "psnr_foreground_db": psnr(views, self.truth, mask),
            "ssim_foreground": ssim(views, self.truth, mask),
        }
        if self.perceptual is not None:
            measured["lpips"] = torch.stack([self.perceptual(*pair) for pair in zip(views, self.truth, strict=True)])
        return {name: float(values.double().nanmean(1).nanmean()) for name, values in measured.items()}


def measure_views(
    predictor: Predictor, held_out: SampleSource, training: SampleSource, perceptual: Lpips | None = None
) -> ViewReport:
    """Generate the views of all held-out objects, from their own input view and from another object's.

    Args:
        training: Its mean view and its most similar object are baselines.
        perceptual: For LPIPS.
    """
    config = predictor.loaded.config
    inputs, truth, alpha = _views(held_out, predictor)
    mean, nearest = _training_baselines(training, predictor, truth)
    size = config.inference.batch_size
    ours = torch.cat([predictor.sample_views(part).cpu() for part in torch.split(inputs, size)])
    others = torch.cat([predictor.sample_views(part).cpu() for part in torch.split(inputs.roll(1, 0), size)])
    answers = {
        "ours": _at_size(ours, truth),
        "other_condition": _at_size(others, truth),
        "mean_view": mean[None].expand_as(truth),
        "best_training_object": nearest,
        "input_copy": inputs[:, None].expand_as(truth),
    }
    return ViewReport(inputs, truth, alpha, answers, perceptual)


def _training_baselines(
    training: SampleSource, predictor: Predictor, truth: Float[Tensor, "n v 3 h w"]
) -> tuple[Float[Tensor, "v 3 h w"], Float[Tensor, "n v 3 h w"]]:
    """The mean training object, and the one nearest to each held-out object; some training samples at a time."""
    total, count = torch.zeros_like(truth[0]), 0
    nearest, least = torch.zeros_like(truth), torch.full((len(truth),), torch.inf)
    for batch in held_out_batches(training, predictor.loaded.config.data, TRAINING_AT_ONCE):
        views = batch.target_imgs
        total, count = total + len(views) * mean_view(views), count + len(views)
        found = views[best_training_object(views, truth)]
        errors = mse(found, truth).mean(1)
        is_better = errors < least
        nearest[is_better], least[is_better] = found[is_better], errors[is_better]
    return total / count, nearest


def _views(source: SampleSource, predictor: Predictor) -> tuple[Tensor, Tensor, Tensor]:
    batches = list(held_out_batches(source, predictor.loaded.config.data, 16))
    conds = torch.cat([batch.cond_imgs for batch in batches if batch.cond_imgs is not None])
    targets = torch.cat([batch.target_imgs for batch in batches])
    return conds, targets, torch.cat([batch.alpha for batch in batches])


def _at_size(views: Float[Tensor, "n v 3 h w"], like: Float[Tensor, "n v 3 hh ww"]) -> Float[Tensor, "n v 3 hh ww"]:
    """Generated views at the size of the stored ones."""
    if views.shape == like.shape:
        return views
    resized = torch.nn.functional.interpolate(
        views.flatten(0, 1), like.shape[-2:], mode="bicubic", align_corners=False, antialias=True
    )
    return resized.clamp(0, 1).reshape(*views.shape[:3], *like.shape[-2:])
