"""Loss terms, each a named function that returns a sum and a count, and their weighed total."""

from posecore.losses import Term, total_loss
from smil_regressor.losses.scene import LossSettings, Scene
from smil_regressor.losses.table import TERMS, denominators, loss_terms
from smil_regressor.losses.triangulation import Triangulation, triangulate_keypoints

__all__ = [
    "TERMS",
    "LossSettings",
    "Scene",
    "Term",
    "Triangulation",
    "denominators",
    "loss_terms",
    "total_loss",
    "triangulate_keypoints",
]
