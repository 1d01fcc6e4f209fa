"""FreiHAND v2: single pictures of right hands, 224 x 224, each on four backgrounds in the training split.

Joints and vertices are the labelled ones; MANO's root position, which the files do not tell, is solved from the joints.
Source: Zimmermann et al., FreiHAND (ICCV 2019), README of the data set.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from handvit.data.converters.clip_writing import (
    box_problem,
    clip_key,
    part_of,
    read_picture,
    shard_pattern,
    write_conversion,
)
from handvit.data.converters.freihand_labels import FreiHandLabels, Hands, Split, read_hands
from handvit.data.converters.mano_labels import check_hand
from handvit.data.converters.report import ConversionReport
from handvit.data.records import ClipRecord
from handvit.data.storage import CropStorage
from handvit.hand import HandModel
from handvit.joints import FINGERTIPS
from posecore.errors import InputError

DATASET = "FreiHAND"
VERSIONS: tuple[str, ...] = ("gs", "hom", "sample", "auto")
"""Green screen, and three ways to put another background behind the hand; version i of label n is picture n + i N."""
SIZE_WH = (224, 224)
CHUNK = 512
"""Labels that are posed at once."""


def convert_freihand(
    root: Path,
    output: Path,
    *,
    split: Split,
    right: HandModel | None = None,
    versions: Sequence[str] = VERSIONS,
    shard: tuple[int, int] | None = None,
    crop: CropStorage | None = None,
    limit: int | None = None,
    allow_standin: bool = False,
) -> ConversionReport:
    """Convert one split; a clip is one picture.

    Args:
        root: The folder that holds `training`, `evaluation` and the JSON files.
        output: Folder for the shards and `conversion.json`.
        split: Of the data set.
        right: Hand model of the licensed file, for the MANO labels; None: they are left out.
        versions: Backgrounds of the training split to take; the evaluation split has one.
        shard: (i, n): the i-th of n parts of the labels.
        crop: Store margin crops; None: the pictures as they are.
        limit: At most so many pictures.
        allow_standin: Take the stand-in hand for MANO. For trying things out: poses and shapes are wrong.

    Raises:
        InputError: A file or entry that is missing or damaged; names it.
    """
    unknown = [version for version in versions if version not in VERSIONS]
    if unknown or not versions:
        raise InputError(f"versions: {', '.join(unknown) or 'none'}; one or several of {', '.join(VERSIONS)}")
    report = ConversionReport(DATASET, split, shard)
    hand = check_hand(right, "right", report, allow_standin)
    if hand is not None:
        hand = HandModel(hand.body, tips=FINGERTIPS["freihand"], joint_source="regressed")
    labels = FreiHandLabels.read(root, split, with_mano=hand is not None)
    part = part_of(range(len(labels.camera)), shard)
    report.sequences = len(part)
    chosen: Sequence[str] = versions if split == "training" else ["gs"]
    records = _records(labels, part, chosen, hand, report)
    return write_conversion(records, output, shard_pattern(split, shard), crop, report, limit)


def _records(
    labels: FreiHandLabels,
    part: Sequence[int],
    versions: Sequence[str],
    hand: HandModel | None,
    report: ConversionReport,
) -> Iterator[ClipRecord]:
    for start in range(0, len(part), CHUNK):
        chunk = part[start : start + CHUNK]
        hands = read_hands(labels, chunk, hand, report)
        for row, label in enumerate(chunk):
            problem = box_problem(hands.hand_bbox[row], SIZE_WH)
            if problem is not None:
                report.skip(problem, f"{labels.split} label {label}", count=len(versions))
                continue
            for version in versions:
                yield _record(labels, hands, row, label, version)


def _record(labels: FreiHandLabels, hands: Hands, row: int, label: int, version: str) -> ClipRecord:
    number = label + VERSIONS.index(version) * len(labels.camera)
    name = f"{labels.split}/rgb/{number:08d}.jpg"
    asked_by = labels.file("K")
    picture, frame_format = read_picture(labels.root / name, f"{asked_by}[{label}], version {version},", SIZE_WH)
    description: dict[str, object] = {"version": version, "scale_mm": float(hands.scale_mm[row])}
    if hands.root_mm is not None:
        description["mano_root_mm"] = hands.root_mm[row].tolist()
    one = slice(row, row + 1)
    return ClipRecord(
        key=clip_key(labels.split, f"{number:08d}"),
        frames=[picture],
        frame_format=frame_format,
        handedness="right",
        data_source=DATASET,
        source_split=labels.split,
        hand_bbox=hands.hand_bbox[one],
        joint_img=hands.joint_img[one],
        joint_cam_mm=hands.joint_cam_mm[one],
        joint_2d_valid=np.ones((1, 21)),
        joint_3d_valid=np.ones((1, 21)),
        has_mano=np.full(1, float(hands.root_mm is not None)),
        has_intr=np.ones(1),
        mano_pose=hands.pose[one],
        mano_shape=hands.shape[one],
        timestamp_ms=np.zeros(1),
        focal=hands.focal[one],
        princpt=hands.princpt[one],
        imgs_path=[name],
        source_index=[{"label": label, "picture": number}],
        additional_desc=[description],
        meta={"tips": list(FINGERTIPS["freihand"]), "joint_source": "regressed"},
    )
