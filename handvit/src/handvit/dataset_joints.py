"""Which joints a benchmark measures: its fingertips, and where its inner joints come from."""

from dataclasses import replace
from typing import Literal, NamedTuple

import torch

from handvit.data.sample import Batch
from handvit.hand import HandModel
from handvit.hand.model import JointSource
from handvit.joints import FINGERTIPS, WRIST
from handvit.model.prediction import HandPrediction
from handvit.posing import MM, PosedHands

Joints = Literal["trained", "smplx", "freihand", "ho3d", "dexycb", "interhand"]


class Convention(NamedTuple):
    """Fingertip vertices of either side, and where inner joints come from."""

    right_tips: tuple[int, ...]
    left_tips: tuple[int, ...]
    joint_source: JointSource


CONVENTIONS: dict[Joints, Convention] = {
    "smplx": Convention(FINGERTIPS["smplx"], FINGERTIPS["smplx"], "kinematic"),
    "freihand": Convention(FINGERTIPS["freihand"], FINGERTIPS["freihand"], "regressed"),
    "ho3d": Convention(FINGERTIPS["ho3d"], FINGERTIPS["ho3d"], "kinematic"),
    "dexycb": Convention(FINGERTIPS["manopth_right"], FINGERTIPS["manopth_left"], "kinematic"),
    "interhand": Convention(FINGERTIPS["interhand"], FINGERTIPS["interhand"], "regressed"),
}


class DatasetJoints:
    """Gives predictions the joints of a data set, which may be others than those that the network was trained with.

    Args:
        hand: As in training: the root and the hand size are its.
    """

    def __init__(self, hand: HandModel, joints: Joints) -> None:
        self.hand = self._right = self._left = hand
        if joints != "trained":
            right, left, source = CONVENTIONS[joints]
            self._right = HandModel(hand.body, tips=right, joint_source=source).to(hand.faces.device)
            self._left = HandModel(hand.body, tips=left, joint_source=source).to(hand.faces.device)

    @property
    def measured(self) -> HandModel:
        """The hand whose wrist true meshes are placed by, of either side."""
        return self._right

    def of(self, posed: PosedHands, prediction: HandPrediction, batch: Batch) -> PosedHands:
        """The same hands at the same places; meshes do not change."""
        if self._right is self.hand:
            return posed
        rotations, betas = prediction.rotations.to(self.hand.dtype), prediction.betas.to(self.hand.dtype)
        wrist = self.hand(rotations, betas, joints_only=True).joints_m[..., WRIST : WRIST + 1, :]
        right, left = (side(rotations, betas, joints_only=True).joints_m for side in (self._right, self._left))
        joints_m = torch.where(batch.is_left[:, None, None, None], left, right)
        joint_cam = (joints_m - wrist) * MM + posed.root_mm[..., None, :]
        root = joint_cam[..., WRIST, :]
        return replace(posed, joint_cam_mm=joint_cam, joint_rel_mm=joint_cam - root[..., None, :], root_mm=root)
