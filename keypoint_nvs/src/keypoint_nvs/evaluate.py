"""Measuring a run on held-out objects: views and keypoints, each beside what is had without learning."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keypoint_nvs.config.data import MultiviewData
from keypoint_nvs.data.sources import open_source
from keypoint_nvs.evaluation.keypoints import KeypointReport, measure_keypoints, untrained_tokens
from keypoint_nvs.evaluation.numbers import or_none
from keypoint_nvs.evaluation.pictures import keypoint_pictures, view_pictures
from keypoint_nvs.evaluation.views import ViewReport, measure_views
from keypoint_nvs.experiment import source_options
from keypoint_nvs.layout import dataset_of_path
from keypoint_nvs.metrics.perceptual import Lpips
from keypoint_nvs.predictor import Predictor
from posecore.data.spread import spread
from posecore.draw import write_picture
from posecore.errors import InputError
from posecore.training import SampleSource

logger = logging.getLogger(__name__)
FITTED = 60
"""Training objects on which the regression is fitted, at most."""
COMPARED = 1000
"""Training objects that views are compared with, at most."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured; None: the run has no such part."""

    views: ViewReport | None
    keypoints: KeypointReport | None
    untrained: KeypointReport | None
    """Of random tokens in the same networks."""

    def to_dict(self) -> dict[str, Any]:
        """Numbers of each part; None: there was nothing to measure."""
        parts = {"views": self.views, "keypoints": self.keypoints, "untrained_tokens": self.untrained}
        return {name: or_none(part.summary()) for name, part in parts.items() if part is not None}


def evaluate(
    checkpoint: Path,
    *,
    data: str | None = None,
    train_data: str | None = None,
    output: Path | None = None,
    limit: int | None = None,
    changes: Mapping[str, Any] | None = None,
    untrained: bool = True,
    lpips: Path | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Measure a run, write metrics.json and pictures.

    Args:
        data: Store of held-out objects; None: the validation set of the training.
        train_data: Store on which regression and baselines are fitted; None: that of the training.
        output: None: `evaluation` in the run folder.
        limit: Only so many samples, spread over the set.
        changes: Fields of the configuration's `inference` that differ.
        untrained: Measure random tokens too.
        lpips: Folder with the weights of LPIPS; None: it is not measured.

    Raises:
        InputError: No such run, data or weights, or the run has nothing to measure on them.
    """
    perceptual = None if lpips is None else Lpips.from_folder(lpips)
    predictor = Predictor.load(checkpoint, device, changes)
    held_out = spread(open_views(predictor, data, "val"), limit)
    training = open_views(predictor, train_data, "train")
    result = measure(predictor, held_out, training, untrained=untrained, perceptual=perceptual)
    folder = output or predictor.loaded.run_dir / "evaluation"
    write_evaluation(result, folder)
    return {"folder": str(folder), "samples": len(held_out), **result.to_dict()}


def measure(
    predictor: Predictor,
    held_out: SampleSource,
    training: SampleSource,
    *,
    untrained: bool = True,
    perceptual: Lpips | None = None,
) -> Evaluation:
    """All that a run can be measured on.

    Args:
        training: The regression is fitted on 60 samples of it, spread over the set; views are compared with 1000.
    """
    if predictor.loaded.network.autoencoder is not None:
        raise InputError(f"{predictor.loaded.folder}: is an autoencoder's; evaluate a run of novel views or keypoints")
    fitted = spread(training, FITTED)
    views = None
    if predictor.has_views:
        views = measure_views(predictor, held_out, spread(training, COMPARED), perceptual)
    keypoints = beside = None
    if predictor.has_keypoints:
        keypoints = measure_keypoints(predictor, held_out, fitted)
        if untrained:
            beside = measure_keypoints(untrained_tokens(predictor, fitted), held_out, fitted)
    return Evaluation(views, keypoints, beside)


def write_evaluation(result: Evaluation, folder: Path) -> list[Path]:
    """metrics.json and pictures; returns the pictures' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n"
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    pictures: dict[str, np.ndarray] = {}
    if result.views is not None:
        pictures |= view_pictures(result.views)
    if result.keypoints is not None:
        pictures |= keypoint_pictures(result.keypoints)
    paths = []
    for name, picture in pictures.items():
        paths.append(folder / f"{name}.png")
        write_picture(paths[-1], picture)
    return paths


def open_views(predictor: Predictor, path: str | None, part: str) -> SampleSource:
    """A store, or that of the training's configuration.

    Raises:
        InputError: There is none, or it holds single pictures.
    """
    config = predictor.loaded.config
    datasets = list(getattr(config.data, part)) if path is None else [dataset_of_path(path)]
    option = "--data" if part == "val" else "--train-data"
    if not datasets:
        raise InputError(f"{option}: none is given, and data.{part} of the training is empty")
    if not all(isinstance(dataset, MultiviewData) for dataset in datasets):
        raise InputError(
            f"{option}: {datasets[0].path} holds single pictures; a store of views is needed (or --benchmark)"
        )
    source, _ = open_source(datasets, source_options(config, with_keypoints=True))
    return source
