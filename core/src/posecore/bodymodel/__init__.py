"""SMPL-family body models (MANO, SMPL, SMAL, SMIL): reading and writing their files safely, and posing them."""

from posecore.bodymodel.arrays import BodyArrays
from posecore.bodymodel.files import read_arrays, read_content, read_model, to_pickle, write_model
from posecore.bodymodel.keypoints import SurfacePatch
from posecore.bodymodel.limbs import pca_limbs
from posecore.bodymodel.model import BodyModel, BodyOutput, Landmarks

__all__ = [
    "BodyArrays",
    "BodyModel",
    "BodyOutput",
    "Landmarks",
    "SurfacePatch",
    "pca_limbs",
    "read_arrays",
    "read_content",
    "read_model",
    "to_pickle",
    "write_model",
]
