"""Training, validation and test parts of a source, and the file that remembers them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from posecore.data.splits import random_split_indices, split_blocks, split_by_group
from posecore.errors import InputError
from smil_regressor.data.sample import Sample
from smil_regressor.data.source import PoseSource

SplitBy = Literal["session", "block", "frame"]
PARTS = ("train", "validation", "test")

GAP_SHARE = 0.02
"""Frames left out between two blocks of a session, as a share of its frames (at least one): neighbours look alike."""


@dataclass(frozen=True)
class Split:
    """Indices of a source's samples."""

    train: Int[np.ndarray, " a"]
    validation: Int[np.ndarray, " b"]
    test: Int[np.ndarray, " c"]


def split_source(
    source: PoseSource, ratios: tuple[float, float, float], by: SplitBy, seed: int, where: str = "dataset"
) -> Split:
    """Split samples so that views of one frame stay together.

    `session`: whole sessions. `block`: each session's frames in order, cut with gaps. `frame`: random frames, as
    `torch.utils.data.random_split` with this seed draws them (SMILify's multi-view trainer).

    Args:
        ratios: Of training, validation and test; what they lack to 1 goes to the test part.
        where: Start of messages.

    Raises:
        InputError: Too few sessions or frames.
    """
    fractions = [ratios[0], ratios[1], max(1 - ratios[0] - ratios[1], 0.0)]
    try:
        if by == "session":
            parts = split_by_group(source.sessions, fractions, seed)
        elif by == "block":
            parts = _blocks(source, fractions)
        else:
            parts = _frames(source, fractions, seed)
    except ValueError as error:
        other = "block or frame" if by == "session" else "frame"
        advice = f"; set dataset.split_by to {other}, or a ratio to 0" if by != "frame" else ""
        raise InputError(f"{where}: split by {by}: {error}{advice}") from None
    if not parts[0]:
        raise InputError(f"{where}: no sample is left for training with ratios {ratios} of {len(source)} samples")
    return Split(*(np.array(part, dtype=np.int64) for part in parts))


def write_split(path: Path, split: Split, source: PoseSource, by: SplitBy, seed: int) -> None:
    """JSON with the indices of each part and a digest of the samples' sessions and frames."""
    content: dict[str, Any] = {"split_by": by, "seed": seed, "samples": len(source), "digest": source_digest(source)}
    content |= {part: getattr(split, part).tolist() for part in PARTS}
    path.write_text(json.dumps(content) + "\n")


def read_split(path: Path, source: PoseSource) -> Split:
    """The split of `write_split`.

    Raises:
        InputError: It belongs to other data.
    """
    content = json.loads(path.read_text())
    if content["samples"] != len(source) or content["digest"] != source_digest(source):
        raise InputError(
            f"{path}: the split is of {content['samples']} other samples than the {len(source)} here; "
            "evaluate on the training data, or on all of another file"
        )
    return Split(*(np.array(content[part], dtype=np.int64) for part in PARTS))


def source_digest(source: PoseSource) -> str:
    """SHA-256 of the sessions and frames in order."""
    text = "\n".join(f"{session}:{frame}" for session, frame in zip(source.sessions, source.frames, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()


class Subset:
    """Some samples of a source, in the given order."""

    def __init__(self, source: PoseSource, indices: Sequence[int] | Int[np.ndarray, " n"]) -> None:
        self.source, self.indices = source, np.asarray(indices, dtype=np.int64)
        self.sessions = [source.sessions[i] for i in self.indices]
        self.frames: Int[np.ndarray, " n"] = source.frames[self.indices]
        self.view_slots, self.camera_order = source.view_slots, source.camera_order
        self.resolution, self.world_scale = source.resolution, source.world_scale
        self.world_frame = source.world_frame

    def __len__(self) -> int:
        return len(self.indices)

    def load(self, index: int, rng: np.random.Generator) -> Sample:
        return self.source.load(int(self.indices[index]), rng)

    def labels(self, index: int) -> Sample:
        """The sample without pictures."""
        return self.source.labels(int(self.indices[index]))


def _frame_groups(source: PoseSource) -> list[list[int]]:
    """Samples of the same session and frame, in order of appearance."""
    groups: dict[tuple[str, int], list[int]] = {}
    for index, (session, frame) in enumerate(zip(source.sessions, source.frames, strict=True)):
        groups.setdefault((session, int(frame)), []).append(index)
    return list(groups.values())


def _frames(source: PoseSource, fractions: list[float], seed: int) -> list[list[int]]:
    groups = _frame_groups(source)
    return [[i for g in part for i in groups[g]] for part in random_split_indices(len(groups), fractions, seed)]


def _blocks(source: PoseSource, fractions: list[float]) -> list[list[int]]:
    sessions: dict[str, list[list[int]]] = {}
    for group in _frame_groups(source):
        sessions.setdefault(source.sessions[group[0]], []).append(group)
    parts: list[list[int]] = [[] for _ in fractions]
    for groups in sessions.values():
        ordered = sorted(groups, key=lambda group: int(source.frames[group[0]]))
        gap = max(1, round(GAP_SHARE * len(ordered)))
        for part, block in zip(parts, split_blocks(len(ordered), fractions, gap), strict=True):
            part += [i for g in block for i in ordered[g]]
    return parts
