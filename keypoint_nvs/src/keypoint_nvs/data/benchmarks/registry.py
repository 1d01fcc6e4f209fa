"""Benchmarks by name."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from keypoint_nvs.data.benchmarks.annotated import annotated
from keypoint_nvs.data.benchmarks.celeba import celeba
from keypoint_nvs.data.benchmarks.cub_aligned import cub_aligned
from keypoint_nvs.data.benchmarks.cub_parts import cub_parts
from keypoint_nvs.data.benchmarks.deepfashion import deepfashion
from keypoint_nvs.data.benchmarks.human36m import human36m
from keypoint_nvs.data.benchmarks.records import Benchmark
from keypoint_nvs.data.benchmarks.taichi import taichi
from posecore.errors import InputError

BENCHMARKS: Mapping[str, Callable[[Path], Benchmark]] = {
    "celeba": celeba,
    "celeba_wild": partial(celeba, aligned=False),
    "cub": cub_aligned,
    "cub_all": cub_parts,
    "cub_001": partial(cub_parts, species=1),
    "cub_002": partial(cub_parts, species=2),
    "cub_003": partial(cub_parts, species=3),
    "taichi": taichi,
    "deepfashion": deepfashion,
    "legacy_deepfashion": partial(deepfashion, legacy=True),
    "human36m": human36m,
    "annotated": annotated,
}


def open_benchmark(name: str, root: Path | str) -> Benchmark:
    """
    Args:
        name: One of `BENCHMARKS`.
        root: Its folder; the readers tell what lies in it.

    Raises:
        InputError: No such benchmark or folder, or files of another layout.
    """
    if name not in BENCHMARKS:
        raise InputError(f"benchmark {name!r} is not known; known are {', '.join(BENCHMARKS)}")
    if not Path(root).exists():
        raise InputError(f"{root}: no such folder; expected that of the benchmark {name}")
    return BENCHMARKS[name](Path(root))
