"""The body model's joints and vertices of a prediction, placed in the world."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from posecore.bodymodel import BodyModel
from posecore.cameras import project, transform
from smil_regressor.model.prediction import Prediction
from smil_regressor.model.state import BodyParameters

Placement = Literal["unreal", "mesh_scale", "plain"]
UNREAL_SCALE = 10.0  # the published data's models are ten times smaller than its worlds


class Body(nn.Module):
    """Places a body model.

    "unreal": (x - root) * 10 + translation. "mesh_scale": (x - root) * predicted scale + translation.
    "plain": x + translation. Limb scales go down the tree, as in training of the published models.
    """

    def __init__(self, model: BodyModel, placement: Placement = "plain", root: int = 0) -> None:
        super().__init__()
        self.model, self.placement, self.root = model, placement, root

    def joints(self, body: BodyParameters) -> Float[Tensor, "b j 3"]:
        """Joints in world units, without skinning a vertex."""
        joints = self.model.keypoints(*self._arguments(body))
        return self._place(joints, joints, body)

    def vertices(self, body: BodyParameters) -> Float[Tensor, "b n 3"]:
        out = self.model(*self._arguments(body))
        return self._place(out.vertices, out.joints, body)

    def _arguments(self, body: BodyParameters) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        origin = torch.zeros_like(body.translation)
        return body.rotations, body.betas, origin, body.log_scales, body.joint_offsets

    def _place(self, points: Tensor, joints: Tensor, body: BodyParameters) -> Tensor:
        translation = body.translation[:, None]
        if self.placement == "plain":
            return points + translation
        centred = points - joints[:, self.root : self.root + 1]
        if self.placement == "unreal":
            return centred * UNREAL_SCALE + translation
        if body.mesh_scale is None:
            raise ValueError("placement mesh_scale needs a network that predicts a mesh scale")
        return centred * body.mesh_scale[:, None, None] + translation


def to_cameras(
    points_world: Float[Tensor, "b n 3"], cam_from_world: Float[Tensor, "b v 4 4"]
) -> Float[Tensor, "b v n 3"]:
    b, v = cam_from_world.shape[:2]
    return transform(cam_from_world, points_world[:, None].expand(b, v, *points_world.shape[1:]))


def project_joints(
    joints_world: Float[Tensor, "b j 3"], cameras: Prediction
) -> tuple[Float[Tensor, "b v j 2"], Bool[Tensor, "b v j"]]:
    """Pixels in every view, and which joints are in front of it."""
    return project(to_cameras(joints_world, cameras.cam_from_world), cameras.K)
