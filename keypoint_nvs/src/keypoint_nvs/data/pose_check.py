"""Whether a sample's cameras stand where the rig's do."""

import numpy as np

from keypoint_nvs.data.records import MultiviewSample
from keypoint_nvs.rig import Rig
from posecore.errors import InputError


def check_poses(sample: MultiviewSample, rig: Rig, max_pose_error_deg: float, where: str) -> None:
    """A sample without cameras of its target views has the rig's.

    Raises:
        InputError: A target view is turned farther than that from the rig's; names sample, view and angle.
    """
    if sample.target_cameras is None:
        return
    cond = None if sample.cond_camera is None else sample.cond_camera.cam_from_world[0]
    errors = rig.pose_errors_deg(sample.target_cameras.cam_from_world, cond)
    view = int(np.argmax(errors))
    if not errors[view] <= max_pose_error_deg:
        raise InputError(
            f"{where}: target_cam_from_world: view {view} is turned {errors[view]:.1f} degrees away from rig {rig.name}; "
            f"max_pose_error_deg allows {max_pose_error_deg:g}"
        )
