"""HO3D's files: the lists of frames, the labels of a frame, and the evaluation truth.

Layout: `SPLIT.txt` with a line SEQ/ID a frame, `SPLIT/SEQ/{rgb,meta}/ID.{jpg or png,pkl}`. Labels in metres, OpenGL's frame.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from handvit.data.converters.annotation_json import entry, numbers, read_json, rows
from posecore.bodymodel.unpickle import load_items
from posecore.errors import InputError

FPS = 30.0
_LINE = re.compile(r"([^/\s]+)/(\d+)")
_LABELS = ("camMat", "handPose", "handTrans", "handBeta", "handJoints3D", "handBoundingBox")


@dataclass(frozen=True)
class Ho3dFrame:
    """A line of the list."""

    sequence: str
    name: str
    """As it is written, with leading zeros."""
    line: int
    """From 0: the frame's place in submissions and in the evaluation truth."""
    where: str

    @property
    def number(self) -> int:
        return int(self.name)


@dataclass(frozen=True)
class Ho3dLabel:
    """As stored: OpenGL's frame, metres, HO3D's order; None where it is not there."""

    camera: Float[np.ndarray, "3 3"]
    joints_m: Float[np.ndarray, "n 3"] | None
    """21, or in the evaluation split the wrist alone."""
    pose: Float[np.ndarray, "48"] | None
    shape: Float[np.ndarray, "10"] | None
    translation_m: Float[np.ndarray, "3"] | None
    box: Float[np.ndarray, "4"] | None
    """x1, y1, x2, y2; evaluation only."""


def list_frames(root: Path, split: str) -> list[Ho3dFrame]:
    """The frames of a split in the list's order.

    Raises:
        InputError: The list is missing or empty, a line is not SEQ/ID, or there twice.
    """
    file = root / f"{split}.txt"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; expected HO3D's list of frames, a line SEQ/ID each") from None
    while lines and not lines[-1].strip():
        lines.pop()
    frames = []
    seen: set[tuple[str, int]] = set()
    for place, line in enumerate(lines):
        where = f"{file}:{place + 1}"
        match = _LINE.fullmatch(line.strip())
        if match is None or match[1] in (".", ".."):
            raise InputError(f"{where}: {line!r}; expected SEQ/ID as in ABF10/0000")
        frame = Ho3dFrame(match[1], match[2], place, where)
        if (frame.sequence, frame.number) in seen:
            raise InputError(f"{where}: {line.strip()} is listed twice")
        seen.add((frame.sequence, frame.number))
        frames.append(frame)
    if not frames:
        raise InputError(f"{file}: is empty; expected a line SEQ/ID for each frame")
    return frames


def picture_ending(root: Path, split: str, frame: Ho3dFrame) -> str:
    """`jpg` (v3) or `png` (v2), told by the first listed frame.

    Raises:
        InputError: It has neither.
    """
    folder = root / split / frame.sequence / "rgb"
    for ending in ("jpg", "png"):
        if (folder / f"{frame.name}.{ending}").is_file():
            return ending
    raise InputError(f"{folder / frame.name}: neither .jpg (v3) nor .png (v2) is there; {frame.where} names it")


def read_label(path: Path, split: str) -> Ho3dLabel:
    """Nothing that the pickle names is run.

    Raises:
        InputError: Missing, damaged, another global than numpy's arrays, or an entry of another shape.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected the labels of the frame") from None
    items = load_items(data, str(path), _LABELS)

    def array(key: str, *shapes: tuple[int, ...]) -> Float[np.ndarray, "..."] | None:
        value = items.get(key)
        if value is None:
            return None
        shape = next((shape for shape in shapes if np.shape(value) == shape), shapes[0])
        return numbers(value, shape, f"{path}: {key}").copy()  # unpickled arrays are read-only

    camera = entry(items, "camMat", str(path))
    is_train = split == "train"
    joints = array("handJoints3D", (21, 3)) if is_train else array("handJoints3D", (3,), (1, 3), (21, 3))
    pose, shape, trans = array("handPose", (48,)), array("handBeta", (10,)), array("handTrans", (3,))
    box = None if is_train else array("handBoundingBox", (4,))
    if not is_train and box is None:
        raise InputError(f"{path}: handBoundingBox: missing; frames of the evaluation split have one")
    is_fitted = pose is not None and shape is not None and trans is not None
    return Ho3dLabel(
        camera=numbers(camera, (3, 3), f"{path}: camMat"),
        joints_m=None if joints is None else joints.reshape(-1, 3),
        pose=pose if is_fitted else None,
        shape=shape if is_fitted else None,
        translation_m=trans if is_fitted else None,
        box=box,
    )


def read_truth(root: Path, num_frames: int) -> Float[np.ndarray, "n 21 3"] | None:
    """`evaluation_xyz.json` in the order of `evaluation.txt`; None where it is not there.

    Raises:
        InputError: It is damaged or has another number of frames.
    """
    file = root / "evaluation_xyz.json"
    if not file.is_file():
        return None
    listed = rows(read_json(file, "the evaluation truth"), str(file))
    if len(listed) != num_frames:
        raise InputError(f"{file}: has {len(listed)} frames, but evaluation.txt has {num_frames}")
    return numbers(listed, (num_frames, 21, 3), str(file))
