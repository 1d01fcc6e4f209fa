"""DeepFashion, people in shops with 17 body points, pictures 256 wide (AutoLink's and StableKeypoints' lists).

    data_train.csv, data_test.csv     a line of names, then lines whose second field is a file below img/
    data_train.json, data_test.json   a list of {"keypoints": [[x, y], ...]} in pixels of 256, in the same order
    img/...

Upstream normalises pictures twice, so that its network saw -3..1 instead of -1..1. Published numbers may include that:
`legacy` hands pictures out in -1..1, which the network, that expects 0..1, maps to -3..1.
"""

import json
from pathlib import Path

import numpy as np

from keypoint_nvs.data.benchmarks.reading import read_lines
from keypoint_nvs.data.benchmarks.records import Benchmark, PictureSet
from keypoint_nvs.data.rgba_images import read_rgba
from posecore.errors import InputError

SIDE = 256


def deepfashion(root: Path, legacy: bool = False) -> Benchmark:
    """
    Raises:
        InputError: A file is missing or of another layout.
    """
    train, test = (_split(root, split, legacy) for split in ("train", "test"))
    return Benchmark("deepfashion", "correct_share", train, test)


def _split(root: Path, split: str, legacy: bool) -> PictureSet:
    table = root / f"data_{split}.csv"
    paths = []
    for number, line in enumerate(read_lines(table, "a table with file names in the second column")[1:], start=2):
        fields = line.split(",")
        if len(fields) < 2:
            raise InputError(f"{table}: line {number}: {line!r} has no second field")
        paths.append(root / "img" / fields[1].strip())
    points = _points(root / f"data_{split}.json")
    if len(points) != len(paths):
        raise InputError(f"{root}: data_{split}.csv has {len(paths)} pictures, data_{split}.json {len(points)}")
    ids = tuple(path.relative_to(root / "img").as_posix() for path in paths)
    visible = np.ones(points.shape[:2], bool)
    return PictureSet(ids, points / SIDE, visible, lambda index: read_rgba(paths[index]), is_signed=legacy)


def _points(path: Path) -> np.ndarray:
    try:
        entries = json.loads("\n".join(read_lines(path, "a list of keypoints")))
        points = np.array([entry["keypoints"] for entry in entries], float)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path}: {error!r}; expected a list of {{"keypoints": [[x, y], ...]}}') from None
    if points.ndim != 3 or points.shape[2] != 2:
        raise InputError(f"{path}: keypoints have shape {points.shape}; expected (pictures, points, 2)")
    return points
