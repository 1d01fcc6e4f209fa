"""The network's camera of a clip: the stored one after mirroring, turning to the hand and augmentation.

All of it is one linear map of camera space, R_tilt R_z diag(1, 1, s) R_turn M, and the homography of the picture that
follows from it, K_new map K_old^-1. Mirroring a picture is the case M = diag(-1, 1, 1) with cx -> W - 1 - cx.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from handvit.data import geometry
from handvit.data.augmentation import GeometricDraw
from handvit.data.records import ClipRecord
from posecore.errors import InputError

UPRIGHT = np.eye(3)
MIRROR = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class CameraChain:
    """The cameras of t frames, each with its hand's box."""

    key: str
    """For messages."""
    rigid: Float[np.ndarray, "t 3 3"]
    """Takes stored camera space to the network's; orthonormal, det -1 where mirrored."""
    linear: Float[np.ndarray, "t 3 3"]
    """The same with stretched depths, where they are."""
    focal: Float[np.ndarray, "t 2"]
    princpt: Float[np.ndarray, "t 2"]
    hand_bbox: Float[np.ndarray, "t 4"]

    @classmethod
    def start(cls, record: ClipRecord, size_wh: Float[np.ndarray, "t 2"]) -> "CameraChain":
        """The stored camera, mirrored where the hand is a left one; `size_wh` is that of the pictures.

        Raises:
            InputError: A box without area or outside its picture, a camera without focal length.
        """
        box, focal, princpt = (
            np.asarray(values, np.float64) for values in (record.hand_bbox, record.focal, record.princpt)
        )
        check_frames(record.key, box, focal, princpt, size_wh)
        first = UPRIGHT
        if record.handedness == "left":
            first, width = MIRROR, size_wh[:, 0]
            box, princpt = geometry.mirror_boxes(box, width), geometry.mirror_pixels(princpt, width)
        first = np.broadcast_to(first, (len(box), 3, 3))
        return cls(record.key, first, first, focal, princpt, box)

    def turned(self) -> "CameraChain":
        """Each frame's camera looks at the centre of its box; the new box is that of the old one's warped corners."""
        rotation = geometry.turn_to_box(self.hand_bbox, self.focal, self.princpt)
        return self._moved(rotation, rotation, self.focal, self.princpt, "a box this wide cannot be turned to")

    def drawn(self, draw: GeometricDraw) -> "CameraChain":
        """Rolled, tilted, stretched, with another lens."""
        rotation = geometry.scene_rotation(draw.rotation_rad, draw.tilt)
        linear = rotation * np.array([1.0, 1.0, draw.depth_scale])
        princpt = self.princpt + draw.princpt_noise * np.linalg.norm(self.princpt, axis=-1, keepdims=True)
        remedy = "lower augmentation.tilt_max_deg"
        return self._moved(rotation, linear, self.focal * draw.focal_scale, princpt, remedy)

    def homography(self, stored_focal: geometry.Pair, stored_princpt: geometry.Pair) -> Float[np.ndarray, "t 3 3"]:
        """Network's picture from the stored one; positive weights are in front of the camera."""
        return _homography(self.linear, self.focal, self.princpt, stored_focal, stored_princpt)

    def _moved(
        self,
        rigid: Float[np.ndarray, "*#t 3 3"],
        linear: Float[np.ndarray, "*#t 3 3"],
        focal: Float[np.ndarray, "t 2"],
        princpt: Float[np.ndarray, "t 2"],
        remedy: str,
    ) -> "CameraChain":
        homography = _homography(linear, focal, princpt, self.focal, self.princpt)
        corners = geometry.box_corners(self.hand_bbox)
        if (hidden := geometry.behind(homography, corners).any(-1)).any():
            frame = int(hidden.argmax())
            raise InputError(
                f"{self.key}: hand_bbox of frame {frame} is {_shown(self.hand_bbox[frame])} and leaves the view of the "
                f"turned camera; {remedy}"
            )
        box = geometry.box_around(geometry.apply_homography(homography, corners))
        return CameraChain(self.key, rigid @ self.rigid, linear @ self.linear, focal, princpt, box)


def _homography(
    linear: Float[np.ndarray, "*#b 3 3"],
    focal: geometry.Pair,
    princpt: geometry.Pair,
    old_focal: geometry.Pair,
    old_princpt: geometry.Pair,
) -> Float[np.ndarray, "t 3 3"]:
    K = geometry.intrinsics_matrix(focal, princpt)
    return np.asarray(K @ linear @ geometry.inverse_intrinsics(old_focal, old_princpt))


def check_frames(
    key: str, box: geometry.Boxes, focal: geometry.Pair, princpt: geometry.Pair, size_wh: geometry.Pair
) -> None:
    has_area = ((box[:, 2:] > box[:, :2]) & np.isfinite(box[:, 2:] - box[:, :2])).all(-1)
    is_inside = ((box[:, :2] < size_wh - 0.5) & (box[:, 2:] > -0.5)).all(-1)
    has_camera = ((focal > 0) & np.isfinite(focal + princpt)).all(-1)
    fine = has_area & is_inside & has_camera
    if fine.all():
        return
    frame = int((~fine).argmax())
    of_frame = f"of frame {frame} is"
    if not has_area[frame]:
        raise InputError(
            f"{key}: hand_bbox {of_frame} {_shown(box[frame])}; it needs x1 < x2 and y1 < y2 "
            "(frames without a hand: filter policy all)"
        )
    if not has_camera[frame]:
        raise InputError(
            f"{key}: focal {of_frame} {_shown(focal[frame])}, princpt {_shown(princpt[frame])}; both must be known and "
            "focal above 0 (without a calibration: 1.2 max(W, H), the picture's centre and intr_type fixed_virtual)"
        )
    width, height = (int(size) for size in size_wh[frame])
    raise InputError(
        f"{key}: hand_bbox {of_frame} {_shown(box[frame])}, outside of its picture of {width} x {height} px"
    )


def _shown(values: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"
