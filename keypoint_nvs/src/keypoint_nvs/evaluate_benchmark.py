"""A run's keypoints on a public benchmark, or on pictures that a user annotated: regression to the annotated points."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from keypoint_nvs.data.benchmarks import Benchmark, open_benchmark
from keypoint_nvs.draw.canvas import to_picture
from keypoint_nvs.draw.cases import KeypointCase, keypoint_cases
from keypoint_nvs.evaluation.numbers import or_none
from keypoint_nvs.evaluation.regression import RegressionReport, regression_report, some_pictures
from keypoint_nvs.predictor import Predictor
from posecore.draw import write_picture
from posecore.errors import InputError

WORST = 8
SHOWN_PX = 224


def evaluate_benchmark(
    checkpoint: Path,
    benchmark: str,
    data: str | None,
    output: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    limit: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Fit the regression on the benchmark's training pictures, measure on its test pictures; metrics.json and the worst.

    Args:
        data: The benchmark's folder.
        output: None: `evaluation/BENCHMARK` in the run folder.
        limit: Only so many pictures of each set.
        changes: Fields of the configuration's `inference` that differ.

    Raises:
        InputError: No such run or folder, files of another layout, or the run learnt no keypoints.
    """
    if data is None:
        raise InputError(f"--data: the folder of the benchmark {benchmark} is needed")
    opened = open_benchmark(benchmark, data)
    predictor = Predictor.load(checkpoint, device, changes)
    config = predictor.loaded.config
    if config.keypoints is None:
        raise InputError(f"{predictor.loaded.folder}: learnt no keypoints (its config has keypoints null)")

    def keypoints(images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b k 2"]:
        return torch.cat([result.xy_px for result in predictor.batches(images)])

    report = regression_report(
        keypoints, opened, config.keypoints.image_px, background=config.data.background, limit=limit
    )
    folder = output or predictor.loaded.run_dir / "evaluation" / benchmark
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(or_none(report.summary()), indent=2, allow_nan=False) + "\n"
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    write_picture(folder / "worst.png", _worst(report, opened, limit))
    return {"folder": str(folder), **or_none(report.summary())}


def _worst(report: RegressionReport, benchmark: Benchmark, limit: int | None) -> np.ndarray:
    """Pictures with the largest error: dots where the regression puts the points, crosses where they are."""
    test = some_pictures(benchmark.test, limit)
    sign = -1 if benchmark.protocol != "correct_share" else 1
    order = np.argsort(np.nan_to_num(sign * report.per_picture, nan=np.inf), kind="stable")[:WORST].tolist()
    cases = []
    for index in order:
        image = test.images([index], SHOWN_PX, "grey")[0]
        image = (image + 1) / 2 if test.is_signed else image
        truth = np.where(test.visible[index][:, None], test.points_xy[index], np.nan) * SHOWN_PX - 0.5
        estimate = report.estimate_xy[index] * SHOWN_PX - 0.5
        cases.append(KeypointCase(f"{report.per_picture[index]:.3g}", to_picture(image.numpy()), estimate, truth))
    return keypoint_cases(cases, columns=4, side=SHOWN_PX)
