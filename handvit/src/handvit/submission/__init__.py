"""Files that benchmarks take, read back and scored as they do it."""

from handvit.submission.benchmarks import Submission, score_submission, write_submission
from handvit.submission.dexycb import read_dexycb, score_dexycb, write_dexycb
from handvit.submission.freihand import FREIHAND_COUNT, read_freihand, score_freihand, write_freihand
from handvit.submission.hands import Hands, arranged, read_points
from handvit.submission.ho3d import read_ho3d, read_ho3d_truth, read_order, score_ho3d, write_ho3d
from handvit.submission.predictions import read_predictions, write_predictions

__all__ = [
    "FREIHAND_COUNT",
    "Hands",
    "Submission",
    "arranged",
    "read_dexycb",
    "read_freihand",
    "read_ho3d",
    "read_ho3d_truth",
    "read_order",
    "read_points",
    "read_predictions",
    "score_dexycb",
    "score_freihand",
    "score_ho3d",
    "score_submission",
    "write_dexycb",
    "write_freihand",
    "write_ho3d",
    "write_predictions",
    "write_submission",
]
