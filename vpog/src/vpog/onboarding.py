"""Folders of known objects: templates and sizes, made once from meshes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from posecore.errors import InputError
from vpog.loading import load_network
from vpog.objects.mesh import Mesh
from vpog.objects.mesh_list import numbered_meshes
from vpog.objects.meshes import read_mesh, write_mesh
from vpog.objects.models_info import read_models_info, write_models_info
from vpog.objects.symmetry_detection import model_info_of
from vpog.pose_estimator import PoseEstimator
from vpog.templates import load_templates, save_templates, templates_key, templates_of_mesh
from vpog.views import Level

MODELS_INFO = "models_info.json"


def onboard_files(
    meshes: Sequence[Path],
    checkpoint: Path,
    output: Path,
    *,
    first: int = 1,
    unit: Literal["auto", "mm", "m"] = "auto",
    level: Level = 1,
    models_info: Path | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Render templates for the network of a checkpoint, and keep them with the mesh and its size.

    Writes OUTPUT/obj_NUMBER.ply (mm), OUTPUT/obj_NUMBER.npz (templates) and OUTPUT/models_info.json. Objects that are
    in the folder already stay; the same number is made anew.

    Args:
        models_info: Symmetries; None: they are looked for in the mesh's shape and colours.

    Raises:
        InputError: A mesh is missing, damaged or of unknown unit; an object is not in models_info.
    """
    from posecore.devices import choose_device

    size = load_network(checkpoint, choose_device(device)).config.model.img_size
    given = None if models_info is None else read_models_info(models_info)
    known = read_models_info(output / MODELS_INFO) if (output / MODELS_INFO).exists() else {}
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for obj_id, path in numbered_meshes(meshes, first):
        if given is not None and obj_id not in given:
            raise InputError(f"{models_info}: has no object {obj_id} ({path})")
        mesh = read_mesh(path, unit=unit, diameter_mm=None if given is None else given[obj_id].diameter_mm)
        info = given[obj_id] if given is not None else model_info_of(mesh)
        templates = templates_of_mesh(mesh, obj_id, level=level, size=size)
        save_templates(object_file(output, obj_id, ".npz"), templates, templates_key(mesh, level, size))
        write_mesh(object_file(output, obj_id, ".ply"), mesh)
        known[obj_id] = info
        write_models_info(output / MODELS_INFO, known)
        rows.append(
            {
                "obj_id": obj_id,
                "mesh": str(path),
                "diameter_mm": round(info.diameter_mm, 3),
                "templates": len(templates),
                "discrete_symmetries": len(info.symmetries_discrete),
                "continuous_symmetries": len(info.symmetries_continuous),
            }
        )
    return {"folder": str(output), "objects": rows}


def add_objects(estimator: PoseEstimator, folder: Path) -> dict[int, Mesh]:
    """All objects of a folder that `onboard_files` made, added to an estimator; their meshes.

    Raises:
        InputError: The folder is none, a file is damaged, or templates are for another network's size.
    """
    if not (folder / MODELS_INFO).is_file():
        raise InputError(
            f"{folder}: has no {MODELS_INFO}; make the folder with `vpog onboard MESH... --output {folder}`"
        )
    meshes = {}
    for obj_id, info in read_models_info(folder / MODELS_INFO).items():
        estimator.add_templates(load_templates(object_file(folder, obj_id, ".npz")), info)
        meshes[obj_id] = read_mesh(object_file(folder, obj_id, ".ply"), unit="mm")
    return meshes


def object_file(folder: Path, obj_id: int, suffix: str) -> Path:
    return folder / f"obj_{obj_id:06d}{suffix}"
