"""Hands posed again from changed parameters, so that joints, vertices and pixels agree with them."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from handvit.hand import HandModel, mirror_points, mirror_rotations
from handvit.predict import MM, Hands, project_mm
from posecore.rotations import matrix_to_axis_angle


def posed_again(hands: Hands, hand: HandModel) -> Hands:
    """The hands that `rotations`, `betas` and `root_mm` say; everything else that follows from them is made anew.

    Left hands are posed as right ones in the mirror, as the network sees them.
    """
    is_left = torch.tensor([side == "left" for side in hands.handedness])
    rotations, betas, root = (_tensor(x, hand) for x in (hands.rotations, hands.betas, hands.root_mm))
    with torch.no_grad():
        mirrored = torch.where(
            is_left[:, None, None, None].to(rotations.device), mirror_rotations(rotations), rotations
        )
        posed = hand(mirrored, betas)
        assert posed.vertices_m is not None  # joints_only is off
        wrist = posed.joints_m[:, :1]
        joints = _from_wrist_mm(posed.joints_m - wrist, is_left) + hands.root_mm[:, None]
        vertices = _from_wrist_mm(posed.vertices_m - wrist, is_left) + hands.root_mm[:, None]
        rest = _from_wrist_mm(hand.root_rest_m(betas)[:, None], is_left)[:, 0]
        size = hand.rest_size_mm(betas)
    return replace(
        hands,
        pose=matrix_to_axis_angle(rotations).flatten(-2).cpu().numpy(),
        translation_mm=root.cpu().numpy() - rest,
        joints_mm=joints,
        vertices_mm=vertices,
        joints_px=project_mm(joints, hands.K),
        hand_size_mm=size.cpu().numpy(),
    )


def _from_wrist_mm(points_m: Float[Tensor, "n p 3"], is_left: Tensor) -> Float[np.ndarray, "n p 3"]:
    turned = torch.where(is_left[:, None, None].to(points_m.device), mirror_points(points_m), points_m)
    return np.asarray(turned.cpu().numpy() * MM)


def _tensor(values: np.ndarray, hand: HandModel) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(hand.faces.device, hand.dtype)
