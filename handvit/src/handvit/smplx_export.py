"""Hand poses for SMPL-X: what `smplx.SMPLX(use_pca=False, flat_hand_mean=True)` takes as its two hands' poses.

SMPL-X's hands have MANO's 15 joints in MANO's order, and each side its own convention, which left hands here are in already.
The wrist's rotation belongs to the body there: it is given beside, in the camera's frame.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from handvit.predict import Hands

COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "frame_index": ("i8", ()),
    "person": ("i8", ()),
    **{f"{side}_hand_pose": ("f4", (45,)) for side in ("left", "right")},
    **{f"{side}_wrist_orient": ("f4", (3,)) for side in ("left", "right")},
    **{f"has_{side}_hand": ("?", ()) for side in ("left", "right")},
}
CONSTANTS = {"use_pca": False, "flat_hand_mean": True}


def smplx_rows(hands: Hands, frame_indices: Sequence[int]) -> dict[str, Any]:
    """A row for each left and right hand of a frame: the first left one with the first right one, and so on.

    Args:
        frame_indices: The frame of each hand; hands of a frame follow each other.

    Returns:
        `COLUMNS`: poses are absolute axis-angles, zero (a flat hand) where `has_left_hand` or `has_right_hand` is False.
    """
    frames = np.asarray(frame_indices)
    rows: list[tuple[int, int, int | None, int | None]] = []
    for frame in dict.fromkeys(frames.tolist()):
        members = np.flatnonzero(frames == frame).tolist()
        sides = [[i for i in members if hands.handedness[i] == side] for side in ("left", "right")]
        rows += [(frame, person, *pair) for person, pair in enumerate(zip_longest(*sides))]
    columns: dict[str, Any] = {
        "frame_index": np.array([row[0] for row in rows], np.int64),
        "person": np.array([row[1] for row in rows], np.int64),
    }
    for side, chosen in (("left", [row[2] for row in rows]), ("right", [row[3] for row in rows])):
        has = np.array([index is not None for index in chosen], bool)
        poses = np.zeros((len(rows), 48), np.float32)
        poses[has] = hands.pose[[index for index in chosen if index is not None]]
        columns |= {f"{side}_wrist_orient": poses[:, :3], f"{side}_hand_pose": poses[:, 3:], f"has_{side}_hand": has}
    return columns
