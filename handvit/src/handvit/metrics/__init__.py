"""What an evaluation reports: errors of frames, their summaries, and the best constant answer beside them."""

from handvit.metrics.constant import ConstantFit, ConstantHand, best_constant
from handvit.metrics.frames import Frames, concatenate_frames, frames_of
from handvit.metrics.measure import Measurements, concatenate, joint_auc, measure
from handvit.metrics.motion import motion_errors, mrrpe
from handvit.metrics.summary import (
    breakdown,
    by_joint,
    keypoint_mean,
    select,
    summarise,
    sums_and_counts,
    validation_sums,
    write_csv,
)

__all__ = [
    "ConstantFit",
    "ConstantHand",
    "Frames",
    "Measurements",
    "best_constant",
    "breakdown",
    "by_joint",
    "concatenate",
    "concatenate_frames",
    "frames_of",
    "joint_auc",
    "keypoint_mean",
    "measure",
    "motion_errors",
    "mrrpe",
    "select",
    "summarise",
    "sums_and_counts",
    "validation_sums",
    "write_csv",
]
