"""Thresholds of the benchmarks."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vpog.metrics.vsd import VSD_DELTA_MM

SHARES = np.arange(1, 11) / 20
"""0.05, 0.10, .. 0.50: of the diameter, of the visible surface, of the depth error."""
PIXELS = np.arange(1, 11) * 5.0
"""5, 10, .. 50 px of a picture 640 px wide."""
REFERENCE_WIDTH_PX = 640


@dataclass(frozen=True)
class ScoreSettings:
    """What a data set or a report may want otherwise."""

    min_visib_fract: float = 0.1
    """BOP 2024: objects of which less is seen need not be found."""
    vsd_delta_mm: float = VSD_DELTA_MM
    """5 for ITODD."""
    add_share: float = 0.1
    """Of the diameter: an ADD(-S) error below is a correct pose."""
    auc_max_mm: float = 100.0
    visibility_edges: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    """Ranges of the visible fraction whose recall is told."""
    workers: int = -1
    """Threads that search nearest points for ADD-S; -1: one for each core."""


def area_under_recall(errors: Float[np.ndarray, " n"], limit: float) -> Float[np.ndarray, " n"]:
    """Share of each error in the exact area below the curve of recall over threshold up to `limit`: 1 at 0, 0 at the limit.

    The mean over truths is the AUC of PoseCNN.
    """
    return np.clip(1 - errors / limit, 0, 1)
