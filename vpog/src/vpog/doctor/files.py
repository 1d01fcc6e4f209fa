"""Configurations, checkpoints, weights, meshes, pictures and templates."""

from pathlib import Path

import numpy as np

from posecore.config import load_config
from posecore.doctor import Finding, from_error
from posecore.errors import InputError
from vpog.config.run import VpogConfig
from vpog.data.key_to_shard import check_key_to_shard, find_key_to_shard
from vpog.data.object_index import check_objects
from vpog.data.opening import open_dataset, open_images
from vpog.data.shards import WebDatasetImages
from vpog.layout import dataset_of_folder
from vpog.model.checkpoints import read_croco
from vpog.objects.mesh import mesh_diameter_mm
from vpog.objects.meshes import read_mesh
from vpog.templates import TemplateStore


def check_config(path: Path) -> list[Finding]:
    """The fields, and the data sets that they name; paths are relative to the working folder, then to the file."""
    config = load_config(VpogConfig, path)
    model = config.model
    text = f"{model.encoder.kind} encoder, {model.decoder.kind} decoder, {model.img_size} px: no unknown or impossible field"
    findings = [Finding("ok", str(path), text)]
    for part in ("train", "val", "test"):
        for dataset in getattr(config.data, part):
            subject = f"data.{part}: {dataset.name}"
            try:
                opened = open_dataset(dataset, model.img_size, 64, [path.parent])
            except InputError as error:
                findings += from_error(subject, error)
                continue
            counts = len(opened.images), len(opened.images.instances), len(opened.templates.objects)
            text = "{} pictures, {} objects in them; {} objects have templates".format(*counts)
            findings.append(Finding("ok", subject, text))
    return findings


def check_checkpoint(path: Path) -> list[Finding]:
    """It is whole, and its network can be built."""
    import torch

    from vpog.loading import load_network

    loaded = load_network(path, torch.device("cpu"))
    count = sum(p.numel() for p in loaded.network.parameters()) / 1e6
    return [
        Finding("ok", str(loaded.folder), f"{count:.1f} million parameters, crops of {loaded.config.model.img_size} px")
    ]


def check_croco(path: Path) -> list[Finding]:
    """Weights of CroCo v2."""
    found = read_croco(path, "weights")
    return [
        Finding(
            "ok",
            str(path),
            f"CroCo v2, {len(found.state)} tensors",
            "CC BY-NC-SA 4.0: not for commercial use; set model.encoder.weights",
        )
    ]


def check_mesh(path: Path) -> list[Finding]:
    """It can be drawn, and its unit is clear."""
    mesh = read_mesh(path)
    size = np.ptp(mesh.vertices_mm, axis=0)
    text = f"{len(mesh.faces)} faces, {size[0]:.0f} x {size[1]:.0f} x {size[2]:.0f} mm, diameter {mesh_diameter_mm(mesh):.0f} mm"
    return [Finding("ok", str(path), text)]


def check_templates(path: Path) -> list[Finding]:
    """Every object's files."""
    store = TemplateStore(path, 64)
    views = [store.views(obj_id) for obj_id in store.objects]
    valid, total = sum(int(v.is_valid.sum()) for v in views), sum(len(v.is_valid) for v in views)
    level = "ok" if valid == total else "warning"
    text = f"{len(views)} objects, {valid} of {total} views show something"
    return [Finding(level, str(path), text, "" if valid == total else "the others are left out of every group")]  # type: ignore[arg-type]


def check_split(path: Path) -> list[Finding]:
    """Pictures, key_to_shard.json, and whether templates and models are there for all objects."""
    images = open_images(dataset_of_folder(path, needs_templates=False))
    table = images.instances
    findings = [
        Finding(
            "ok", str(path), f"{len(images)} pictures, {len(table)} objects of {len(set(table.obj_id.tolist()))} kinds"
        )
    ]
    where = find_key_to_shard(path)
    if isinstance(images, WebDatasetImages) and where is not None:
        check_key_to_shard(where, images.shards.indexes)
        findings.append(Finding("ok", str(where), "agrees with the shards"))
    try:
        dataset = open_dataset(dataset_of_folder(path), 64, 64)
        check_objects(dataset.images, dataset.templates.objects, "templates")
        check_objects(dataset.images, list(dataset.models), "models_info.json")
        findings.append(
            Finding("ok", "templates", f"{len(dataset.templates.objects)} objects at {dataset.templates.root}")
        )
    except InputError as error:
        findings += [Finding("warning", "templates", problem) for problem in error.problems]
    return findings
