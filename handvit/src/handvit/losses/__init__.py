"""Loss terms, each a named function that returns a sum and a count, and their weighed total."""

from handvit.losses.distances import robust_l1
from handvit.losses.named import Axis3DLoss, HeatmapCELoss, Keypoint3DLoss, ManoPoseLoss, Vertex3DLoss, reprojection
from handvit.losses.scene import LossSettings, Scene
from handvit.losses.sums import loss_sums
from handvit.losses.table import TERMS, denominators, loss_terms
from posecore.losses import Term, total_loss

__all__ = [
    "TERMS",
    "Axis3DLoss",
    "HeatmapCELoss",
    "Keypoint3DLoss",
    "LossSettings",
    "ManoPoseLoss",
    "Scene",
    "Term",
    "Vertex3DLoss",
    "denominators",
    "loss_sums",
    "loss_terms",
    "reprojection",
    "robust_l1",
    "total_loss",
]
