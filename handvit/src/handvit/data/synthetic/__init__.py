"""Synthetic data sets: hands rendered from any model of MANO's layout, with exact labels, stored as real data is."""

from handvit.data.synthetic.dataset import QUALITY, SyntheticSet, find_problems, synthesise, synthetic_records
from handvit.data.synthetic.motion import STANDARD, Difficulty

__all__ = [
    "QUALITY",
    "STANDARD",
    "Difficulty",
    "SyntheticSet",
    "find_problems",
    "synthesise",
    "synthetic_records",
]
