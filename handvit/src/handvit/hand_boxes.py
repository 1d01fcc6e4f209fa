"""Boxes of hands: from a JSON file or from 21 keypoints.

Boxes are x1, y1, x2, y2 in pixels with centres at integers, of the picture as viewers show it (turned as its EXIF data says).
"""

import difflib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from handvit.data.records import Handedness
from posecore.errors import InputError

FIELDS = ("box", "keypoints", "side", "track", "score")
EXAMPLE = '{"photo.jpg": [{"box": [120, 80, 260, 230], "side": "left"}]}'
Track = int | str


@dataclass(frozen=True)
class HandBox:
    """Where a hand is in a picture, and which hand."""

    box: tuple[float, float, float, float]
    side: Handedness
    track: Track | None = None
    """The same in all frames of a video in which it is the same hand; None: not known."""
    score: float | None = None
    """How sure the detector was."""


BoxFile = dict[str, list[HandBox] | dict[int, list[HandBox]]]
"""By file name: the hands of a picture, or of a video's frames."""


def keypoints_box(keypoints: Float[np.ndarray, "n k"]) -> tuple[float, float, float, float]:
    """The tight box of 21 keypoints x, y (px), or x, y, confidence: those of confidence 0 do not count.

    It is what the network was trained with; no margin is needed.

    Raises:
        InputError: Another shape, numbers that are not finite, or fewer than two that count.
    """
    points = np.asarray(keypoints, np.float64)
    if points.ndim != 2 or len(points) != 21 or points.shape[1] not in (2, 3) or not np.isfinite(points).all():
        raise InputError(f"keypoints: shape {points.shape}; 21 finite x, y or x, y, confidence are needed")
    if points.shape[1] == 3:
        points = points[points[:, 2] > 0]
    if len(points) < 2:
        raise InputError(f"keypoints: {len(points)} have a confidence above 0; a box needs two or more")
    (x1, y1), (x2, y2) = points[:, :2].min(0), points[:, :2].max(0)
    return float(x1), float(y1), float(x2), float(y2)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """`x1,y1,x2,y2` of the command line.

    Raises:
        InputError: Not four numbers, or no area.
    """
    return _box(text.split(","), f"--box {text}")


def read_boxes(path: Path) -> BoxFile:
    """Read a JSON file of boxes: {"photo.jpg": [hand, ...], "video.mp4": {"0": [hand, ...], ...}}.

    A hand is {"box": [x1, y1, x2, y2], "side": "left", "track": 0, "score": 0.9}; only the box (or 21 "keypoints") and the
    side are needed. A file with frame numbers alone belongs to the one video that is given; its name here is "".

    Raises:
        InputError: Unreadable, or not of this form; one line a problem, with file, key and field.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: holds a {type(content).__name__}; an object by file name is needed, such as {EXAMPLE}"
        )
    problems: list[str] = []
    if content and all(_is_frame(key) for key in content):
        content = {"": content}
    boxes: BoxFile = {}
    for name, value in content.items():
        where = f"{path}: {name}" if name else str(path)
        if isinstance(value, dict):
            problems += [f"{where}: {key!r} is no frame number" for key in value if not _is_frame(key)]
            frames = {key: hands for key, hands in value.items() if _is_frame(key)}
            boxes[name] = {int(key): _hands(hands, f"{where}: frame {key}", problems) for key, hands in frames.items()}
        else:
            boxes[name] = _hands(value, where, problems)
    if problems:
        raise InputError(problems)
    return boxes


def match_inputs(boxes: BoxFile, files: Sequence[Path], source: Path) -> dict[Path, str]:
    """Which entry belongs to which file: an entry is a file's name, or the end of its path where names repeat.

    Raises:
        InputError: An entry that is no input, or that could be several.
    """
    found: dict[Path, str] = {}
    problems: list[str] = []
    for name in boxes:
        matching = [file for file in files if name and _ends_with(file, name)]
        if not name:
            problems.append(
                f"{source}: holds frame numbers only, which one video alone can have; put them under its name"
            )
        elif not matching:
            close = difflib.get_close_matches(name, [file.name for file in files], 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            problems.append(f"{source}: {name}: is none of the inputs{hint}")
        elif len(matching) > 1:
            told = ", ".join(map(str, matching[:3]))
            problems.append(f"{source}: {name}: could be {told}; write more of the path")
        elif matching[0] in found:
            problems.append(f"{source}: {name}: {matching[0]} has the entry {found[matching[0]]} already")
        else:
            found[matching[0]] = name
    if problems:
        raise InputError(problems)
    return found


def check_inside(hands: Sequence[HandBox], size_wh: tuple[int, int], where: str) -> None:
    """Boxes may reach beyond the picture, but not lie outside of it.

    Raises:
        InputError: One does; names it.
    """
    width, height = size_wh
    problems = [
        f"{where}: box {_shown(hand.box)} of hand {number} is outside of the picture of {width} x {height} px"
        for number, hand in enumerate(hands)
        if hand.box[2] <= -0.5 or hand.box[3] <= -0.5 or hand.box[0] >= width - 0.5 or hand.box[1] >= height - 0.5
    ]
    if problems:
        raise InputError(problems)


def _hands(value: Any, where: str, problems: list[str]) -> list[HandBox]:
    if not isinstance(value, list):
        problems.append(f"{where}: is a {type(value).__name__}; a list of hands is needed, such as {EXAMPLE}")
        return []
    hands = []
    for number, entry in enumerate(value):
        try:
            hands.append(_hand(entry, f"{where}: hand {number}"))
        except InputError as error:
            problems += error.problems
    return hands


def _hand(entry: Any, where: str) -> HandBox:
    if not isinstance(entry, dict):
        raise InputError(f'{where}: is a {type(entry).__name__}; {{"box": [x1, y1, x2, y2], "side": "left"}} is needed')
    if unknown := [key for key in entry if key not in FIELDS]:
        raise InputError(f"{where}: {unknown[0]}: no such field; there are {', '.join(FIELDS)}")
    if ("box" in entry) == ("keypoints" in entry):
        raise InputError(f"{where}: either box or keypoints is needed")
    if entry.get("side") not in ("right", "left"):
        raise InputError(f"{where}: side: is {entry.get('side')!r}; right or left is needed")
    track, score = entry.get("track"), entry.get("score")
    if not (track is None or (isinstance(track, int | str) and not isinstance(track, bool))):
        raise InputError(f"{where}: track: is {track!r}; a number or a name is needed")
    if not (score is None or _is_number(score)):
        raise InputError(f"{where}: score: is {score!r}; a number is needed")
    box = _box(entry["box"], f"{where}: box") if "box" in entry else _keypoints(entry["keypoints"], where)
    return HandBox(box, entry["side"], track, score)


def _keypoints(value: Any, where: str) -> tuple[float, float, float, float]:
    try:
        return keypoints_box(np.array(value, np.float64))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (TypeError, ValueError):
        raise InputError(f"{where}: keypoints: 21 lists x, y or x, y, confidence are needed") from None


def _box(values: Any, where: str) -> tuple[float, float, float, float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise InputError(f"{where}: is {values!r}; four numbers x1, y1, x2, y2 are needed")
    x1, y1, x2, y2 = numbers
    if x1 >= x2 or y1 >= y2:
        raise InputError(
            f"{where}: {_shown(numbers)} has no area; x1 < x2 and y1 < y2 are needed (not width and height)"
        )
    return x1, y1, x2, y2


def _is_frame(key: str) -> bool:
    return key.isascii() and key.isdigit()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _ends_with(file: Path, name: str) -> bool:
    wanted = Path(name).parts
    return file.parts[-len(wanted) :] == wanted or file == Path(name)


def _shown(box: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"
