"""MANO labels of data sets: offsets from the mean pose to absolute poses, world to camera, and the joints they give."""

import numpy as np
import torch
from jaxtyping import Float

from handvit.data.converters.report import ConversionReport
from handvit.data.records import Handedness
from handvit.hand import HandModel, pose_to_rotations, to_absolute
from posecore.errors import InputError
from posecore.rotations import axis_angle_to_matrix, matrix_to_axis_angle


def check_hand(
    hand: HandModel | None, side: Handedness, report: ConversionReport, allow_standin: bool
) -> HandModel | None:
    """The hand that labels of this side are converted with; without one they are left out, and the report says so.

    Raises:
        InputError: The stand-in hand: its mean pose and shapes are not those that the labels refer to.
    """
    file = f"MANO_{side.upper()}.pkl"
    if hand is None:
        report.warn(
            f"MANO labels of {side} hands were left out: they are relative to the mean pose in {file}, not given"
        )
    elif hand.is_standin and not allow_standin:
        raise InputError(
            f"{side} hand: is the stand-in; labels of a real data set need {file} (https://mano.is.tue.mpg.de), or no "
            "hand: then joints alone are converted"
        )
    elif hand.is_standin:
        report.warn(f"MANO labels of {side} hands were converted with the stand-in: poses and shapes are wrong")
    return hand


def absolute_pose(pose: Float[np.ndarray, "t 48"], hand: HandModel) -> Float[np.ndarray, "t 48"]:
    """From an offset to the mean pose to absolute axis-angles (a flat hand is 0)."""
    absolute: np.ndarray = to_absolute(torch.from_numpy(pose).double(), hand.hands_mean.double().cpu()).numpy()
    return absolute


def turn_root(
    pose: Float[np.ndarray, "t 48"], cam_from_world_rot: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "t 48"]:
    """Poses whose root is turned against the world to poses whose root is turned against the camera."""
    turned = torch.from_numpy(cam_from_world_rot).double() @ axis_angle_to_matrix(
        torch.from_numpy(pose[:, :3]).double()
    )
    return np.concatenate([matrix_to_axis_angle(turned).numpy(), pose[:, 3:]], axis=1)


def rest_root_mm(hand: HandModel, betas: Float[np.ndarray, "t 10"]) -> Float[np.ndarray, "t 3"]:
    """J_0 of each shape in the model's frame, mm: the root turns about it."""
    return _millimetres(hand.root_rest_m(_tensor(betas, hand)))


def posed_joints_mm(
    hand: HandModel,
    pose: Float[np.ndarray, "t 48"],
    betas: Float[np.ndarray, "t 10"],
    root_mm: Float[np.ndarray, "t 3"],
) -> Float[np.ndarray, "t 21 3"]:
    """Joints of absolute poses whose root joint lies at `root_mm` (where it is J_0 + translation)."""
    return _millimetres(hand(*_placed(hand, pose, betas, root_mm), joints_only=True).joints_m)


def posed_hand_mm(
    hand: HandModel,
    pose: Float[np.ndarray, "t 48"],
    betas: Float[np.ndarray, "t 10"],
    root_mm: Float[np.ndarray, "t 3"],
) -> tuple[Float[np.ndarray, "t 21 3"], Float[np.ndarray, "t 778 3"]]:
    """As `posed_joints_mm`, and the vertices."""
    joints_m, vertices_m = hand(*_placed(hand, pose, betas, root_mm))
    return _millimetres(joints_m), _millimetres(vertices_m)


def _placed(
    hand: HandModel, pose: np.ndarray, betas: np.ndarray, root_mm: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rotations = pose_to_rotations(torch.from_numpy(pose).double()).numpy()
    translation_m = (root_mm - rest_root_mm(hand, betas)) / 1000.0
    return _tensor(rotations, hand), _tensor(betas, hand), _tensor(translation_m, hand)


def _tensor(values: np.ndarray, hand: HandModel) -> torch.Tensor:
    return torch.from_numpy(values).to(hand.hands_mean)


def _millimetres(metres: torch.Tensor) -> np.ndarray:
    values: np.ndarray = metres.detach().double().cpu().numpy()
    return values * 1000.0
