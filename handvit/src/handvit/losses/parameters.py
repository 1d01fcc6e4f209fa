"""Losses on pose and shape parameters, where a dataset has fitted them."""

import torch
from jaxtyping import Float
from torch import Tensor

from handvit.data.sample import Batch
from handvit.losses.distances import Norm, elementwise, nearest_axis_angle
from handvit.losses.scene import LossSettings, Scene
from posecore.losses import Term, masked_difference, weighed
from posecore.rotations import axis_angle_to_matrix, geodesic_distance, matrix_to_axis_angle


def mano_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b t"]:
    return batch.has_mano


def theta(scene: Scene, settings: LossSettings) -> Term:
    """Pose: mean over 48 entries of the rotation vectors, or the mean angle (radians) of 16 rotations."""
    weight = mano_weights(scene.batch, settings)
    target = torch.where((weight > 0)[..., None], scene.batch.mano_pose, 0).reshape(*weight.shape, 16, 3)
    rotations = scene.prediction.rotations.to(torch.promote_types(scene.prediction.rotations.dtype, target.dtype))
    if settings.pose_error == "geodesic":
        return weighed(geodesic_distance(rotations, axis_angle_to_matrix(target)).mean(-1), weight)
    return axis_angle_term(matrix_to_axis_angle(rotations), target, weight, settings.parameter_norm)


def shape(scene: Scene, settings: LossSettings) -> Term:
    weight = mano_weights(scene.batch, settings)
    return mean_term(scene.prediction.betas, scene.batch.mano_shape, weight, settings.parameter_norm)


def axis_angle_term(
    prediction: Float[Tensor, "*batch j 3"],
    target: Float[Tensor, "*batch j 3"],
    weight: Float[Tensor, "*batch"],
    norm: Norm,
) -> Term:
    """Mean over all entries of a frame, against the nearest representative of the true rotations."""
    nearest = nearest_axis_angle(torch.where((weight > 0)[..., None, None], target, 0), prediction)
    return mean_term(prediction, nearest, weight, norm)


def mean_term(prediction: Tensor, target: Tensor, weight: Tensor, norm: Norm) -> Term:
    """For each element that has a weight, the mean over its further axes."""
    error = elementwise(masked_difference(prediction, target, weight), norm)
    extra = tuple(range(weight.ndim, error.ndim))
    return weighed(error.mean(extra) if extra else error, weight)
