"""Hands in a video: tracked, smoothed if that is wanted, drawn over its frames."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from handvit.hand_boxes import HandBox
from handvit.predict import Cameras, Hands, Predictor
from handvit.prediction_files import draw_hands
from handvit.reposing import posed_again
from handvit.results import Frame, ResultsWriter
from handvit.smoothing import smooth_track
from handvit.streaming import HandStream
from handvit.video_files import FrameSource, VideoFile
from posecore.draw import Picture


@dataclass(frozen=True)
class VideoHands:
    """The hands of a whole video without their meshes: some kilobytes a hand."""

    hands: Hands | None
    """Of all frames, one after the other; None: no hand anywhere."""
    frame_numbers: list[int]
    """Of each hand."""
    boxes: list[HandBox]

    def rows(self, number: int) -> list[int]:
        """Of a frame."""
        first = int(np.searchsorted(self.frame_numbers, number))
        last = int(np.searchsorted(self.frame_numbers, number, side="right"))
        return list(range(first, last))


def predict_video(
    predictor: Predictor,
    source: FrameSource,
    find: Callable[[int, Picture], list[HandBox]],
    intrinsics: Cameras,
    results: ResultsWriter,
    name: str,
    *,
    smooth: bool,
) -> int:
    """Predict a video into NAME_overlay.mp4 and the results; returns the number of its frames.

    Smoothing needs the whole track, so the video is then read twice, and only parameters are kept in between.

    Raises:
        InputError: An unreadable video, or boxes that do not fit its frames.
    """
    if not smooth:
        return _write(_streamed(predictor, source, find, intrinsics), source, results, name)
    return _write(_smoothed(predictor, source, find, intrinsics), source, results, name)


Predicted = tuple[int, Picture, Hands | None, list[HandBox]]


def _streamed(
    predictor: Predictor, source: FrameSource, find: Callable[[int, Picture], list[HandBox]], intrinsics: Cameras
) -> Iterator[Predicted]:
    """Frame after frame, each with its hands."""
    stream = HandStream(predictor)
    for number, image in enumerate(source.frames()):
        boxes = find(number, image)
        hands = None
        if boxes:
            hands = stream(
                image,
                [box.box for box in boxes],
                [box.side for box in boxes],
                [box.track for box in boxes],
                source.time_ms(number),
                intrinsics,
            )
        yield number, image, hands, boxes


def _smoothed(
    predictor: Predictor, source: FrameSource, find: Callable[[int, Picture], list[HandBox]], intrinsics: Cameras
) -> Iterator[Predicted]:
    collected = smooth_video(collect(_streamed(predictor, source, find, intrinsics)), source, predictor)
    for number, image in enumerate(source.frames()):
        rows = collected.rows(number)
        hands = None
        if rows and collected.hands is not None:
            hands = posed_again(collected.hands.rows(rows), predictor.loaded.hand)
        yield number, image, hands, [collected.boxes[row] for row in rows]


def collect(frames: Iterator[Predicted]) -> VideoHands:
    """All hands without their meshes."""
    parts: list[Hands] = []
    numbers: list[int] = []
    boxes: list[HandBox] = []
    for number, _, hands, found in frames:
        if hands is not None:
            parts.append(hands.without_vertices())
            numbers += [number] * len(hands)
            boxes += found
    return VideoHands(Hands.concatenated(parts) if parts else None, numbers, boxes)


def smooth_video(video: VideoHands, source: FrameSource, predictor: Predictor) -> VideoHands:
    """Each track smoothed by itself."""
    if video.hands is None:
        return video
    parts, order = [], []
    for track in dict.fromkeys(box.track for box in video.boxes):
        rows = [row for row, box in enumerate(video.boxes) if box.track == track]
        times_ms = np.array([source.time_ms(video.frame_numbers[row]) for row in rows])
        norm_by_hand = predictor.loaded.config.model.norm_by_hand
        hand = predictor.loaded.hand
        parts.append(smooth_track(video.hands.rows(rows), times_ms, hand, norm_by_hand=norm_by_hand))
        order += rows
    hands = Hands.concatenated(parts).rows(np.argsort(order).tolist())
    return VideoHands(hands, video.frame_numbers, video.boxes)


def _write(frames: Iterator[Predicted], source: FrameSource, results: ResultsWriter, name: str) -> int:
    """Draw and record frames as they come."""
    video: VideoFile | None = None
    count = 0
    try:
        for number, image, hands, boxes in frames:
            size_wh = (image.shape[1], image.shape[0])
            if video is None:
                video = VideoFile(results.path(f"{name}_overlay.mp4"), size_wh, source.fps)
            video.write(image if hands is None else draw_hands(image, hands))
            frame = Frame(source.path, f"{name}_{number:06d}", size_wh, number, source.time_ms(number))
            results.add(frame, hands, boxes)
            count += 1
    finally:
        if video is not None:
            video.close()
    return count
