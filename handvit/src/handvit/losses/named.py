"""The published losses by name, for use outside of training: each gives the masked mean of its error.

Masks hold weights, 0 leaves an element out (it may be NaN); an empty mask gives 0 and keeps the graph.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from handvit.losses.distances import Norm, heatmap_cross_entropy
from handvit.losses.joints import reprojection_term
from handvit.losses.parameters import axis_angle_term, mean_term
from posecore.losses import weighed


@dataclass(frozen=True)
class Keypoint3DLoss:
    """Joints, root-relative or in the camera frame: mean over xyz, masked over joints; times `scale`."""

    norm: Norm = "l1"
    scale: float = 1.0

    def __call__(
        self,
        prediction: Float[Tensor, "*batch j 3"],
        target: Float[Tensor, "*batch j 3"],
        valid: Float[Tensor, "*batch j"],
    ) -> Float[Tensor, ""]:
        return self.scale * mean_term(prediction, target, valid, self.norm).mean()


@dataclass(frozen=True)
class Vertex3DLoss:
    """Vertices: mean over all coordinates of a frame, masked over frames."""

    norm: Norm = "l1"

    def __call__(
        self,
        prediction: Float[Tensor, "*batch v 3"],
        target: Float[Tensor, "*batch v 3"],
        valid: Float[Tensor, "*batch"],
    ) -> Float[Tensor, ""]:
        return mean_term(prediction, target, valid, self.norm).mean()


@dataclass(frozen=True)
class Axis3DLoss:
    """Rotation vectors of all joints, radians, against the nearest representative of the true rotations."""

    norm: Norm = "l1"

    def __call__(
        self,
        prediction: Float[Tensor, "*batch k"],
        target: Float[Tensor, "*batch k"],
        valid: Float[Tensor, "*batch"],
    ) -> Float[Tensor, ""]:
        pair = [vectors.reshape(*vectors.shape[:-1], -1, 3) for vectors in (prediction, target)]
        return axis_angle_term(pair[0], pair[1], valid, self.norm).mean()


@dataclass(frozen=True)
class ManoPoseLoss:
    """Pose and shape parameters: (theta, shape), each a mean over the entries of a frame, masked by has_mano."""

    norm: Norm = "l1"

    def __call__(
        self,
        pose: Float[Tensor, "*batch 48"],
        shape: Float[Tensor, "*batch 10"],
        true_pose: Float[Tensor, "*batch 48"],
        true_shape: Float[Tensor, "*batch 10"],
        has_mano: Float[Tensor, "*batch"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        theta = Axis3DLoss(self.norm)(pose, true_pose, has_mano)
        return theta, mean_term(shape, true_shape, has_mano, self.norm).mean()


@dataclass(frozen=True)
class HeatmapCELoss:
    """Cross entropy of one-dimensional heat maps, masked; `sigma` in the unit of the centres."""

    sigma: float
    kind: Literal["normalised", "upstream"] = "normalised"

    def __call__(
        self,
        log_probabilities: Float[Tensor, "*batch n"],
        centers: Float[Tensor, " n"],
        target: Float[Tensor, "*batch"],
        valid: Float[Tensor, "*batch"],
    ) -> Float[Tensor, ""]:
        known = torch.where(valid > 0, target, 0)
        return weighed(heatmap_cross_entropy(log_probabilities, centers, known, self.sigma, self.kind), valid).mean()


def reprojection(
    prediction_mm: Float[Tensor, "*batch j 3"],
    target_mm: Float[Tensor, "*batch j 3"],
    focal: Float[Tensor, "*batch 2"],
    princpt: Float[Tensor, "*batch 2"],
    valid: Float[Tensor, "*batch j"],
    *,
    norm: Literal["l1", "robust"] = "robust",
    delta_px: float = 84.0,
    patch_bbox: Float[Tensor, "*batch 4"] | None = None,
    patch_size: int | None = None,
) -> Float[Tensor, ""]:
    """Between the projections of two sets of joints in the camera frame; in patch pixels where a box and size are given."""
    if (patch_bbox is None) != (patch_size is None):
        raise ValueError("patch pixels need both patch_bbox and patch_size")
    patch = None if patch_bbox is None or patch_size is None else (patch_bbox, patch_size)
    return reprojection_term(prediction_mm, target_mm, (focal, princpt), valid, norm, delta_px, patch).mean()
