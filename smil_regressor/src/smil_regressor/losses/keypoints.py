"""Keypoint losses, in the image and in space."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posecore.losses import Term, masked_difference, weighed
from smil_regressor.data.sample import Batch
from smil_regressor.losses.scene import LossSettings, Scene, image_size_wh, joint_weights


def keypoint_2d_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b v j"]:
    """Joint weight where the joint is labelled, lies in the picture and its view is valid; else 0."""
    corner = (batch.keypoints_px + 0.5) / image_size_wh(batch)  # pixel centres are integers: the picture starts at -0.5
    inside = ((corner >= 0) & (corner <= 1)).all(-1)
    return (labelled(batch) & inside) * joint_weights(batch, settings)


def keypoint_2d(scene: Scene, settings: LossSettings) -> Term:
    """Mean square distance per coordinate, in fractions of the image's width and height, over all views' joints.

    Joints that are predicted behind a camera have no projection and add nothing, but still count.
    """
    predicted, in_front = scene.joints_px
    weight = keypoint_2d_weights(scene.batch, settings)
    difference = masked_difference(predicted, scene.batch.keypoints_px, weight * in_front)
    return weighed(squared_distance(difference / image_size_wh(scene.batch), settings.huber_delta), weight)


def keypoint_3d_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b j"]:
    valid = batch.has_keypoints_world
    if settings.visible_only:
        valid = valid & labelled(batch).any(1)
    return valid * joint_weights(batch, settings)


def keypoint_3d(scene: Scene, settings: LossSettings) -> Term:
    """Mean square distance per coordinate, in world units over `length_scale`."""
    weight = keypoint_3d_weights(scene.batch, settings)
    difference = masked_difference(scene.joints_world, scene.batch.keypoints_world, weight) / settings.length_scale
    return weighed(squared_distance(difference, settings.huber_delta), weight)


def labelled(batch: Batch) -> Bool[Tensor, "b v j"]:
    """The view is valid and has the joint."""
    return (batch.visibility > 0) & batch.view_mask[..., None]


def squared_distance(difference: Float[Tensor, "*batch d"], huber_delta: float | None) -> Float[Tensor, "*batch"]:
    """|d|^2 / dimension; with a delta, twice Huber's loss of |d| instead, which agrees below delta."""
    squared = difference.square().sum(-1)
    if huber_delta is not None:
        far = squared > huber_delta**2
        norm = torch.where(far, squared, 1).sqrt()
        squared = torch.where(far, 2 * huber_delta * norm - huber_delta**2, squared)
    return squared / difference.shape[-1]
