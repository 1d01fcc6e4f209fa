"""Which frames are good enough to learn from, decided before a picture is decoded; and what that leaves out."""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool

from handvit.data.frame_table import FrameTable


@dataclass(frozen=True)
class Dropped:
    """What is not used, and why."""

    frames: int
    """Of all frames."""
    few_joints: int
    """Frames with too few valid 2D joints."""
    small_box: int
    """Other frames whose box is too small."""
    clips: int
    """Clips that the sequences have."""
    dropped_clips: int
    """Clips that the filter drops."""
    short_sequences: int
    """Sequences too short for a clip."""

    def to_dict(self) -> dict[str, int]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.dropped_clips} of {self.clips} clips dropped; of {self.frames} frames {self.few_joints} have too few "
            f"valid 2D joints and {self.small_box} too small a box; {self.short_sequences} sequences are too short"
        )


def good_frames(table: FrameTable, min_valid_joints: int, min_box_px: float) -> tuple[Bool[np.ndarray, " f"], int, int]:
    """Which frames pass, how many have too few joints, and how many of the others too small a box."""
    has_joints = table.valid_2d >= min_valid_joints
    good: Bool[np.ndarray, " f"] = has_joints & (table.box_edge_px >= min_box_px)
    return good, int((~has_joints).sum()), int((has_joints & ~good).sum())
