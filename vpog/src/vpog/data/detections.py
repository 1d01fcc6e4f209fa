"""Detections of objects in the format of BOP's default files: boxes and masks with a score."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from posecore.errors import InputError
from vpog.data.annotation_json import entry, number, numbers, read_json, rows, whole_number, write_json
from vpog.data.rle import Rle
from vpog.data.targets import Target


@dataclass(frozen=True)
class Detection:
    """One object that a detector saw."""

    scene_id: int
    image_id: int
    obj_id: int
    bbox_xywh: Float[np.ndarray, "4"]
    """w = xmax - xmin, without the + 1: 0 where one pixel is wide."""
    score: float
    time_s: float
    """Seconds that the detector took for the whole picture; -1: unknown."""
    mask: Rle | None
    """None: the detector gives boxes only."""


@dataclass(frozen=True)
class TargetDetection:
    """Where to look for one instance of a target."""

    target: Target
    detection: Detection
    is_of_other_object: bool
    """The detector saw no instance of the target's object in this picture."""


def read_detections(path: Path) -> tuple[Detection, ...]:
    """In the order of the file.

    Raises:
        InputError: It is missing or damaged; names entry and field.
    """
    content = rows(read_json(path, "detections"), str(path))
    return tuple(_detection(row, f"{path}: [{place}]") for place, row in enumerate(content))


def write_detections(path: Path, detections: Iterable[Detection]) -> None:
    """`read_detections` gives the same back."""
    write_json(path, [_to_json(detection) for detection in detections])


def detections_for_targets(detections: Sequence[Detection], targets: Sequence[Target]) -> list[TargetDetection]:
    """For each target its `inst_count` best detections, best first; fewer where the picture has fewer.

    Where none is of the target's object, the best ones of all objects are taken: a detector that confuses objects
    still finds them. Equal scores keep the order of the file.
    """
    of_image: dict[tuple[int, int], list[Detection]] = defaultdict(list)
    for detection in detections:
        of_image[detection.scene_id, detection.image_id].append(detection)
    chosen = []
    for target in targets:
        seen = of_image[target.scene_id, target.image_id]
        own = [detection for detection in seen if detection.obj_id == target.obj_id]
        best = sorted(own or seen, key=lambda detection: -detection.score)[: target.inst_count]
        chosen += [TargetDetection(target, detection, not own) for detection in best]
    return chosen


def _detection(row: Any, where: str) -> Detection:
    scene, image, obj = (
        whole_number(entry(row, name, where), f"{where}.{name}") for name in ("scene_id", "image_id", "category_id")
    )
    box = numbers(entry(row, "bbox", where), (4,), f"{where}.bbox")
    if not (box[2:] >= 0).all():
        raise InputError(f"{where}.bbox: is {box.tolist()}, expected x, y, width, height")
    mask = row.get("segmentation")
    return Detection(
        scene_id=scene,
        image_id=image,
        obj_id=obj,
        bbox_xywh=box,
        score=number(entry(row, "score", where), f"{where}.score"),
        time_s=number(row.get("time", -1.0), f"{where}.time"),
        mask=None if mask is None else Rle.from_json(mask, f"{where}.segmentation"),
    )


def _to_json(detection: Detection) -> dict[str, Any]:
    if not math.isfinite(detection.score):
        raise ValueError(f"detection of object {detection.obj_id}: score is {detection.score}")
    return {
        "scene_id": detection.scene_id,
        "image_id": detection.image_id,
        "category_id": detection.obj_id,
        "bbox": detection.bbox_xywh.tolist(),
        "score": detection.score,
        "time": detection.time_s,
        **({} if detection.mask is None else {"segmentation": detection.mask.to_json()}),
    }
