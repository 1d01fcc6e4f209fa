"""The list form of models_info.json, which names the meshes of Google Scanned Objects and ShapeNet."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posecore.errors import InputError
from vpog.objects.models_info import read_json


@dataclass(frozen=True)
class ModelName:
    """Where an object of the pictures comes from."""

    obj_id: int
    source_id: str
    """GSO: the object's folder. ShapeNet: the id inside its category."""
    synset_id: str | None = None
    """ShapeNet's category; None: GSO."""

    @property
    def folder(self) -> str:
        """Below the folder of the meshes."""
        return self.source_id if self.synset_id is None else f"{self.synset_id}/{self.source_id}"


def read_model_names(path: Path) -> dict[int, ModelName]:
    """Names by object id, in the order of the file.

    Raises:
        InputError: No such file, no JSON, another form, a missing or wrong field, an id that is there twice; every
            wrong entry is named.
    """
    data = read_json(Path(path))
    if not isinstance(data, list):
        raise InputError(
            f"{path}: is no list of {{obj_id, gso_id}} or {{obj_id, shapenet_synset_id, shapenet_source_id}}"
        )
    names: dict[int, ModelName] = {}
    problems: list[str] = []
    for i, entry in enumerate(data):
        try:
            name = _name(entry, f"{path}: entry {i}")
            if name.obj_id in names:
                raise InputError(f"{path}: entry {i}.obj_id: is {name.obj_id}, which an earlier entry has")
            names[name.obj_id] = name
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    return names


def _name(entry: Any, where: str) -> ModelName:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: is {entry!r}; expected an object with obj_id and gso_id or ShapeNet's two ids")
    obj_id = entry.get("obj_id")
    if not isinstance(obj_id, int) or isinstance(obj_id, bool):
        raise InputError(f"{where}.obj_id: is {obj_id!r}; expected a whole number")
    if "gso_id" in entry:
        return ModelName(obj_id, _folder_name(entry, "gso_id", where))
    source_id = _folder_name(entry, "shapenet_source_id", where)
    return ModelName(obj_id, source_id, _folder_name(entry, "shapenet_synset_id", where))


def _folder_name(entry: Mapping[str, Any], field: str, where: str) -> str:
    """These become parts of paths, so one that would leave its folder is refused."""
    value = entry.get(field)
    if not isinstance(value, str) or value in ("", ".", "..") or "/" in value or "\\" in value:
        raise InputError(f"{where}.{field}: is {value!r}; expected the name of a folder")
    return value
