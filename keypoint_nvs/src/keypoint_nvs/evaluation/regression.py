"""A benchmark from end to end: keypoints of its pictures, a linear map to its points, the error its authors report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from keypoint_nvs.data.benchmarks.records import Benchmark, PictureSet, Protocol
from keypoint_nvs.metrics.regression import (
    correct_shares,
    fit_visible,
    inter_ocular_errors,
    mean_keypoints,
    orientation_free_errors_px128,
    summed_errors_px256,
    visible_errors,
)
from keypoint_nvs.regression import apply_linear, fit_linear_swapped
from keypoint_nvs.scaling import Background
from posecore.errors import InputError

Predict = Callable[[Float[Tensor, "b 3 s s"]], Float[Tensor, "b k 2"]]
"""Keypoints (x, y) in pixels of square pictures 0..1."""
METRICS: dict[Protocol, str] = {
    "inter_ocular": "mean distance / distance between the eyes",
    "visible": "mean distance of visible points / side of the picture",
    "summed_px256": "sum of the distances of visible points, px at 256",
    "correct_share": "share of points less than 6 px away at 256 (higher is better)",
    "orientation_free_px128": "mean distance, left and right exchangeable, px at 128",
}


@dataclass(frozen=True)
class RegressionReport:
    """Of one benchmark."""

    benchmark: str
    metric: str
    error: float
    mean_keypoint: float
    """Of the training pictures' mean points, by the same metric."""
    num_train: int
    num_test: int
    per_picture: Float[np.ndarray, " m"]
    estimate_xy: Float[np.ndarray, "m j 2"]
    """0..1 of the picture."""

    def summary(self) -> dict[str, Any]:
        """What is reported."""
        return {
            "benchmark": self.benchmark,
            "metric": self.metric,
            "error": self.error,
            "mean_keypoint": self.mean_keypoint,
            "num_train": self.num_train,
            "num_test": self.num_test,
        }


def regression_report(
    predict: Predict,
    benchmark: Benchmark,
    side_px: int,
    *,
    background: Background = "grey",
    batch_size: int = 16,
    limit: int | None = None,
) -> RegressionReport:
    """Fit on the training pictures, measure on the others.

    Args:
        predict: Keypoints (x, y) in pixels of the square pictures that it is given.
        benchmark: Of `open_benchmark`.
        side_px: Of the pictures that `predict` is given.
        background: Behind transparent pictures.
        batch_size: Pictures at a time.
        limit: Only so many of each set, spread over it.

    Raises:
        InputError: A picture cannot be read, or there are too few to fit the map.
    """
    train, test = (some_pictures(pictures, limit) for pictures in (benchmark.train, benchmark.test))
    source_train, source_test = (
        _keypoints(predict, pictures, side_px, background, batch_size) for pictures in (train, test)
    )
    if len(train) < 2 * source_train.shape[1]:
        raise InputError(
            f"{benchmark.name}: {len(train)} training pictures are too few for {source_train.shape[1]} keypoints; "
            f"the map needs {2 * source_train.shape[1]} or more"
        )
    estimate = apply_linear(source_test, _fitted(benchmark, source_train, train))
    constant = np.broadcast_to(mean_keypoints(train.points_xy, train.visible), estimate.shape)
    errors, baseline = (_errors(benchmark, answer, test) for answer in (estimate, constant))
    return RegressionReport(
        benchmark=benchmark.name,
        metric=METRICS[benchmark.protocol],
        error=float(np.nanmean(errors)),
        mean_keypoint=float(np.nanmean(baseline)),
        num_train=len(train),
        num_test=len(test),
        per_picture=errors,
        estimate_xy=estimate,
    )


def _keypoints(
    predict: Predict, pictures: PictureSet, side_px: int, background: Background, batch_size: int
) -> Float[np.ndarray, "n k 2"]:
    """In 0..1 of the picture."""
    found = []
    for start in range(0, len(pictures), batch_size):
        indices = range(start, min(start + batch_size, len(pictures)))
        found.append(predict(pictures.images(indices, side_px, background)).cpu().double())
    unit: np.ndarray = ((torch.cat(found) + 0.5) / side_px).numpy()
    return unit


def _fitted(benchmark: Benchmark, source: np.ndarray, train: PictureSet) -> np.ndarray:
    if benchmark.permutation is None:
        return fit_visible(source, train.points_xy, train.visible)
    return fit_linear_swapped(source, train.points_xy, np.array(benchmark.permutation))


def _errors(benchmark: Benchmark, estimate: np.ndarray, test: PictureSet) -> Float[np.ndarray, " m"]:
    target, visible = test.points_xy, test.visible
    match benchmark.protocol:
        case "inter_ocular":
            return inter_ocular_errors(estimate, target)
        case "visible":
            return visible_errors(estimate, target, visible)
        case "summed_px256":
            return summed_errors_px256(estimate, target, visible)
        case "correct_share":
            return correct_shares(estimate, target, visible)
        case "orientation_free_px128":
            assert benchmark.permutation is not None
            return orientation_free_errors_px128(estimate, target, np.array(benchmark.permutation))


def some_pictures(pictures: PictureSet, limit: int | None) -> PictureSet:
    """At most `limit`, evenly from all of them."""
    if limit is None or limit >= len(pictures):
        return pictures
    indices: Sequence[int] = [index * len(pictures) // limit for index in range(limit)]
    return pictures.part(indices)
