"""What a fit may change, and how sure it is of what it starts from."""

from dataclasses import dataclass

from posecore.errors import InputError
from posecore.rendering import Backend

KEYPOINT_SIGMA = 0.01
"""Expected error of a 2D label, as a share of the picture's side."""
POINT_SIGMA = 0.02
"""Expected error of a 3D label, as a share of the animal's length."""
ANGLE_SIGMA_RAD = 0.6
"""How far joints turn from the rest pose."""
LIMB_SCALE_SIGMA = 0.15
"""Log scale of a limb."""
LIMB_OFFSET_SIGMA = 0.03
"""Offset of a joint, as a share of the animal's length."""
CAMERA_ROTATION_SIGMA_RAD = 0.05
CAMERA_SHIFT_SIGMA = 0.05
"""Of a camera that is refined, as a share of the animal's length."""
MASK_WEIGHT = 150.0
"""Of a view's silhouette: what a mask that is missed entirely costs, as a negative log likelihood."""
HUBER_WIDE, HUBER_NARROW = 16.0, 2.0
"""Label errors, in expected errors, beyond which they count linearly: at the start, and from the middle on."""


@dataclass(frozen=True)
class FitOptions:
    """What is fitted, and to which labels. Root, place and joint rotations and betas always are."""

    steps: int = 600
    """Of Adam, over all stages."""
    limbs: bool = False
    """Also fit a scale and an offset for each limb, for animals that the model's shapes do not cover."""
    masks: bool = True
    """Fit the outline to the masks, once the keypoints fit."""
    points: bool = True
    """Fit 3D keypoints where the file has them."""
    refine_cameras: bool = False
    """Turn and move cameras, the same in all frames of a session; the first camera of a session stays."""
    share_shape: bool = False
    """One shape, size and set of limbs for all frames of a session."""
    mesh_scale: float | None = None
    """World units for a unit of the body model, held fixed; None: fitted."""
    backend: Backend = "warp"

    def __post_init__(self) -> None:
        if self.steps < 20:
            raise ValueError(f"steps: {self.steps} is too few to fit anything; give 20 or more")
        if self.mesh_scale is not None and not self.mesh_scale > 0:
            raise InputError(f"--mesh-scale {self.mesh_scale}: a number above 0 is needed")
