"""Pictures with annotated points, of public benchmarks and of users, for judging keypoints by regression."""

from keypoint_nvs.data.benchmarks.records import Benchmark, PictureSet, Protocol
from keypoint_nvs.data.benchmarks.registry import BENCHMARKS, open_benchmark

__all__ = ["BENCHMARKS", "Benchmark", "PictureSet", "Protocol", "open_benchmark"]
