"""Frames of a video, in order and each decoded once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from posecore.errors import InputError


def video_length(path: Path) -> int:
    """Number of frames that the container claims."""
    capture = _open(path)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count


def iter_frames(path: Path, wanted: Sequence[int]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """RGB pictures of the wanted frames (ascending). Seeking is left alone: with many codecs it is off by frames."""
    capture = _open(path)
    try:
        position = 0
        for index in wanted:
            while position <= index:
                if not capture.grab():
                    raise InputError(f"{path}: the video ends at frame {position}; the labels ask for frame {index}")
                position += 1
            readable, image = capture.retrieve()
            if not readable:
                raise InputError(f"{path}: frame {index} cannot be decoded")
            yield np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    finally:
        capture.release()


def _open(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path))
    if not path.is_file() or not capture.isOpened():
        raise InputError(f"{path}: not a readable video")
    return capture
