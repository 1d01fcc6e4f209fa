"""Triangulation consistency: what the predicted cameras make of the labelled keypoints must be where the body is."""

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.losses import Term, weighed
from smil_regressor.data.sample import Batch
from smil_regressor.losses.keypoints import labelled, squared_distance
from smil_regressor.losses.scene import LossSettings, Scene, image_size_wh, joint_weights
from smil_regressor.losses.triangulation import MIN_VIEWS, triangulate_keypoints


def triangulation_consistency_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, "b j"]:
    """Joint weight where at least two views label the joint, inside the picture or not."""
    return (labelled(batch).sum(1) >= MIN_VIEWS) * joint_weights(batch, settings)


def triangulation_consistency(scene: Scene, settings: LossSettings) -> Term:
    """Mean square distance per coordinate between the triangulated point and the body's joint.

    The gradient goes to the cameras only: the body is what they must agree with. Points that fly off (nearly parallel
    rays) add nothing, but count.
    """
    batch, options = scene.batch, settings.triangulation
    weight = triangulation_consistency_weights(batch, settings)
    confidence = labelled(batch) * batch.visibility
    cameras = (scene.cameras.K, scene.cameras.cam_from_world)
    points, valid = triangulate_keypoints(batch.keypoints_px, *cameras, confidence, image_size_wh(batch), options)
    joints = scene.joints_world.detach()
    centred = joints - joints.mean(1, keepdim=True)
    radius = centred.square().sum(-1).mean(1, keepdim=True).sqrt()
    distance = torch.linalg.vector_norm(points.detach() - joints.mean(1, keepdim=True), dim=-1)
    counts = valid & (distance < options.max_distance * radius)
    difference = torch.where((counts & (weight > 0))[..., None], points - joints, 0).to(joints.dtype)
    difference = difference / settings.length_scale
    return weighed(squared_distance(difference, options.huber_delta), weight)
