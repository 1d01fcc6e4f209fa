"""Clips in order, from this process or from several, into shards."""

import multiprocessing
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handvit.data.records import ClipRecord
from handvit.data.shards import write_clip
from handvit.data.synthetic.clip import plan_clip, render_clips
from handvit.data.synthetic.motion import STANDARD, Difficulty
from handvit.data.synthetic.render import HandMesh
from handvit.hand import HandModel
from posecore.data.shard_writer import ShardWriter
from posecore.errors import InputError
from posecore.rendering import Backend

FRAMES_AT_ONCE = 32
"""Rendered in one call, whatever the number of workers, so that it has no part in the result."""
QUALITY = 92


@dataclass(frozen=True)
class SyntheticSet:
    """What a set of clips is made from, apart from the hand."""

    clips: int
    frames: int
    size: tuple[int, int]
    seed: int
    split: str
    left_share: float = 0.5
    difficulty: Difficulty = STANDARD
    quality: int = QUALITY
    backend: Backend = "warp"


def synthesise(
    output: Path,
    hand: HandModel,
    *,
    clips: int,
    frames: int,
    size: tuple[int, int],
    seed: int,
    split: str,
    left_share: float = 0.5,
    difficulty: Difficulty = STANDARD,
    workers: int = 0,
    quality: int = QUALITY,
    clips_per_shard: int = 1000,
    backend: Backend = "warp",
) -> dict[str, Any]:
    """Write shards `SPLIT-000000.tar` ... of clips to a folder; the same arguments give the same bytes.

    Args:
        hand: A right hand.
        frames: Of each clip; 1: single pictures.
        size: Height and width of the pictures, pixels.
        split: Name of the part; clips of two splits differ, whatever the seed.
        left_share: Share of left hands, which are mirror images of right ones.
        workers: Processes that render; 0: this one does. The result is the same.
        quality: Of the JPEG files, 1 to 100.

    Returns:
        Counts and ranges, for a person to look at.

    Raises:
        InputError: An argument cannot be, or shards of this split are in the folder already.
    """
    wanted = SyntheticSet(clips, frames, size, seed, split, left_share, difficulty, quality, backend)
    problems = find_problems(wanted) + ([f"workers: {workers}, must be at least 0"] if workers < 0 else [])
    if problems:
        raise InputError(problems)
    report = _Report()
    with ShardWriter(output, f"{split}-%06d.tar", max_samples=clips_per_shard) as writer:
        for record in synthetic_records(wanted, hand, workers):
            write_clip(writer, record)
            report.add(record)
    return report.summary() | {"shards": [path.name for path in writer.paths], "standin": hand.is_standin}


def synthetic_records(wanted: SyntheticSet, hand: HandModel, workers: int = 0) -> Iterator[ClipRecord]:
    """The clips in order, as records that lie nowhere yet."""
    at_once = max(1, FRAMES_AT_ONCE // wanted.frames)
    parts = [range(start, min(start + at_once, wanted.clips)) for start in range(0, wanted.clips, at_once)]
    made: Iterable[list[ClipRecord]]
    with ExitStack() as stack:
        if workers == 0:
            stack.enter_context(_one_thread())
            made = map(partial(_render, _Workshop(wanted, hand)), parts)
        else:
            # a fork would copy the locks of torch's and Warp's threads
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(workers, context, _open_workshop, (wanted, hand))
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            made = pool.map(_render_here, parts)
        for records in made:
            yield from records


def find_problems(wanted: SyntheticSet) -> list[str]:
    """What cannot be, one line a problem."""
    problems = [
        f"{name}: {value}, must be at least {least}"
        for name, value, least in (
            ("clips", wanted.clips, 1),
            ("frames", wanted.frames, 1),
            ("size", min(wanted.size), 32),
            ("seed", wanted.seed, 0),
        )
        if value < least
    ]
    if not re.fullmatch(r"[\w-]+", wanted.split, re.ASCII):
        problems.append(f"split: {wanted.split!r}, must be letters, digits, _ and -, as in train")
    if not 0 <= wanted.left_share <= 1:
        problems.append(f"left_share: {wanted.left_share}, must be 0 to 1")
    if not 1 <= wanted.quality <= 100:
        problems.append(f"quality: {wanted.quality}, must be 1 to 100")
    return problems + _difficulty_problems(wanted.difficulty)


def _difficulty_problems(difficulty: Difficulty) -> list[str]:
    problems = []
    for name, least in (("depth_mm", 250.0), ("fill", 0.05)):
        low, high = getattr(difficulty, name)
        if not least <= low <= high:
            problems.append(f"{name}: {low} to {high}, must rise and begin at {least:g} or more")
    bounds = {
        "rotation_range_deg": 180.0,
        "articulation": 1.0,
        "occluders": 1.0,
        "blur": 1.0,
        "glove": 1.0,
        "dropped_frames": 0.9,
    }
    for field in fields(difficulty):
        value = getattr(difficulty, field.name)
        if isinstance(value, tuple):
            continue
        most = bounds.get(field.name, np.inf)
        if not 0 <= value <= most:
            problems.append(f"{field.name}: {value}, must be 0 to {most:g}")
    return problems


class _Workshop:
    """What a process keeps from one part to the next."""

    def __init__(self, wanted: SyntheticSet, hand: HandModel) -> None:
        self.wanted, self.hand, self.mesh = wanted, hand, HandMesh.of(hand)
        # equal seeds of several splits must not give equal clips
        self.seed = int.from_bytes(wanted.split.encode()) * 2**64 + wanted.seed


def _render(workshop: _Workshop, numbers: Sequence[int]) -> list[ClipRecord]:
    wanted = workshop.wanted
    plans = [
        plan_clip(
            workshop.mesh, workshop.seed, number, wanted.frames, wanted.size, wanted.left_share, wanted.difficulty
        )
        for number in numbers
    ]
    return render_clips(
        workshop.hand, workshop.mesh, plans, wanted.size, wanted.split, wanted.difficulty,
        quality=wanted.quality, backend=wanted.backend,
    )  # fmt: skip


_here: _Workshop | None = None


def _open_workshop(wanted: SyntheticSet, hand: HandModel) -> None:
    global _here
    torch.set_num_threads(1)
    _here = _Workshop(wanted, hand)


def _render_here(numbers: Sequence[int]) -> list[ClipRecord]:
    assert _here is not None
    return _render(_here, numbers)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in the order that worker processes have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Report:
    """Counts of what was written."""

    def __init__(self) -> None:
        self.clips, self.frames, self.left = 0, 0, 0
        self.depths_mm: list[float] = []
        self.box_px: list[float] = []
        self.outside = 0

    def add(self, record: ClipRecord) -> None:
        self.clips += 1
        self.frames += len(record)
        self.left += record.handedness == "left"
        self.depths_mm += record.joint_cam_mm[:, 0, 2].tolist()
        self.box_px += (record.hand_bbox[:, 2:] - record.hand_bbox[:, :2]).max(1).tolist()
        self.outside += int((record.joint_2d_valid == 0).sum())

    def summary(self) -> dict[str, Any]:
        return {
            "clips": self.clips,
            "frames": self.frames,
            "left_clips": self.left,
            "wrist_depth_mm": [round(float(np.quantile(self.depths_mm, share)), 1) for share in (0, 0.5, 1)],
            "longer_box_edge_px": [round(float(np.quantile(self.box_px, share)), 1) for share in (0, 0.5, 1)],
            "joints_outside_share": round(self.outside / (21 * self.frames), 4),
        }
