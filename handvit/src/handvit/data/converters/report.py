"""What a conversion did: counted, measured, and written beside the shards as `conversion.json`."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from handvit.data.check import reprojection_error_px
from handvit.data.records import ClipRecord


@dataclass
class ConversionReport:
    """Converters fill it while they read (`skip`, `warn`, `measure_mano`); `write_conversion` counts what it writes."""

    dataset: str
    split: str
    shard: tuple[int, int] | None = None
    """(i, n): the i-th of n parts of the sequences, from 0; None: all of them."""
    sequences: int = 0
    clips: int = 0
    frames: int = 0
    """Frames of clips; a picture of two hands counts twice."""
    hands: Counter[str] = field(default_factory=Counter)
    """Frames by side."""
    frames_with_mano: int = 0
    frames_with_3d: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Samples (a hand in a frame) that were left out, by reason."""
    first_skipped: dict[str, str] = field(default_factory=dict)
    """The first sample of each reason."""
    warnings: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    """Names of the shards."""
    _reprojection_px: list[np.ndarray] = field(default_factory=list, repr=False)
    _mano_mm: list[np.ndarray] = field(default_factory=list, repr=False)
    _mano_vertices_mm: list[np.ndarray] = field(default_factory=list, repr=False)

    def skip(self, reason: str, sample: str, count: int = 1) -> None:
        """Samples are left out. `reason` is the same text for all of its kind; `sample` names the (first) one."""
        self.skipped[reason] += count
        self.first_skipped.setdefault(reason, sample)

    def warn(self, message: str) -> None:
        """Told once, however often it is said."""
        if message not in self.warnings:
            self.warnings.append(message)

    def measure_mano(
        self,
        posed_mm: Float[np.ndarray, "t 21 3"],
        labelled_mm: Float[np.ndarray, "t 21 3"],
        valid: Float[np.ndarray, "t 21"],
    ) -> None:
        """Distance between the joints of the converted MANO labels and the labelled ones; a frame counts its mean."""
        self._mano_mm.append(_frame_means(np.linalg.norm(posed_mm - labelled_mm, axis=-1), valid))

    def measure_mano_vertices(
        self, posed_mm: Float[np.ndarray, "t v 3"], labelled_mm: Float[np.ndarray, "t v 3"]
    ) -> None:
        """As `measure_mano`, for data sets that come with the vertices."""
        self._mano_vertices_mm.append(np.linalg.norm(posed_mm - labelled_mm, axis=-1).mean(1))

    def count(self, record: ClipRecord) -> None:
        """A clip as it was converted, before it is cropped."""
        self.clips += 1
        self.frames += len(record)
        self.hands[record.handedness] += len(record)
        self.frames_with_mano += int((record.has_mano > 0).sum())
        self.frames_with_3d += int((record.joint_3d_valid > 0).any(1).sum())
        self._reprojection_px.append(_reprojection_errors(record))

    def to_dict(self) -> dict[str, Any]:
        """For JSON. Errors are over frames, of the mean (MANO) or the largest (reprojection) error of a frame's joints;
        null where nothing could be measured."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "shard": None if self.shard is None else list(self.shard),
            "sequences": self.sequences,
            "clips": self.clips,
            "frames": self.frames,
            "hands": dict(self.hands),
            "frames_with_mano": self.frames_with_mano,
            "frames_with_3d": self.frames_with_3d,
            "skipped": dict(self.skipped),
            "first_skipped": self.first_skipped,
            "reprojection_error_px": _median_and_max(self._reprojection_px),
            "mano_error_mm": _median_and_max(self._mano_mm),
            "mano_vertex_error_mm": _median_and_max(self._mano_vertices_mm),
            "warnings": self.warnings,
            "files": self.files,
        }

    def write(self, folder: Path) -> Path:
        """Write `conversion.json`, or `conversion-0003-of-0016.json` for a part."""
        part = "" if self.shard is None else f"-{self.shard[0]:04d}-of-{self.shard[1]:04d}"
        path = folder / f"conversion{part}.json"
        unfinished = path.with_name(f".{path.name}.writing")
        unfinished.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        unfinished.replace(path)
        return path


def _reprojection_errors(record: ClipRecord) -> Float[np.ndarray, " n"]:
    """Largest distance, px, between projected 3D joints and 2D joints of each frame that has both and intrinsics."""
    known = (record.joint_2d_valid > 0) & (record.joint_3d_valid > 0) & (record.has_intr > 0)[:, None]
    return np.asarray(reprojection_error_px(record).max(1)[known.any(1)])


def _frame_means(values: Float[np.ndarray, "t n"], valid: Float[np.ndarray, "t n"]) -> Float[np.ndarray, " k"]:
    counts = valid.sum(1)
    sums = np.where(valid > 0, values, 0.0).sum(1)
    return np.asarray(sums[counts > 0] / counts[counts > 0])


def _median_and_max(parts: list[np.ndarray]) -> dict[str, float] | None:
    values = np.concatenate(parts) if parts else np.zeros(0)
    return {"median": float(np.median(values)), "max": float(values.max())} if len(values) else None
