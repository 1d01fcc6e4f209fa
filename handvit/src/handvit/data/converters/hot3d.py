"""HOT3D-Clips: a clip is one hand in one stream of one tar, cut where the hand is hardly visible.

Joints are made from the MANO parameters (the landmarks lack the thumb's base), with smplx's fingertips; so the hand models
are needed. Poses are 15 principal components about the mean pose, in the world; the left hand's shape directions are
mirrored. Pictures are undistorted to a pinhole and encoded again; grey streams stay grey.
Source: Banerjee et al., HOT3D (2024); hand_tracking_toolkit. Its pixel centres are at integers, its frames OpenCV's.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from handvit.data.converters.clip_writing import part_of, shard_pattern, write_conversion
from handvit.data.converters.fisheye_view import HandCentred
from handvit.data.converters.hand_frames import Origin, join_frames, runs
from handvit.data.converters.hot3d_clip import DATASET, TIPS, Hot3dReader, Stored
from handvit.data.converters.hot3d_files import Device, Hot3dClip, find_clips
from handvit.data.converters.mano_labels import check_hand
from handvit.data.converters.report import ConversionReport
from handvit.data.records import ClipRecord, Handedness
from handvit.data.storage import CropStorage
from handvit.hand import HandModel
from handvit.hand.mirror import SHARED_BASIS_BELOW
from posecore.errors import InputError

Split = Literal["train", "test"]

NOT_PUBLIC = "the clip has no public hand labels"


def convert_hot3d(
    root: Path,
    output: Path,
    *,
    split: Split,
    right: HandModel | None,
    left: HandModel | None,
    devices: tuple[Device, ...] = ("aria", "quest3"),
    streams: Sequence[str] | None = None,
    view: HandCentred | None = None,
    picture_format: Literal["jpg", "webp"] = "jpg",
    quality: int = 95,
    shard: tuple[int, int] | None = None,
    crop: CropStorage | None = None,
    limit: int | None = None,
    allow_standin: bool = False,
) -> ConversionReport:
    """Convert one split.

    Args:
        root: The folder that holds `train_aria`, `train_quest3`, `test_aria`, `test_quest3`.
        output: Folder for the shards and `conversion.json`.
        split: Of the data set.
        right: Hand model of the licensed file.
        left: Likewise, its shape directions mirrored (as `read_hand(..., side="left")` does).
        devices: Whose clips.
        streams: Such as 214-1 (Aria's colour camera), 1201-1 and 1201-2; None: all of each clip.
        view: None: pinhole pictures with the camera's own size, focal length and centre.
        picture_format: Of the stored pictures.
        quality: Of their compression, 1..100.
        shard: (i, n): the i-th of n parts of the tars.
        crop: Store margin crops of the undistorted pictures.
        limit: At most so many clips.
        allow_standin: Take the stand-in hand. For trying things out: everything about the hands is wrong.

    Raises:
        InputError: No hand model; a file or entry that is missing or damaged; names it.
    """
    if right is None or left is None:
        missing = "MANO_RIGHT.pkl" if right is None else "MANO_LEFT.pkl"
        raise InputError(
            f"HOT3D: {missing}: not given; its joints are made from MANO parameters, so both licensed files are needed "
            "(https://mano.is.tue.mpg.de)"
        )
    if not 1 <= quality <= 100:
        raise InputError(f"quality: {quality}; expected 1 to 100")
    report = ConversionReport(DATASET, split, shard)
    hands = {}
    sides: tuple[tuple[Handedness, HandModel], ...] = (("right", right), ("left", left))
    for side, given in sides:
        hand = check_hand(given, side, report, allow_standin)
        assert hand is not None
        hands[side] = HandModel(hand.body, tips=TIPS)
    if (left.body.shapedirs[:, 0] - right.body.shapedirs[:, 0]).abs().sum() < SHARED_BASIS_BELOW:
        raise InputError(
            "left hand: has the right hand's shape directions, as MANO_LEFT.pkl was released; HOT3D's labels need them "
            "mirrored (read_hand(..., fix_left_shapes=True))"
        )
    part = part_of(find_clips(root, split, devices), shard)
    report.sequences = len(part)
    stored = Stored("png" if crop is not None else picture_format, quality)  # crops are encoded once more
    reader = Hot3dReader(hands, None if streams is None else tuple(streams), view, stored, report)
    return write_conversion(
        _records(part, split, reader, report), output, shard_pattern(split, shard), crop, report, limit
    )


def _records(part: Sequence[Path], split: Split, reader: Hot3dReader, report: ConversionReport) -> Iterator[ClipRecord]:
    for path in part:
        with Hot3dClip(path) as clip:
            if not clip.has_hands:
                report.skip(NOT_PUBLIC, str(path))
                continue
            for stream in reader.streams(clip):
                for side, frames in reader.read(clip, stream).items():
                    origin = Origin(DATASET, split, side, TIPS, (path.parent.name, path.stem, stream, side))
                    for run in runs(frames):
                        yield join_frames(run, origin)
        reader.tell_misfits()
