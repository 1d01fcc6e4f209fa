"""Hands of COCO-WholeBody: 2D joints in any picture, no depth and no camera.

The camera is virtual (focal length 1.2 times the longer side, in the middle of the picture) and says so
(`fixed_virtual`), so that networks which look along rays can be trained on it; 3D losses and metrics leave it out.
Source: Jin et al., Whole-Body Human Pose Estimation in the Wild (ECCV 2020), its format page.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from handvit.data.converters.annotation_json import entry, numbers, read_json, rows, whole_number
from handvit.data.converters.clip_writing import (
    box_problem,
    clip_key,
    part_of,
    read_picture,
    shard_pattern,
    tight_boxes,
    write_conversion,
)
from handvit.data.converters.report import ConversionReport
from handvit.data.records import ClipRecord, Handedness
from handvit.data.storage import CropStorage
from posecore.errors import InputError

DATASET = "COCO-WholeBody"
Split = Literal["train", "val"]
SIDES: tuple[Handedness, ...] = ("right", "left")
VIRTUAL_FOCAL = 1.2
"""Focal length over the longer side of the picture."""

NOT_VALID = "the hand is marked as not labelled"


def convert_coco_wholebody(
    root: Path,
    output: Path,
    *,
    split: Split,
    shard: tuple[int, int] | None = None,
    crop: CropStorage | None = None,
    limit: int | None = None,
) -> ConversionReport:
    """Convert one split; a clip is one hand in one picture.

    Args:
        root: COCO's folder: `annotations/coco_wholebody_SPLIT_v1.0.json` and `SPLIT2017/*.jpg`.
        output: Folder for the shards and `conversion.json`.
        split: Of the data set.
        shard: (i, n): the i-th of n parts of the annotated people.
        crop: Store margin crops, which are much smaller than pictures; None: the pictures as they are.
        limit: At most so many hands.

    Raises:
        InputError: A file or entry that is missing or damaged; names it.
    """
    report = ConversionReport(DATASET, split, shard)
    file = root / "annotations" / f"coco_wholebody_{split}_v1.0.json"
    content = read_json(file, "COCO-WholeBody's annotations")
    pictures = _by_id(rows(entry(content, "images", str(file)), f"{file}: images"), f"{file}: images")
    people = _by_id(rows(entry(content, "annotations", str(file)), f"{file}: annotations"), f"{file}: annotations")
    part = part_of(sorted(people), shard)
    report.sequences = len(part)
    records = _records(root / f"{split}2017", file, split, pictures, [people[number] for number in part], report)
    return write_conversion(records, output, shard_pattern(split, shard), crop, report, limit)


def _by_id(table: Sequence[Any], where: str) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for place, row in enumerate(table):
        number = whole_number(entry(row, "id", f"{where}[{place}]"), f"{where}[{place}].id")
        if number in found:
            raise InputError(f"{where}[{place}]: id {number} is there twice")
        found[number] = row
    return found


def _records(
    folder: Path, file: Path, split: Split, pictures: Mapping[int, Any], people: Sequence[Any], report: ConversionReport
) -> Iterator[ClipRecord]:
    for person in people:
        where = f"{file}: annotation {person['id']}"
        image_id = whole_number(entry(person, "image_id", where), f"{where}.image_id")
        if image_id not in pictures:
            raise InputError(f"{where}: image {image_id} is not among the images")
        picture, place = pictures[image_id], f"{file}: image {image_id}"
        size_wh = (
            whole_number(entry(picture, "width", place), f"{place}.width"),
            whole_number(entry(picture, "height", place), f"{place}.height"),
        )
        for side in SIDES:
            if not entry(person, f"{side}hand_valid", where):
                report.skip(NOT_VALID, f"annotation {person['id']}, {side} hand")
                continue
            points = numbers(entry(person, f"{side}hand_kpts", where), (63,), f"{where}.{side}hand_kpts").reshape(21, 3)
            valid = (points[:, 2] > 0).astype(float)
            joint_img = np.where(valid[:, None] > 0, points[:, :2], 0.0)
            problem = box_problem(tight_boxes(joint_img, valid), size_wh)
            if problem is not None:
                report.skip(problem, f"annotation {person['id']}, {side} hand")
                continue
            name = str(entry(picture, "file_name", place))
            data, frame_format = read_picture(folder / name, place, size_wh)
            yield ClipRecord(
                key=clip_key(split, f"{person['id']}", side),
                frames=[data],
                frame_format=frame_format,
                handedness=side,
                data_source=DATASET,
                source_split=split,
                intr_type="fixed_virtual",
                imgs_path=[f"{folder.name}/{name}"],
                source_index=[{"annotation": person["id"], "image": image_id}],
                additional_desc=[{"score": points[:, 2].tolist()}],
                **_channels(joint_img, valid, size_wh),
            )


def _channels(
    joint_img: Float[np.ndarray, "21 2"], valid: Float[np.ndarray, " 21"], size_wh: tuple[int, int]
) -> dict[str, Any]:
    """COCO-WholeBody's hand order is the canonical one; its integer coordinates are pixel centres."""
    width, height = size_wh
    return {
        "hand_bbox": tight_boxes(joint_img, valid)[None],
        "joint_img": joint_img[None],
        "joint_cam_mm": np.zeros((1, 21, 3)),
        "joint_2d_valid": valid[None],
        "joint_3d_valid": np.zeros((1, 21)),
        "has_mano": np.zeros(1),
        "has_intr": np.ones(1),
        "mano_pose": np.zeros((1, 48)),
        "mano_shape": np.zeros((1, 10)),
        "timestamp_ms": np.zeros(1),
        "focal": np.full((1, 2), VIRTUAL_FOCAL * max(width, height)),
        "princpt": np.array([[(width - 1) / 2, (height - 1) / 2]]),
    }
