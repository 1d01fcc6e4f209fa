"""Skeletons and boxes."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from handvit.joints import PARENTS
from posecore.draw import TRUTH, Color, Picture, draw_skeleton

PREDICTION: Color = (235, 60, 50)
"""Red beside the truth's green, as hand papers draw it."""
FINGER_COLORS: tuple[Color, ...] = ((240, 70, 60), (245, 170, 40), (70, 190, 80), (60, 130, 240), (180, 90, 220))
"""Thumb to little finger."""
WRIST_COLOR: Color = (230, 230, 230)


def joint_colors() -> Int[np.ndarray, "21 3"]:
    """A colour for each canonical joint: its finger's, paler towards the palm."""
    colors = [np.array(WRIST_COLOR)]
    for finger in FINGER_COLORS:
        colors += [np.array(finger) * share + 255 * (1 - share) for share in (0.62, 0.75, 0.88, 1.0)]
    return np.array(colors).round().astype(int)


def draw_hand(
    image: Picture,
    joints_px: Float[np.ndarray, "21 2"],
    valid: Bool[np.ndarray, " 21"] | None = None,
    *,
    numbered: bool = False,
) -> Picture:
    """A hand's skeleton in the colours of its fingers; `numbered` writes each joint's number beside it."""
    canvas = draw_skeleton(image, joints_px, PARENTS, valid, joint_colors())
    if not numbered:
        return canvas
    shown = np.ones(21, bool) if valid is None else valid
    for joint in np.flatnonzero(shown & np.isfinite(joints_px).all(1)):
        x, y = (round(float(value)) for value in joints_px[joint])
        for ink, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(canvas, str(joint), (x + 4, y - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.32, ink, width, cv2.LINE_AA)
    return canvas


def draw_pair(
    image: Picture,
    truth_px: Float[np.ndarray, "21 2"],
    predicted_px: Float[np.ndarray, "21 2"],
    valid: Bool[np.ndarray, " 21"] | None = None,
) -> Picture:
    """The true skeleton in green (where it is valid), the predicted one in red above it."""
    canvas = draw_skeleton(image, truth_px, PARENTS, valid, TRUTH)
    return draw_skeleton(canvas, predicted_px, PARENTS, None, PREDICTION)


def draw_box(image: Picture, box: Float[np.ndarray, " 4"], color: Color = (255, 220, 60)) -> Picture:
    """The box (x1, y1, x2, y2); its part outside of the picture is not seen."""
    canvas = image.copy()
    corners = np.round(np.clip(box, -(2**15), 2**15) * 16).astype(int).tolist()
    thickness = max(1, round(min(image.shape[:2]) / 250))
    cv2.rectangle(canvas, tuple(corners[:2]), tuple(corners[2:]), color, thickness, cv2.LINE_AA, 4)
    return canvas
