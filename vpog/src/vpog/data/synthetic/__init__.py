"""Synthetic data sets: procedural painted objects, their templates, and pictures of them in the formats of BOP."""

from vpog.data.synthetic.dataset import synthesise, synthetic_pictures
from vpog.data.synthetic.objects import SyntheticObject, make_objects
from vpog.data.synthetic.options import EASY, STANDARD, SceneOptions, SyntheticOptions, find_problems

__all__ = [
    "EASY",
    "STANDARD",
    "SceneOptions",
    "SyntheticObject",
    "SyntheticOptions",
    "find_problems",
    "make_objects",
    "synthesise",
    "synthetic_pictures",
]
