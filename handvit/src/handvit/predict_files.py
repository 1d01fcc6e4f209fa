"""From pictures and videos on disk to overlays, meshes and results on disk."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handvit.cameras import Intrinsics
from handvit.data.records import Handedness
from handvit.hand_boxes import HandBox
from handvit.hand_finding import HandFinder
from handvit.predict import Cameras, Hands, Predictor
from handvit.predict_video import predict_video
from handvit.prediction_files import Meshes, write_hands
from handvit.prediction_inputs import find_inputs
from handvit.results import RESULTS, Frame, ResultsWriter, prepare_folder
from posecore.data.images import decode_image
from posecore.draw import Picture
from posecore.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictOptions:
    """What `handvit predict` can be told; see its help.

    Boxes are pixels of the picture as viewers show it: turned as its EXIF data says.
    """

    boxes: Path | None = None
    """JSON file, see `hand_boxes.read_boxes`."""
    box: str | None = None
    """x1,y1,x2,y2 of the one hand in each picture or frame."""
    side: Handedness = "right"
    """Of the hand in `box`."""
    detector: Path | None = None
    """MediaPipe's hand_landmarker.task."""
    intrinsics: str | None = None
    """fx,fy,cx,cy px, of all pictures."""
    fov_deg: float | None = None
    """Horizontal field of view of all pictures."""
    fps: float | None = None
    """Of videos, instead of the file's own; makes folders of pictures videos."""
    meshes: Meshes = "both"
    """Of pictures; a video's vertices are in predictions.npz."""
    watertight: bool = False
    smooth: bool = False
    """Videos: One-Euro filter, one shape a track."""
    batch_size: int = 16
    """Hands at once."""


def predict_files(
    inputs: Sequence[Path],
    checkpoint: Path,
    output: Path,
    options: PredictOptions,
    *,
    mano_path: Path | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Predict the hands of pictures, folders of pictures and videos.

    Writes results.json, predictions.npz and smplx_hands.npz; for each picture with hands NAME_overlay.png, NAME_side.png and
    meshes; for each video NAME_overlay.mp4.

    Returns:
        What was found and where it is.

    Raises:
        InputError: Unreadable files, boxes that do not fit them, options that exclude each other, an output folder with
            something else in it; before the network is loaded wherever that can be known.
    """
    cameras = _cameras(options)
    found = find_inputs(inputs, fps=options.fps, smooth=options.smooth)
    finder = HandFinder.open(
        options.boxes, options.box, options.side, options.detector, list(found.pictures), list(found.sequences.values())
    )
    predictor = Predictor.load(checkpoint, mano_path, device)
    if cameras is None:
        logger.warning(
            "neither --k nor --fov is given: a focal length of 1.2 max(W, H) px is assumed, and depth is as good as that"
        )
    prepare_folder(output)
    head = {
        "hand": "stand-in" if predictor.loaded.facts.is_standin else "MANO",
        "checkpoint": str(predictor.loaded.folder),
        "is_depth_assumed": cameras is None,
        "is_smoothed": options.smooth,
    }
    frames, empty = 0, 0
    with ResultsWriter(output, head) as results:
        for file, image, hands, boxes in _predicted(predictor, found.pictures, finder, cameras, options.batch_size):
            name = found.pictures[file]
            results.add(Frame(file, name, (image.shape[1], image.shape[0])), hands, boxes)
            if hands is None:
                empty += 1
            else:
                write_hands(results, name, image, hands, options.meshes, watertight=options.watertight)
        for name, source in found.sequences.items():
            find = finder.in_sequence(source)
            frames += predict_video(predictor, source, find, cameras, results, name, smooth=options.smooth)
        results.finish(predictor.loaded.hand.faces.cpu().numpy())
    return {
        "output": str(output),
        "results": str(output / RESULTS),
        "pictures": len(found.pictures),
        "pictures_without_hands": empty,
        "videos": len(found.sequences),
        "video_frames": frames,
        "hands": results.num_hands,
        **head,
    }


def _cameras(options: PredictOptions) -> Cameras:
    if options.intrinsics is None:
        if options.fov_deg is not None:
            Intrinsics.from_fov(options.fov_deg, (1, 1))  # tells at once what is wrong
        return options.fov_deg
    if options.fov_deg is not None:
        raise InputError("predict: --k and --fov are given; one of them says what the camera is")
    try:
        fx, fy, cx, cy = (float(number) for number in options.intrinsics.split(","))
    except ValueError:
        raise InputError(f"--k {options.intrinsics}: four numbers fx,fy,cx,cy (px) are needed") from None
    return Intrinsics.checked((fx, fy), (cx, cy))


Predicted = tuple[Path, Picture, Hands | None, list[HandBox]]


def _predicted(
    predictor: Predictor, files: Sequence[Path] | dict[Path, str], finder: HandFinder, cameras: Cameras, batch_size: int
) -> Iterator[Predicted]:
    """Picture after picture; the hands of several go through the network together."""
    waiting: list[tuple[Path, Picture, list[HandBox]]] = []
    for file in files:
        image = decode_image(file)
        boxes = finder.in_picture(file, image)
        if waiting and sum(len(hands) for _, _, hands in waiting) + len(boxes) > batch_size:
            yield from _together(predictor, waiting, cameras, batch_size)
            waiting = []
        waiting.append((file, image, boxes))
    yield from _together(predictor, waiting, cameras, batch_size)


def _together(
    predictor: Predictor, waiting: Sequence[tuple[Path, Picture, list[HandBox]]], cameras: Cameras, batch_size: int
) -> Iterator[Predicted]:
    """One call for all; several where a single picture has more hands than go at once."""
    images = [image for _, image, _ in waiting]
    asked = [(index, box) for index, (_, _, boxes) in enumerate(waiting) for box in boxes]
    parts = []
    for start in range(0, len(asked), batch_size):
        part = asked[start : start + batch_size]
        boxes, sides = [box.box for _, box in part], [box.side for _, box in part]
        parts.append(predictor(images, boxes, sides, cameras, [index for index, _ in part]))
    hands = Hands.concatenated(parts) if parts else None
    first = 0
    for file, image, found in waiting:
        rows = range(first, first + len(found))
        first += len(found)
        yield file, image, hands.rows(rows) if hands is not None and found else None, found
