"""Estimates as columns, checked and cut to what the benchmarks take."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from posecore.errors import InputError
from vpog.estimates import UNKNOWN_TIME_S, Estimate
from vpog.metrics.recall import best_of_each
from vpog.metrics.truths import Pictures, Truths, groups_of

MOST_PER_PICTURE = 100
"""Estimates of one picture that BOP 2024 looks at."""


@dataclass(frozen=True)
class EstimateColumns:
    """Of the pictures of a test, e of them."""

    row: Int64[np.ndarray, " e"]
    """Place in the list of estimates."""
    picture: Int64[np.ndarray, " e"]
    obj_id: Int64[np.ndarray, " e"]
    score: Float[np.ndarray, " e"]
    cam_from_obj_mm: Float[np.ndarray, "e 4 4"]
    is_localisation: Bool[np.ndarray, " e"]
    """Among the best of its object in its picture, as many as there are targets (BOP 2019)."""
    is_detection: Bool[np.ndarray, " e"]
    """Among the best 100 of its picture (BOP 2024)."""

    @property
    def group(self) -> Int64[np.ndarray, " e"]:
        return groups_of(self.picture, self.obj_id)


def estimate_columns(estimates: Sequence[Estimate], pictures: Pictures, truths: Truths) -> EstimateColumns:
    """Those in pictures that no target names are left out; compare lengths to count them.

    Raises:
        InputError: A score or pose is not finite.
    """
    _check_finite(estimates)
    keys = zip(pictures.scene_id.tolist(), pictures.image_id.tolist(), strict=True)
    rows = {key: row for row, key in enumerate(keys)}
    kept = [i for i, estimate in enumerate(estimates) if (estimate.scene_id, estimate.image_id) in rows]
    chosen = [estimates[i] for i in kept]
    picture = np.array([rows[e.scene_id, e.image_id] for e in chosen], np.int64)
    obj_id = np.array([e.obj_id for e in chosen], np.int64)
    score = np.array([e.score for e in chosen], np.float64)
    target_groups, counts = np.unique(truths.group[truths.is_target], return_counts=True)
    wanted = dict(zip(target_groups.tolist(), counts.tolist(), strict=True))
    groups = groups_of(picture, obj_id)
    limit = np.array([wanted.get(group, 0) for group in groups.tolist()], np.int64)
    return EstimateColumns(
        np.array(kept, np.int64),
        picture,
        obj_id,
        score,
        np.stack([e.cam_from_obj_mm for e in chosen]).astype(np.float64) if chosen else np.zeros((0, 4, 4)),
        best_of_each(groups, score, limit),
        best_of_each(picture, score, np.full(len(chosen), MOST_PER_PICTURE)),
    )


def seconds_per_image(estimates: Sequence[Estimate]) -> float | None:
    """Mean over pictures; None where the time of one is unknown.

    Raises:
        InputError: Estimates of one picture tell different times, for which BOP's server rejects a file.
    """
    times: dict[tuple[int, int], float] = {}
    for e in estimates:
        first = times.setdefault((e.scene_id, e.image_id), e.time_s)
        if first != e.time_s:
            raise InputError(
                f"scene {e.scene_id}, image {e.image_id}: its estimates tell times {first} s and {e.time_s} s; "
                "the time is that of the whole picture, the same for all"
            )
    known = list(times.values())
    return None if not known or UNKNOWN_TIME_S in known else float(np.mean(known))


def _check_finite(estimates: Sequence[Estimate]) -> None:
    problems = [
        f"scene {e.scene_id}, image {e.image_id}, object {e.obj_id}: its {name} is not finite ({value})"
        for e in estimates
        for name, value in (("score", e.score), ("pose", e.cam_from_obj_mm[:3].tolist()))
        if not np.isfinite(value).all()
    ]
    if problems:
        raise InputError(problems)
