"""Videos and folders of numbered pictures as sources of frames, and overlays as .mp4."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from posecore.data.images import decode_image
from posecore.draw import Picture
from posecore.errors import InputError, RunError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameSource:
    """Frames in order, one at a time; `frames` may be called again."""

    path: Path
    fps: float
    count: int
    """As the file claims."""
    frames: Callable[[], Iterator[Picture]]
    members: Sequence[Path] = ()
    """Of a folder: its pictures."""

    def time_ms(self, number: int) -> float:
        """Of a frame, from the beginning."""
        return 1000 * number / self.fps


def open_video(path: Path, fps: float | None) -> FrameSource:
    """A video file. Phones' videos are turned upright, as players do.

    Args:
        fps: Instead of the file's own frame rate.

    Raises:
        InputError: Not a readable video, or nobody says its frame rate.
    """
    capture = _capture(path)
    own, count = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    if fps is None and not (math.isfinite(own) and own > 0):
        raise InputError(f"{path}: does not tell its frame rate; give --fps")
    return FrameSource(path, fps or own, count, lambda: _read(path, count))


def open_folder(path: Path, files: Sequence[Path], fps: float) -> FrameSource:
    """The pictures of a folder, in this order, as a video. All have the size of the first."""
    return FrameSource(path, fps, len(files), lambda: _pictures(files), tuple(files))


class VideoFile:
    """An .mp4 (MPEG-4 part 2, which OpenCV's wheels always write) to which frames are added.

    The codec has even sides only, and OpenCV would cut off a row: odd frames get theirs repeated at the right and bottom.
    """

    def __init__(self, path: Path, size_wh: tuple[int, int], fps: float) -> None:
        """Raises RunError where OpenCV cannot write it."""
        self.path, self.size_wh = path, size_wh
        self._odd = (size_wh[0] % 2, size_wh[1] % 2)
        even = (size_wh[0] + self._odd[0], size_wh[1] + self._odd[1])
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, even)
        if not self._writer.isOpened():
            raise RunError(f"{path}: the video cannot be written (disk, rights, or an OpenCV without FFmpeg)")

    def write(self, image: Picture) -> None:
        if image.shape[1::-1] != self.size_wh:
            raise ValueError(f"{self.path}: a frame of {image.shape[1::-1]}, the video has {self.size_wh}")
        right, bottom = self._odd
        self._writer.write(np.pad(image[..., ::-1], ((0, bottom), (0, right), (0, 0)), mode="edge"))

    def close(self) -> None:
        self._writer.release()

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _capture(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise InputError(f"{path}: not a readable video")
    return capture


def _read(path: Path, count: int) -> Iterator[Picture]:
    """Until nothing more can be decoded; containers' counts are estimates, so a difference is only told."""
    capture = _capture(path)
    number = 0
    try:
        while True:
            readable, image = capture.read()
            if not readable:
                break
            yield np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            number += 1
    finally:
        capture.release()
    if number == 0:
        raise InputError(f"{path}: holds no frame that can be decoded")
    if number < count:
        logger.warning("%s: ends after %d frames; the file claims %d", path, number, count)


def _pictures(files: Sequence[Path]) -> Iterator[Picture]:
    size: tuple[int, ...] | None = None
    for file in files:
        image = decode_image(file)
        size = size or image.shape
        if image.shape != size:
            raise InputError(
                f"{file}: {image.shape[1]} x {image.shape[0]} px, but {files[0].name} is {size[1]} x {size[0]}; "
                "pictures of a sequence need one size (without --fps each stands for itself)"
            )
        yield image
