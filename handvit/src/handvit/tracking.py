"""Which boxes of a video's frames are the same hand: as their file says, or by overlap."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from handvit.data.records import Handedness
from handvit.hand_boxes import HandBox, Track
from posecore.errors import InputError

MIN_OVERLAP = 0.2
"""Intersection over union from which boxes of following frames are one hand: fast hands keep little overlap."""
MAX_GAP_MS = 500.0
"""A hand that was not seen for longer is a new one."""


def check_tracks(frames: Mapping[int, Sequence[HandBox]], where: str) -> bool:
    """Whether the boxes of a video name their tracks.

    Raises:
        InputError: Some do and some do not, a track is twice in a frame or changes its side.
    """
    hands = [(number, hand) for number in sorted(frames) for hand in frames[number]]
    named = [hand.track is not None for _, hand in hands]
    if not any(named):
        return False
    if not all(named):
        frame = hands[named.index(False)][0]
        raise InputError(f"{where}: frame {frame}: a hand has no track, but others have; give all of them one, or none")
    sides: dict[Track | None, Handedness] = {}
    for number, hand in hands:
        if sides.setdefault(hand.track, hand.side) != hand.side:
            raise InputError(f"{where}: frame {number}: track {hand.track} is a {hand.side} hand, but not before")
        if sum(other.track == hand.track for other in frames[number]) > 1:
            raise InputError(f"{where}: frame {number}: track {hand.track} is there twice")
    return True


class OverlapTracker:
    """Tracks by box overlap: a hand is the one of the same side whose last box it overlaps, if it was seen lately."""

    def __init__(self, min_overlap: float = MIN_OVERLAP, max_gap_ms: float = MAX_GAP_MS) -> None:
        self.min_overlap, self.max_gap_ms = min_overlap, max_gap_ms
        self._last: dict[int, tuple[HandBox, float]] = {}
        self._count = 0

    def __call__(self, hands: Sequence[HandBox], timestamp_ms: float) -> list[HandBox]:
        """The hands of the next frame with their tracks, numbered from 0. Together they overlap as much as can be."""
        self._last = {t: seen for t, seen in self._last.items() if timestamp_ms - seen[1] <= self.max_gap_ms}
        known = list(self._last)
        overlaps = np.array(
            [
                [overlap(hand.box, self._last[t][0].box) if hand.side == self._last[t][0].side else 0.0 for t in known]
                for hand in hands
            ]
        ).reshape(len(hands), len(known))
        overlaps[overlaps < self.min_overlap] = 0.0
        chosen = {
            int(row): known[column]
            for row, column in zip(*linear_sum_assignment(-overlaps), strict=True)
            if overlaps[row, column] > 0
        }
        tracked = []
        for row, hand in enumerate(hands):
            if row not in chosen:
                chosen[row], self._count = self._count, self._count + 1
            tracked.append(replace(hand, track=chosen[row]))
            self._last[chosen[row]] = (tracked[-1], timestamp_ms)
        return tracked


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)
