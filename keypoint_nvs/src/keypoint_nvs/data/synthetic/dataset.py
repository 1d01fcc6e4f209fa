"""Objects in order, from this process or from several, into a store."""

import multiprocessing
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keypoint_nvs.data.records import MultiviewSample
from keypoint_nvs.data.store_format import RIGS
from keypoint_nvs.data.store_paths import SUFFIXES
from keypoint_nvs.data.store_writing import StoreWriter
from keypoint_nvs.data.synthetic.anatomy import NUM_PARTS, PART_NAMES
from keypoint_nvs.data.synthetic.objects import make_numbered
from keypoint_nvs.data.synthetic.options import SyntheticOptions
from posecore.errors import InputError

OBJECTS_AT_ONCE = 8
"""Handed to a process in one go."""


def synthesise(path: Path, options: SyntheticOptions, workers: int = 0) -> dict[str, Any]:
    """Write a store of made-up objects; the same options give the same samples.

    Args:
        path: The .hdf5 or .h5 file.
        workers: Processes that render; 0: this one does. The result is the same. Two of them pay from about 300 objects
            of 32 px on.

    Returns:
        Counts and ranges, for a person to look at.

    Raises:
        InputError: The file exists, its name is not a store's, or workers is negative.
    """
    _check(path, workers)
    rig = options.rig.name if options.rig.name in RIGS else "free"
    report = _Report()
    with StoreWriter(path, rig) as writer:
        for sample in synthetic_samples(options, workers):
            writer.append(sample)
            report.add(sample)
        writer.finish()
    return {"path": str(path), "rig": rig, "objects": options.objects, **report.summary()}


def synthetic_samples(options: SyntheticOptions, workers: int = 0) -> Iterator[MultiviewSample]:
    """All samples, object by object, as they would lie in a store."""
    numbers = range(options.first_object, options.first_object + options.objects)
    make = partial(make_numbered, options)
    with ExitStack() as stack:
        if workers == 0:
            objects: Iterator[list[MultiviewSample]] = map(make, numbers)
        else:
            # a fork would copy the locks of torch's threads, where torch is in this process
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(workers))
            objects = pool.imap(make, numbers, chunksize=OBJECTS_AT_ONCE)
        for samples in objects:
            yield from samples


def _check(path: Path, workers: int) -> None:
    problems = []
    if path.suffix not in SUFFIXES:
        problems.append(f"{path}: the name of a store ends in {' or '.join(SUFFIXES)}")
    if path.exists():
        problems.append(f"{path}: exists already; remove it or choose another name")
    if workers < 0:
        problems.append(f"workers: {workers}, must be at least 0")
    if problems:
        raise InputError(problems)


class _Report:
    """What was written, in numbers."""

    def __init__(self) -> None:
        self.samples = 0
        self.elevations_deg: list[float] = []
        self.visible = np.zeros(NUM_PARTS)
        self.covered = 0.0

    def add(self, sample: MultiviewSample) -> None:
        assert sample.keypoints is not None
        assert sample.elevation_deg is not None
        self.samples += 1
        self.elevations_deg.append(sample.elevation_deg)
        self.visible += sample.keypoints.visible.mean(0)
        self.covered += float(sample.target_imgs[:, 3].mean()) / 255

    def summary(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "input_elevation_deg": [round(min(self.elevations_deg), 1), round(max(self.elevations_deg), 1)],
            "covered_share": round(self.covered / self.samples, 3),
            "visible_share": {
                name: round(float(share), 3)
                for name, share in zip(PART_NAMES, self.visible / self.samples, strict=True)
            },
        }
