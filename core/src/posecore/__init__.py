"""Shared core of the pose-estimation systems: camera maths, body models, rendering, data, training."""

from importlib.metadata import version

__version__ = version("posecore")
