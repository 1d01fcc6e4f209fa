"""Samples of a data set as the networks see them, in order, some at a time."""

from collections.abc import Iterator

import numpy as np

from keypoint_nvs.config.data import DataConfig
from keypoint_nvs.data.batch import ViewBatch, collate
from keypoint_nvs.data.compositing import view_batch
from posecore.training import SampleSource


def held_out_batches(source: SampleSource, data: DataConfig, batch_size: int) -> Iterator[ViewBatch]:
    """On the configured background, without the variations of training."""
    for start in range(0, len(source), batch_size):
        indices = range(start, min(start + batch_size, len(source)))
        samples = [source.load(index, np.random.default_rng(index)) for index in indices]
        yield view_batch(collate(samples), data.background)
