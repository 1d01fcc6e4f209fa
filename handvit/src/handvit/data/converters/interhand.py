"""InterHand2.6M, both frame rates: a clip is one hand in one camera of one sequence, cut where frames are missing.

Two interacting hands give two clips. Joints are the labelled ones; MANO's fit misses them by about 5 mm (the report says
by how much). Left hands stay left, their poses in the left model's convention. The 5 fps release numbers its frames as
the recording did, so time is counted in steps: the commonest distance between frames of a sequence is one.
Source: Moon et al., InterHand2.6M (ECCV 2020) and NeuralAnnot (CVPRW 2022), README of the data set.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from handvit.data.converters.clip_writing import part_of, shard_pattern, write_conversion
from handvit.data.converters.interhand_clip import DATASET, build_record, find_hand_views
from handvit.data.converters.interhand_files import InterHandFiles, SequenceName, read_interhand
from handvit.data.converters.mano_labels import check_hand
from handvit.data.converters.report import ConversionReport
from handvit.data.records import ClipRecord, Handedness
from handvit.data.storage import CropStorage
from handvit.hand import HandModel
from handvit.joints import FINGERTIPS
from posecore.errors import InputError

Split = Literal["train", "val", "test"]
FrameRate = Literal[5, 30]

MAX_CLIP_FRAMES = 2000
"""About 60 MB of pictures: a clip is held in memory, and the last one of a shard must not carry it past 1 GB."""


def convert_interhand(
    root: Path,
    output: Path,
    *,
    split: Split,
    right: HandModel | None = None,
    left: HandModel | None = None,
    fps: FrameRate | None = None,
    shard: tuple[int, int] | None = None,
    crop: CropStorage | None = None,
    limit: int | None = None,
    allow_standin: bool = False,
) -> ConversionReport:
    """Convert one split.

    The annotations of the train split have several GB; parsed they take up to ten times that in memory.

    Args:
        root: The folder that holds `images` and `annotations`.
        output: Folder for the shards and `conversion.json`.
        split: Of the data set.
        right: Hand model of the licensed file, for the MANO labels; None: the labels of right hands are left out.
        left: Likewise, its shape basis mirrored (as `read_hand(..., side="left")` does).
        fps: Of the release; None: told by a folder called `InterHand2.6M_5fps...` or `..._30fps...` on the way.
        shard: (i, n): the i-th of n parts of the sequences.
        crop: Store margin crops; None: the pictures as they are.
        limit: At most so many clips.
        allow_standin: Take the stand-in hand for MANO. For trying things out: poses and shapes are wrong.

    Raises:
        InputError: A file or entry that is missing or damaged; names it.
    """
    report = ConversionReport(DATASET, split, shard)
    hands: dict[Handedness, HandModel | None] = {
        "right": check_hand(right, "right", report, allow_standin),
        "left": check_hand(left, "left", report, allow_standin),
    }
    rate = _frame_rate(root) if fps is None else fps
    files = read_interhand(root, split, with_mano=any(hand is not None for hand in hands.values()))
    part = part_of(list(files.sequences), shard)
    report.sequences = len(part)
    records = _records(files, part, {side: _labelled_as(hand) for side, hand in hands.items()}, rate, report)
    return write_conversion(records, output, shard_pattern(split, shard), crop, report, limit)


def _frame_rate(root: Path) -> FrameRate:
    names = root.resolve().parts
    slow, fast = (any(f"_{fps}fps" in name for name in names) for fps in (5, 30))
    if slow == fast:
        raise InputError(
            f"{root}: no folder's name says whether this is the 5 or the 30 fps release: give the frame rate"
        )
    return 5 if slow else 30


def _labelled_as(hand: HandModel | None) -> HandModel | None:
    """The hand with InterHand2.6M's own joints."""
    if hand is None:
        return None
    return HandModel(hand.body, tips=FINGERTIPS["interhand"], joint_source="regressed")


def _records(
    files: InterHandFiles,
    part: Sequence[SequenceName],
    hands: Mapping[Handedness, HandModel | None],
    fps: FrameRate,
    report: ConversionReport,
) -> Iterator[ClipRecord]:
    for name in part:
        cameras = files.sequences[name]
        clock = _Clock.of({view.frame for views in cameras.values() for view in views}, fps)
        for views in cameras.values():
            camera = files.camera(views[0].capture, views[0].camera)
            for side, hand in hands.items():
                mine = [view for view in views if view.hand_type in (side, "interacting")]
                labels = find_hand_views(files, mine, camera, side, report) if mine else None
                for run in [] if labels is None else labels.runs(clock.step, MAX_CLIP_FRAMES):
                    yield build_record(files, run, camera, side, hand, clock.time_ms, report)


@dataclass(frozen=True)
class _Clock:
    """Time of a sequence's frames, counted from its first."""

    first: int
    step: int
    """Frame numbers between neighbours."""
    fps: FrameRate

    @classmethod
    def of(cls, frames: set[int], fps: FrameRate) -> "_Clock":
        numbers = sorted(frames)
        steps = Counter(int(step) for step in np.diff(numbers))
        return cls(numbers[0], min(steps, key=lambda size: (-steps[size], size), default=1), fps)

    def time_ms(self, frame: int) -> float:
        return (frame - self.first) / self.step * 1000.0 / self.fps
