"""What a prediction leaves on disk for programs: results.json, predictions.npz and smplx_hands.npz.

Frames are written as they come; nothing of a long video stays in memory but names and times.
"""

import json
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from handvit import __version__
from handvit.array_spool import ArraySpool
from handvit.hand_boxes import HandBox
from handvit.joints import JOINT_NAMES, MANO_JOINT_NAMES
from handvit.predict import Hands
from handvit.smplx_export import COLUMNS as SMPLX_COLUMNS
from handvit.smplx_export import CONSTANTS as SMPLX_CONSTANTS
from handvit.smplx_export import smplx_rows
from posecore.errors import InputError

FORMAT = 1
SYSTEM = "handvit predictions"
RESULTS, ARRAYS, SMPLX = "results.json", "predictions.npz", "smplx_hands.npz"
UNITS = {
    "_mm": "millimetres",
    "_px": "pixels, centres at integers",
    "pose": "radians (axis-angle)",
    "time_ms": "milliseconds",
}
CAMERA_FRAME = "OpenCV camera: x right, y down, z forward"
POSE = (
    "root in the camera's frame, then 15 joints as in mano_joint_names; absolute (a flat hand is 0); left hands in the left "
    "model's convention"
)
TRANSLATION = "MANO's transl: vertex = model(pose, betas) + translation; root is the wrist"
COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "frame_index": ("i8", ()),
    "handedness": ("U5", ()),
    "track": ("i8", ()),
    "boxes": ("f8", (4,)),
    "K": ("f8", (3, 3)),
    "is_depth_assumed": ("?", ()),
    "pose": ("f4", (48,)),
    "betas": ("f4", (10,)),
    "translation_mm": ("f4", (3,)),
    "root_mm": ("f4", (3,)),
    "joints_mm": ("f4", (21, 3)),
    "vertices_mm": ("f4", (778, 3)),
    "joints_px": ("f4", (21, 2)),
    "hand_size_mm": ("f4", ()),
    "score": ("f4", ()),
    "detector_score": ("f4", ()),
}


@dataclass(frozen=True)
class Frame:
    """A picture, or a frame of a video."""

    source: Path
    """As it was given."""
    name: str
    """Of its files."""
    size_wh: tuple[int, int]
    number: int | None = None
    """In its video, from 0."""
    time_ms: float | None = None
    """From the video's beginning."""


def prepare_folder(folder: Path) -> None:
    """Make the folder, or empty it of the files of an earlier run; others stay.

    Raises:
        InputError: It holds something, but no results of handvit: nothing of others is overwritten.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output {folder}: is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        return
    try:
        content = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or content.get("system") != SYSTEM:
        raise InputError(f"--output {folder}: holds files, but no results of handvit; name a new or empty folder")
    for name in content.get("files", []):
        if Path(name).name == name:  # never outside of the folder, whatever the file says
            (folder / name).unlink(missing_ok=True)


class ResultsWriter:
    """Collects frames; on leaving the `with` block the files are there, whole.

    Until then, and after an error, results.json says that it is not complete.
    """

    def __init__(self, folder: Path, head: dict[str, Any]) -> None:
        """`head`: what results.json says besides, such as the checkpoint."""
        self.folder, self.head = folder, head
        self.files: list[str] = [ARRAYS, SMPLX]
        self.frames: list[Frame] = []
        self.num_hands = 0
        self._tracks: dict[tuple[Path, str], int] = {}
        self._lines = tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115 - `_close` does it
        self._arrays = ArraySpool(COLUMNS, folder)
        self._smplx = ArraySpool(SMPLX_COLUMNS, folder)
        self._write_unfinished()

    def path(self, name: str) -> Path:
        """Where to write a further file of this run."""
        self.files.append(name)
        return self.folder / name

    def add(self, frame: Frame, hands: Hands | None, boxes: Sequence[HandBox]) -> None:
        """A frame with its hands (None: it has none) and the boxes they were predicted from, in the same order."""
        index = len(self.frames)
        self.frames.append(frame)
        entries = [] if hands is None else [_entry(hands, i, box) for i, box in enumerate(boxes)]
        content = {
            "source": str(frame.source),
            "name": frame.name,
            "number": frame.number,
            "time_ms": None if frame.time_ms is None else round(frame.time_ms, 3),
            "size_px": list(frame.size_wh),
            "hands": entries,
        }
        self._lines.write(json.dumps(content, allow_nan=False) + "\n")
        if hands is None:
            return
        self.num_hands += len(hands)
        tracks = [-1 if box.track is None else self._track(frame.source, str(box.track)) for box in boxes]
        scores = [math.nan if box.score is None else box.score for box in boxes]
        given = {"frame_index": [index] * len(hands), "track": tracks, "detector_score": scores}
        self._arrays.add(**given, **{name: getattr(hands, name) for name in COLUMNS if name not in given})
        self._smplx.add(**smplx_rows(hands, [index] * len(hands)))

    def _track(self, source: Path, name: str) -> int:
        return self._tracks.setdefault((source, name), len(self._tracks))

    def _write_unfinished(self) -> None:
        content = {"format": FORMAT, "system": SYSTEM, "is_complete": False, "files": self.files}
        (self.folder / RESULTS).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _finish(self, right_faces: np.ndarray) -> None:
        frames: dict[str, Any] = {
            "frame_names": np.array([frame.name for frame in self.frames], dtype=np.str_),
            "frame_sources": np.array([str(frame.source) for frame in self.frames], dtype=np.str_),
            "frame_numbers": np.array([-1 if f.number is None else f.number for f in self.frames], np.int64),
            "times_ms": np.array([math.nan if f.time_ms is None else f.time_ms for f in self.frames]),
        }
        self._arrays.write(
            self.folder / ARRAYS,
            **frames,
            track_names=np.array([name for _, name in self._tracks], dtype=np.str_),
            joint_names=np.array(JOINT_NAMES),
            mano_joint_names=np.array(MANO_JOINT_NAMES),
            faces_right=right_faces,
            faces_left=right_faces[:, ::-1],
        )
        self._smplx.write(self.folder / SMPLX, **frames, **SMPLX_CONSTANTS)
        unfinished = self.folder / f".{RESULTS}"
        with unfinished.open("w", encoding="utf-8") as file:
            head = json.dumps(self._head(), indent=1, allow_nan=False)
            file.write(head[: head.rindex("\n}")] + ',\n "frames": [')
            self._lines.seek(0)
            for number, line in enumerate(self._lines):
                file.write(("," if number else "") + "\n  " + line.rstrip("\n"))
            file.write("\n ]\n}\n")
        os.replace(unfinished, self.folder / RESULTS)

    def _head(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "system": SYSTEM,
            "version": __version__,
            "is_complete": True,
            **self.head,
            "units": UNITS,
            "camera_frame": CAMERA_FRAME,
            "pose": POSE,
            "translation": TRANSLATION,
            "joint_names": list(JOINT_NAMES),
            "mano_joint_names": list(MANO_JOINT_NAMES),
            "files": self.files,
        }

    def finish(self, right_faces: np.ndarray) -> None:
        """Write everything. `right_faces`: of the hand model's mesh."""
        self._finish(right_faces)
        self._close()

    def _close(self) -> None:
        self._lines.close()
        self._arrays.close()
        self._smplx.close()

    def __enter__(self) -> "ResultsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._write_unfinished()  # so that the next run knows what to remove
        self._close()


def _entry(hands: Hands, index: int, box: HandBox) -> dict[str, Any]:
    """Everything of a hand but its mesh, as JSON."""
    return {
        "side": hands.handedness[index],
        "track": box.track,
        "box": _numbers(hands.boxes[index], 3),
        "detector_score": box.score,
        "score": round(float(hands.score[index]), 4),
        "K": hands.K[index].tolist(),
        "is_depth_assumed": bool(hands.is_depth_assumed[index]),
        "pose": _numbers(hands.pose[index], 6),
        "betas": _numbers(hands.betas[index], 6),
        "translation_mm": _numbers(hands.translation_mm[index], 4),
        "root_mm": _numbers(hands.root_mm[index], 4),
        "hand_size_mm": round(float(hands.hand_size_mm[index]), 4),
        "joints_mm": [_numbers(row, 4) for row in hands.joints_mm[index]],
        "joints_px": [_numbers(row, 3) if np.isfinite(row).all() else None for row in hands.joints_px[index]],
    }


def _numbers(values: np.ndarray, digits: int) -> list[float]:
    return [round(value, digits) for value in values.astype(float).tolist()]
