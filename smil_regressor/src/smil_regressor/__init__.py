"""Pose, shape and cameras of SMIL and SMAL animal models from one or several views."""

from importlib.metadata import version

__version__ = version("smil-regressor")
