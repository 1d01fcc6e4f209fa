"""Which objects a BOP test asks for: `test_targets_bop19.json`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from posecore.errors import InputError
from vpog.data.annotation_json import entry, read_json, rows, whole_number, write_json


@dataclass(frozen=True)
class Target:
    """So many instances of one object in one picture."""

    scene_id: int
    image_id: int
    obj_id: int
    inst_count: int


def read_targets(path: Path) -> tuple[Target, ...]:
    """In the order of the file.

    Raises:
        InputError: It is missing or damaged, or names an object of a picture twice.
    """
    targets = []
    for place, row in enumerate(rows(read_json(path, "the targets of a BOP test"), str(path))):
        where = f"{path}: [{place}]"
        names = ("scene_id", "im_id", "obj_id", "inst_count")
        targets.append(Target(*(whole_number(entry(row, name, where), f"{where}.{name}") for name in names)))
    _check_once(targets, path)
    return tuple(targets)


def read_target_images(path: Path) -> frozenset[tuple[int, int]]:
    """Scene and image numbers that a file of targets names; also of those without objects (BOP24 detection).

    Raises:
        InputError: It is missing or damaged.
    """
    images = set()
    for place, row in enumerate(rows(read_json(path, "the targets of a BOP test"), str(path))):
        where = f"{path}: [{place}]"
        scene, image = (whole_number(entry(row, name, where), f"{where}.{name}") for name in ("scene_id", "im_id"))
        images.add((scene, image))
    return frozenset(images)


def write_targets(path: Path, targets: Iterable[Target]) -> None:
    """
    Raises:
        InputError: An object of a picture is named twice.
    """
    listed = list(targets)
    _check_once(listed, path)
    content = [
        {"im_id": t.image_id, "inst_count": t.inst_count, "obj_id": t.obj_id, "scene_id": t.scene_id} for t in listed
    ]
    write_json(path, content)


def _check_once(targets: list[Target], path: Path) -> None:
    seen = set()
    for target in targets:
        key = (target.scene_id, target.image_id, target.obj_id)
        if key in seen:
            raise InputError(f"{path}: object {key[2]} of scene {key[0]}, image {key[1]} is there twice")
        seen.add(key)
