"""A prediction beside its targets, with what several losses need computed once."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.rendering import Backend
from smil_regressor.data.sample import Batch
from smil_regressor.losses.triangulation import Triangulation
from smil_regressor.model.body import Body, project_joints, to_cameras
from smil_regressor.model.prediction import Prediction
from smil_regressor.model.state import BodyParameters

SilhouetteKind = Literal["bce", "l1", "soft_iou"]
RotationError = Literal["frobenius", "squared"]


@dataclass(frozen=True)
class LossSettings:
    """How the terms are computed; how much they count is the curriculum's matter."""

    joint_weights: Float[Tensor, " j"] | None = None
    """Importance of each joint in the keypoint losses, 0 = ignored. None: all 1."""
    rotation_error: RotationError = "frobenius"
    """Of the difference of two matrices: norm, or mean square of the entries."""
    visible_only: bool = False
    """Single-view training: 3D keypoints and joint rotations count only for joints that some view sees."""
    length_scale: float = 1.0
    """Lengths of the world are divided by it, so that weights mean the same whatever the data's unit."""
    huber_delta: float | None = None
    """Keypoint errors beyond this (fraction of the image, world units) grow linearly. None: squared error."""
    renderer: Backend = "warp"
    silhouette: SilhouetteKind = "bce"
    silhouette_sigma: float | None = None
    """None: edge-antialiased silhouettes. Else soft ones with this blur."""
    triangulation: Triangulation = field(default_factory=Triangulation)


@dataclass(frozen=True)
class Scene:
    """One body (the final one, or that of an iteration) seen by the predicted cameras, and the batch of targets."""

    body: BodyParameters
    cameras: Prediction
    batch: Batch
    model: Body

    @cached_property
    def joints_world(self) -> Float[Tensor, "b j 3"]:
        return self.model.joints(self.body)

    @cached_property
    def joints_px(self) -> tuple[Float[Tensor, "b v j 2"], Tensor]:
        """Pixels, and which joints are in front of the camera."""
        return project_joints(self.joints_world, self.cameras)

    def vertices_cam(self, chosen: tuple[Tensor, Tensor]) -> Float[Tensor, "n p 3"]:
        """Vertices in the cameras of the chosen (sample, view) pairs."""
        sample, view = chosen
        cam_from_world = self.cameras.cam_from_world[sample, view]
        return to_cameras(self.model.vertices(self.body)[sample], cam_from_world[:, None])[:, 0]


def image_size_wh(batch: Batch) -> Float[Tensor, " 2"]:
    h, w = batch.images.shape[2:4]
    return torch.tensor([w, h], dtype=torch.float32, device=batch.images.device)


def joint_weights(batch: Batch, settings: LossSettings) -> Float[Tensor, " j"]:
    if settings.joint_weights is None:
        return torch.ones(batch.keypoints_world.shape[1], device=batch.images.device)
    return settings.joint_weights.to(batch.images.device)
