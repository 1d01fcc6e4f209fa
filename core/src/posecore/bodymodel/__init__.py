"""SMPL-family body models (MANO, SMPL, SMAL, SMIL): reading and writing their files safely, and posing them."""

from posecore.bodymodel.arrays import BodyArrays
from posecore.bodymodel.files import read_model, write_model
from posecore.bodymodel.limbs import pca_limbs
from posecore.bodymodel.model import BodyModel, BodyOutput

__all__ = ["BodyArrays", "BodyModel", "BodyOutput", "pca_limbs", "read_model", "write_model"]
