"""The hand: MANO's arrays posed with posecore's body model, its files, its poses and its mirror image."""

from handvit.hand.files import convert_mano, mano_info, read_hand, write_hand
from handvit.hand.mesh import boundary_loop, close_wrist
from handvit.hand.mirror import fix_left_shapes, mirror_arrays, mirror_axis_angle, mirror_points, mirror_rotations
from handvit.hand.model import SIZE_RANGE_MM, HandModel, HandOutput, find_hand_problems, hand_size_mm
from handvit.hand.pose import pca_to_axis_angle, pose_to_rotations, rotations_to_pose, to_absolute, to_relative

__all__ = [
    "SIZE_RANGE_MM",
    "HandModel",
    "HandOutput",
    "boundary_loop",
    "close_wrist",
    "convert_mano",
    "find_hand_problems",
    "fix_left_shapes",
    "hand_size_mm",
    "mano_info",
    "mirror_arrays",
    "mirror_axis_angle",
    "mirror_points",
    "mirror_rotations",
    "pca_to_axis_angle",
    "pose_to_rotations",
    "read_hand",
    "rotations_to_pose",
    "to_absolute",
    "to_relative",
    "write_hand",
]
