"""The network as two plain functions on tensors: patches to MANO's parameters, parameters to a posed hand.

For code that brings its own patches; `handvit.predict.Predictor` takes pictures and boxes.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from handvit.hand import HandModel, pose_to_rotations, rotations_to_pose
from handvit.model.network import HandNetwork
from handvit.model.prediction import HandInput
from handvit.posing import MM


def predict_mano_param(
    network: HandNetwork,
    hand: HandModel,
    img: Float[Tensor, "b t 3 p p"],
    bbox: Float[Tensor, "b t 4"],
    focal: Float[Tensor, "b t 2"],
    princpt: Float[Tensor, "b t 2"],
    timestamp: Float[Tensor, "b t"] | None = None,
    *,
    norm_by_hand: bool,
) -> tuple[Float[Tensor, "b 1 48"], Float[Tensor, "b 1 10"], Float[Tensor, "b 1 3"]]:
    """Pose (absolute axis-angle), shape and MANO's transl of the last frame of each clip of right hands.

    Args:
        img: Patches, RGB 0..1.
        bbox: The squares that they were cut from, x1, y1, x2, y2 px.
        timestamp: ms; None: single frames.
        norm_by_hand: As the network was trained.

    Returns:
        Radians; transl in metres: the wrist minus J_0(beta).
    """
    times = torch.zeros_like(focal[..., 0]) if timestamp is None else timestamp
    found = network(HandInput(img, bbox, bbox, focal, princpt, times))
    betas = found.betas[:, -1:]
    root = found.translation.root[:, -1:]
    if norm_by_hand:
        root = root * hand.rest_size_mm(betas)[..., None]
    return rotations_to_pose(found.rotations[:, -1:]), betas, root / MM - hand.root_rest_m(betas)


def mano_to_pose(
    hand: HandModel,
    pose: Float[Tensor, "*b 48"],
    shape: Float[Tensor, "*b 10"],
    trans: Float[Tensor, "*b 3"] | None = None,
) -> tuple[Float[Tensor, "*b 21 3"], Float[Tensor, "*b 778 3"]]:
    """Joints (canonical order) and vertices, metres."""
    posed = hand(pose_to_rotations(pose), shape, trans)
    assert posed.vertices_m is not None
    return posed.joints_m, posed.vertices_m
