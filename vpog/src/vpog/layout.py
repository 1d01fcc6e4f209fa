"""The folder of a data set as `vpog data synth` and the public downloads have it, found from its root."""

from collections.abc import Mapping
from pathlib import Path

from posecore.errors import InputError
from vpog.config.data import DatasetConfig
from vpog.data.annotation_json import read_json


def dataset_of_folder(folder: Path, *, needs_templates: bool = True) -> DatasetConfig:
    """`ROOT/NAME/SPLIT` with shards (or BOP scenes) in it; templates are looked for at ROOT/templates/NAME, models_info.json
    in ROOT/NAME and its folders of models. The list of GSO and ShapeNet, which numbers objects but has no sizes, is passed over.

    Args:
        needs_templates: False where only the true poses are wanted.

    Raises:
        InputError: There is no such folder, or no templates; names where they were looked for.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --data needs the folder of a split, as ROOT/NAME/train")
    home = folder.parent
    places = [home.parent / "templates" / home.name, home / "templates"]
    templates = _first("templates", places) if needs_templates else str(places[0])
    names = (
        "models_info.json",
        "models/models_info.json",
        "models_cad/models_info.json",
        "models_eval/models_info.json",
    )
    models = next((str(home / name) for name in names if _tells_sizes(home / name)), None)
    kind = "shards" if any(folder.glob("*.tar")) else "bop"
    values = {"name": home.name, "images": str(folder), "kind": kind, "templates": templates, "models_info": models}
    return DatasetConfig.from_dict(values, str(folder))


def _tells_sizes(path: Path) -> bool:
    return path.exists() and isinstance(read_json(path, "sizes of objects"), Mapping)


def _first(what: str, candidates: list[Path]) -> str:
    found = next((path for path in candidates if path.exists()), None)
    if found is None:
        raise InputError(f"{what}: not found (looked for {', '.join(map(str, candidates))})")
    return str(found)
