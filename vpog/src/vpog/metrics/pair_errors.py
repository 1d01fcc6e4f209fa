"""All errors of pairs of an estimate and a truth; those of one object are computed together."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from vpog.metrics.estimate_columns import EstimateColumns
from vpog.metrics.models import EvaluationModel
from vpog.metrics.pairs import Pairs
from vpog.metrics.pose_errors import (
    add_errors_mm,
    add_s_errors_mm,
    projection_errors_px,
    rotation_errors_deg,
    translation_errors_mm,
)
from vpog.metrics.symmetric_errors import mspd_errors_px, mssd_errors_mm, symmetric_rotation_errors_deg
from vpog.metrics.truths import Pictures, Truths


@dataclass(frozen=True)
class PoseErrors:
    """Of n pairs."""

    add_mm: Float[np.ndarray, " n"]
    add_s_mm: Float[np.ndarray, " n"]
    projection_px: Float[np.ndarray, " n"]
    rotation_deg: Float[np.ndarray, " n"]
    symmetric_rotation_deg: Float[np.ndarray, " n"]
    """To the nearest pose that looks the same."""
    translation_mm: Float[np.ndarray, " n"]


def symmetric_errors(
    pairs: Pairs,
    estimates: EstimateColumns,
    truths: Truths,
    pictures: Pictures,
    models: Mapping[int, EvaluationModel],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """MSSD (mm) and MSPD (px) of all pairs."""
    mssd, mspd = np.zeros(len(pairs)), np.zeros(len(pairs))
    for obj_id, rows in _by_object(truths.obj_id[pairs.truth]):
        estimated = estimates.cam_from_obj_mm[pairs.estimate[rows]]
        true = truths.cam_from_obj_mm[pairs.truth[rows]]
        K = pictures.K[truths.picture[pairs.truth[rows]]]
        mssd[rows] = mssd_errors_mm(estimated, true, models[obj_id])
        mspd[rows] = mspd_errors_px(estimated, true, models[obj_id], K)
    return mssd, mspd


def pose_errors(
    estimate: Int64[np.ndarray, " n"],
    truth: Int64[np.ndarray, " n"],
    estimates: EstimateColumns,
    truths: Truths,
    pictures: Pictures,
    models: Mapping[int, EvaluationModel],
    workers: int,
) -> PoseErrors:
    """Of pairs given by rows of estimates and of truths."""
    out = np.zeros((6, len(truth)))
    for obj_id, rows in _by_object(truths.obj_id[truth]):
        poses = estimates.cam_from_obj_mm[estimate[rows]], truths.cam_from_obj_mm[truth[rows]]
        points = np.asarray(models[obj_id].points_mm, np.float64)
        out[:, rows] = [
            add_errors_mm(*poses, points),
            add_s_errors_mm(*poses, points, workers),
            projection_errors_px(*poses, points, pictures.K[truths.picture[truth[rows]]]),
            rotation_errors_deg(*poses),
            symmetric_rotation_errors_deg(*poses, models[obj_id]),
            translation_errors_mm(*poses),
        ]
    return PoseErrors(*out)


def _by_object(obj_ids: Int64[np.ndarray, " n"]) -> list[tuple[int, Int64[np.ndarray, " m"]]]:
    return [(obj_id, np.flatnonzero(obj_ids == obj_id)) for obj_id in np.unique(obj_ids).tolist()]
