"""True objects of the pictures that a test asks for, as columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from posecore.errors import InputError
from vpog.data.records import ImageRecord, ImageSource, InstanceRecord
from vpog.data.targets import Target
from vpog.metrics.recall import best_of_each

OBJECTS_PER_PICTURE = 10**7
"""More than any object id: picture * this + object names a group."""


@dataclass(frozen=True)
class Pictures:
    """Those of the targets, i of them."""

    source_index: Int64[np.ndarray, " i"]
    scene_id: Int64[np.ndarray, " i"]
    image_id: Int64[np.ndarray, " i"]
    K: Float[np.ndarray, "i 3 3"]
    size_hw: Int64[np.ndarray, "i 2"]


@dataclass(frozen=True)
class Truths:
    """All objects of these pictures, t of them; those that no target asks for, too."""

    picture: Int64[np.ndarray, " t"]
    """Row of the picture."""
    gt_index: Int64[np.ndarray, " t"]
    obj_id: Int64[np.ndarray, " t"]
    visib_fract: Float[np.ndarray, " t"]
    cam_from_obj_mm: Float[np.ndarray, "t 4 4"]
    is_target: Bool[np.ndarray, " t"]
    """Of each target, as many instances as it asks for, the most visible ones (BOP 2019)."""

    @property
    def group(self) -> Int64[np.ndarray, " t"]:
        return groups_of(self.picture, self.obj_id)


def groups_of(picture: Int64[np.ndarray, " n"], obj_id: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """A number for each object of each picture."""
    return np.asarray(picture * OBJECTS_PER_PICTURE + obj_id)


def visible_targets(source: ImageSource, min_visib_fract: float = 0.1) -> tuple[Target, ...]:
    """What BOP would ask for: every object that has instances visible to at least that fraction."""
    table = source.instances
    seen = table.visib_fract >= np.float32(min_visib_fract)
    rows = np.stack([table.scene_id, table.image_id, table.obj_id], 1)[seen]
    keys, counts = np.unique(rows, axis=0, return_counts=True)
    listed = zip(keys.tolist(), counts.tolist(), strict=True)
    return tuple(Target(scene, image, obj_id, count) for (scene, image, obj_id), count in listed)


def read_truths(source: ImageSource, targets: Sequence[Target]) -> tuple[Pictures, Truths]:
    """
    Raises:
        InputError: A target's picture is not there or has fewer instances of the object; all of these are named.
    """
    pictures = sorted({(target.scene_id, target.image_id) for target in targets})
    indices = _source_indices(source, pictures)
    seen = [_without_pixels(source.read(index, depth=False)) for index in indices]
    instances = [(row, instance) for row, one in enumerate(seen) for instance in one.instances]
    picture = np.array([row for row, _ in instances], np.int64)
    obj_id = np.array([instance.obj_id for _, instance in instances], np.int64)
    visible = np.array([instance.visib_fract for _, instance in instances], np.float64)
    groups = groups_of(picture, obj_id)
    wanted = _wanted(source, targets, {key: row for row, key in enumerate(pictures)}, groups)
    poses = [instance.cam_from_obj_mm for _, instance in instances]
    truths = Truths(
        picture,
        np.array([instance.gt_index for _, instance in instances], np.int64),
        obj_id,
        visible,
        np.stack(poses).astype(np.float64) if poses else np.zeros((0, 4, 4)),
        best_of_each(groups, visible, wanted),
    )
    scene_id, image_id = np.array(pictures, np.int64).T
    K = np.stack([one.K for one in seen]).astype(np.float64)
    return Pictures(np.array(indices), scene_id, image_id, K, np.array([one.size_hw for one in seen])), truths


@dataclass(frozen=True)
class _Seen:
    """What stays in memory of a picture."""

    K: Float[np.ndarray, "3 3"]
    size_hw: tuple[int, int]
    instances: tuple[InstanceRecord, ...]


def _without_pixels(record: ImageRecord) -> _Seen:
    return _Seen(record.K, (record.rgb.shape[0], record.rgb.shape[1]), record.instances)


def _source_indices(source: ImageSource, pictures: Sequence[tuple[int, int]]) -> list[int]:
    if not pictures:
        raise InputError(f"{source.dataset}: there are no targets, so there is nothing to evaluate")
    table = source.instances
    known = dict(zip(zip(table.scene_id.tolist(), table.image_id.tolist(), strict=True), table.image, strict=True))
    missing = [key for key in pictures if key not in known]
    if missing:
        raise InputError(
            [
                f"{source.dataset}: targets name scene {s}, image {i}, which has no objects in the data"
                for s, i in missing
            ]
        )
    return [int(known[key]) for key in pictures]


def _wanted(
    source: ImageSource,
    targets: Sequence[Target],
    rows: dict[tuple[int, int], int],
    groups: Int64[np.ndarray, " t"],
) -> Int64[np.ndarray, " t"]:
    """How many instances of each truth's group are targets."""
    present = dict(zip(*(column.tolist() for column in np.unique(groups, return_counts=True)), strict=True))
    wanted: dict[int, int] = {}
    problems = []
    for target in targets:
        group = rows[target.scene_id, target.image_id] * OBJECTS_PER_PICTURE + target.obj_id
        wanted[group] = target.inst_count
        if present.get(group, 0) < target.inst_count:
            problems.append(
                f"{source.dataset}: targets ask for {target.inst_count} of object {target.obj_id} in scene "
                f"{target.scene_id}, image {target.image_id}, which has {present.get(group, 0)}"
            )
    if problems:
        raise InputError(problems)
    return np.array([wanted.get(int(group), 0) for group in groups], np.int64)
