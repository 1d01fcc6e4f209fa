"""Where the hands of each picture and frame come from: a JSON file, one box, or a detector."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from handvit.data.records import Handedness
from handvit.detection import HandDetector, MediaPipeDetector
from handvit.hand_boxes import BoxFile, HandBox, check_inside, match_inputs, parse_box, read_boxes
from handvit.tracking import OverlapTracker, check_tracks
from handvit.video_files import FrameSource
from posecore.draw import Picture
from posecore.errors import InputError

HOW = (
    'predict: where are the hands? give --boxes FILE.json ({"photo.jpg": [{"box": [x1, y1, x2, y2], "side": "left"}]}), '
    "--box x1,y1,x2,y2 with --side, or --detector hand_landmarker.task"
)


@dataclass(frozen=True)
class HandFinder:
    """One of the three; entries of a file are matched with the inputs before anything is predicted."""

    fixed: HandBox | None = None
    detector: HandDetector | None = None
    boxes: BoxFile = field(default_factory=dict)
    entries: dict[Path, str] = field(default_factory=dict)
    """File to its entry in `boxes`."""
    boxes_path: Path = Path()

    @classmethod
    def open(
        cls,
        boxes_path: Path | None,
        box: str | None,
        side: Handedness,
        detector: Path | None,
        pictures: Sequence[Path],
        sequences: Sequence[FrameSource],
    ) -> "HandFinder":
        """Raises InputError: none or several of them, or a file that does not fit the inputs."""
        given = {"--boxes": boxes_path, "--box": box, "--detector": detector}
        named = [name for name, value in given.items() if value is not None]
        if not named:
            raise InputError(HOW)
        if len(named) > 1:
            raise InputError(f"predict: {' and '.join(named)} are given; one of them says where the hands are")
        if box is not None:
            return cls(fixed=HandBox(parse_box(box), side, track=0))
        if detector is not None:
            return cls(detector=MediaPipeDetector(detector))
        assert boxes_path is not None
        content = read_boxes(boxes_path)
        entries = _entries(content, boxes_path, pictures, sequences)
        return cls(boxes=content, entries=entries, boxes_path=boxes_path)

    def in_picture(self, file: Path, image: Picture) -> list[HandBox]:
        """The hands of a picture."""
        hands = self.boxes[self.entries[file]] if file in self.entries else self._found(image)
        assert isinstance(hands, list)  # _entries
        check_inside(hands, image.shape[1::-1], str(file))
        return hands

    def in_sequence(self, source: FrameSource) -> Callable[[int, Picture], list[HandBox]]:
        """What finds the hands of frame after frame, each with its track: as the file says, or by overlap."""
        given = self._frames(source)
        is_tracked = self.fixed is not None or (given is not None and check_tracks(given, str(source.path)))
        tracker = OverlapTracker()

        def find(number: int, image: Picture) -> list[HandBox]:
            hands = self._found(image) if given is None else given.get(number, [])
            check_inside(hands, image.shape[1::-1], f"{source.path}: frame {number}")
            return list(hands) if is_tracked else tracker(hands, source.time_ms(number))

        return find

    def _found(self, image: Picture) -> list[HandBox]:
        if self.detector is not None:
            return self.detector(image)
        assert self.fixed is not None  # open
        return [self.fixed]

    def _frames(self, source: FrameSource) -> dict[int, list[HandBox]] | None:
        """Of the file, by frame; None: it is not the file that says it."""
        if not self.entries:
            return None
        if source.path in self.entries:
            frames = self.boxes[self.entries[source.path]]
            assert isinstance(frames, dict)  # _entries
            return frames
        return {number: _as_list(self.boxes[self.entries[file]]) for number, file in enumerate(source.members)}


def _entries(boxes: BoxFile, path: Path, pictures: Sequence[Path], sequences: Sequence[FrameSource]) -> dict[Path, str]:
    """Entries by file, all of them of the right kind: lists for pictures, frames for videos.

    The pictures of a folder that is read as a video have entries of their own, or the folder has one with frames.
    """
    members = [file for source in sequences for file in source.members]
    if boxes.keys() == {""} and len(sequences) == 1 and not pictures:
        entries = {sequences[0].path: ""}
    else:
        entries = match_inputs(boxes, [*pictures, *(source.path for source in sequences), *members], path)
    problems = []
    by_frame = {source.path: source for source in sequences}
    for file, name in entries.items():
        frames = boxes[name]
        if file in by_frame and not isinstance(frames, dict):
            problems.append(f'{path}: {name}: is a list; a video needs frames, such as {{"0": [...], "1": [...]}}')
        elif file not in by_frame and isinstance(frames, dict):
            problems.append(f"{path}: {name}: has frames; a picture needs a list of hands")
        elif isinstance(frames, dict) and frames and max(frames) >= by_frame[file].count > 0:
            last = by_frame[file].count - 1
            problems.append(f"{path}: {name or file}: has boxes for frame {max(frames)}; the last frame is {last}")
    needed = [*pictures, *(file for s in sequences if s.path not in entries for file in s.members or [s.path])]
    problems += [
        f"{path}: has no entry for {file}; an empty list says that there is no hand"
        for file in needed
        if file not in entries
    ]
    if problems:
        raise InputError(problems)
    return entries


def _as_list(hands: list[HandBox] | dict[int, list[HandBox]]) -> list[HandBox]:
    assert isinstance(hands, list)  # _entries
    return hands
