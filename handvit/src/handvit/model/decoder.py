"""The hand decoder: one learned query attends the image tokens; linear heads read pose, shape and place from it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from handvit.config.model import JointType, PoseMean
from handvit.model.attention import CrossAttentionLayers, TokenDecoder
from handvit.model.prediction import HandInput, HandPrediction
from handvit.model.rotation_head import (
    NUM_ROTATIONS,
    PARAMETERS,
    first_pose,
    mean_axis_angle,
    pose_to_rotations,
)
from handvit.model.translation_heads import TranslationHead

NUM_BETAS = 10
FIRST_GAIN = 0.01
"""Of the linear heads' first weights: small, so that a new network predicts the mean pose and shape."""


class HandDecoder(nn.Module):
    """Names of parameters are those of the published network. The start values of the query are learned, and saved.

    `mean_rotations`: the fingers' mean pose (angles below pi). With `pose_mean` absolute the first prediction lies there,
    with relative every prediction is an offset from it.
    """

    mean_pose: Tensor | None

    def __init__(
        self,
        dim: int,
        context_dim: int,
        translation_head: TranslationHead,
        num_layer: int = 4,
        num_head: int = 16,
        dim_head: int = 64,
        mlp_dim: int = 4096,
        dropout: float = 0.1,
        joint_type: JointType = "6d",
        pose_mean: PoseMean = "absolute",
        mean_rotations: Float[Tensor, "15 3 3"] | None = None,
    ) -> None:
        super().__init__()
        if pose_mean == "relative" and mean_rotations is None:
            raise ValueError("pose_mean relative needs the hand model's mean pose (mean_rotations), and none is given")
        mean = None if mean_rotations is None else mean_axis_angle(mean_rotations)
        is_relative = pose_mean == "relative"
        self.joint_type: JointType = joint_type
        self.register_buffer("mean_pose", mean if is_relative else None, persistent=False)  # the hand model has it
        first = first_pose(joint_type, None if is_relative else mean)[None]
        self.init_hand_pose = nn.Parameter(first.clone())
        self.init_betas = nn.Parameter(torch.zeros(1, NUM_BETAS))
        self.init_cam = nn.Parameter(torch.zeros(1, 3))
        layers = CrossAttentionLayers(dim, context_dim, num_layer, num_head, dim_head, mlp_dim, dropout)
        num_pose = NUM_ROTATIONS * PARAMETERS[joint_type]
        self.transformer = TokenDecoder(1, num_pose + NUM_BETAS + 3, dim, layers)
        self.decpose, self.decshape = nn.Linear(dim, num_pose), nn.Linear(dim, NUM_BETAS)
        self.deccam = translation_head
        self._first_prediction(first[0])

    def forward(self, context: Float[Tensor, "n m c"]) -> Float[Tensor, "n d"]:
        """The query after it has seen one image's tokens."""
        query = torch.cat((self.init_hand_pose, self.init_betas, self.init_cam), -1)
        token: Tensor = self.transformer(query.expand(context.shape[0], 1, -1), context)
        return token[:, 0]

    def read(self, token: Float[Tensor, "b t d"], frames: HandInput) -> HandPrediction:
        """Pose, shape and place from tokens, in float32 also under autocast (bf16 steps by 4 at a depth of 910 mm)."""
        token = token.float()
        with torch.autocast(token.device.type, enabled=False):
            pose = self.decpose(token)
            return HandPrediction(
                rotations=pose_to_rotations(pose, self.joint_type, self.mean_pose),
                pose_params=pose,
                betas=self.decshape(token),
                translation=self.deccam(token, frames),
                tokens=token,
            )

    @torch.no_grad()
    def _first_prediction(self, pose: Tensor) -> None:
        for head in (self.decpose, self.decshape):
            nn.init.xavier_uniform_(head.weight, gain=FIRST_GAIN)
            nn.init.zeros_(head.bias)
        self.decpose.bias.copy_(pose)
