"""A whole data set on disk: models, templates, shards and, if wanted, BOP scenes."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from posecore.errors import InputError
from vpog.data.bop_writing import BopSceneWriter
from vpog.data.records import ImageRecord
from vpog.data.shard_writing import write_bop_shards
from vpog.data.synthetic.objects import SyntheticObject, make_objects
from vpog.data.synthetic.options import DEPTH_SCALE, SyntheticOptions, find_problems
from vpog.data.synthetic.production import one_thread, pictures
from vpog.objects.meshes import mesh_hash, read_mesh, write_mesh
from vpog.objects.models_info import read_models_info, write_models_info
from vpog.templates.writing import Rendered, render_templates


def synthesise(root: Path, options: SyntheticOptions, *, workers: int = 0) -> dict[str, Any]:
    """Write a data set; the same options give the same bytes.

    `root`/DATASET/models has the meshes and models_info.json, `root`/DATASET/SPLIT the shards, `root`/templates/DATASET
    the templates. A second split of the data set finds its models and templates there.

    Args:
        workers: Processes that draw; 0: this one does. The result is the same.

    Returns:
        Counts and ranges, for a person to look at.

    Raises:
        InputError: An option cannot be, the split is there already, or the data set has other objects.
    """
    _check(options, workers)
    dataset = Path(root) / options.dataset
    objects = make_objects(options)
    _check_free(dataset, options)
    write_models(dataset / "models", objects)
    report = _Report()
    with ExitStack() as stack:
        scenes = None
        if options.bop_split is not None:
            scenes = stack.enter_context(
                BopSceneWriter(dataset, options.bop_split, depth_scale=DEPTH_SCALE, targets=True)
            )
        shards = write_bop_shards(
            dataset / options.split,
            _noted(pictures(options, objects, workers), report, scenes),
            images_per_shard=options.images_per_shard,
            depth_scale=DEPTH_SCALE,
            rgb_format=options.rgb_format,
        )
    views = _write_templates(Path(root) / "templates" / options.dataset, objects, options, workers)
    return {
        "objects": {str(each.obj_id): each.kind for each in objects},
        "symmetric_objects": [each.obj_id for each in objects if not each.symmetry.is_none],
        **report.summary(),
        "shards": [str(path.relative_to(root)) for path in shards],
        "templates": views,
    }


def synthetic_pictures(options: SyntheticOptions, workers: int = 0) -> Iterator[ImageRecord]:
    """The pictures in order, as records that lie nowhere yet.

    Raises:
        InputError: An option cannot be.
    """
    _check(options, workers)
    yield from pictures(options, make_objects(options), workers)


def write_models(folder: Path, objects: list[SyntheticObject]) -> None:
    """Meshes as obj_NNNNNN.ply and models_info.json, as BOP has them.

    Raises:
        InputError: Other objects are there.
    """
    file = folder / "models_info.json"
    if file.is_file():
        _check_same(folder, objects)
        return
    for each in objects:
        write_mesh(_model_file(folder, each.obj_id), each.mesh)
    write_models_info(file, {each.obj_id: each.info for each in objects})  # last: without it a set is unfinished


def _check_same(folder: Path, objects: list[SyntheticObject]) -> None:
    file = folder / "models_info.json"
    wanted = {each.obj_id for each in objects}
    known = set(read_models_info(file))
    advice = "give the options of its objects (objects, objects_seed, symmetric_share), or another dataset"
    if known != wanted:
        raise InputError(f"{file}: has {len(known)} objects, {len(wanted)} are asked for; {advice}")
    for each in objects:
        path = _model_file(folder, each.obj_id)
        if mesh_hash(read_mesh(path, "mm")) != mesh_hash(each.mesh):
            raise InputError(f"{path}: is another object than these options make; {advice}")


def _model_file(folder: Path, obj_id: int) -> Path:
    return folder / f"obj_{obj_id:06d}.ply"


def _check(options: SyntheticOptions, workers: int) -> None:
    problems = find_problems(options)
    if workers < 0:
        problems.append(f"workers: {workers}, must be at least 0")
    if problems:
        raise InputError(problems)


def _check_free(dataset: Path, options: SyntheticOptions) -> None:
    """Before anything is drawn."""
    for split in (options.split, options.bop_split):
        if split is not None and (dataset / split).exists() and any((dataset / split).iterdir()):
            raise InputError(f"{dataset / split}: is there already; name another split, or delete it")


def _noted(drawn: Iterator[ImageRecord], report: "_Report", scenes: BopSceneWriter | None) -> Iterator[ImageRecord]:
    for record in drawn:
        report.add(record)
        if scenes is not None:
            scenes.write(record)
        yield record


def _write_templates(
    folder: Path, objects: list[SyntheticObject], options: SyntheticOptions, workers: int
) -> dict[str, Any]:
    if options.template_level is None:
        return {"views": 0}
    draw = partial(_draw_templates, folder, options)
    if workers == 0:
        rendered = [draw(each) for each in objects]
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            rendered = list(pool.map(draw, objects))
    return {"views": rendered[0].views, "drawn": sum(one.views for one in rendered if one.seconds > 0)}


def _draw_templates(folder: Path, options: SyntheticOptions, each: SyntheticObject) -> Rendered:
    assert options.template_level is not None
    with one_thread():
        return render_templates(
            each.mesh, folder, each.obj_id,
            level=options.template_level, distribution=options.template_distribution,
            sigma=options.sigma, backend=options.backend,
        )  # fmt: skip


class _Report:
    """Counts of what was written."""

    def __init__(self) -> None:
        self.images = 0
        self.visible: list[float] = []
        self.distances_mm: list[float] = []

    def add(self, record: ImageRecord) -> None:
        self.images += 1
        self.visible += [instance.visib_fract for instance in record.instances]
        self.distances_mm += [float(instance.cam_from_obj_mm[2, 3]) for instance in record.instances]

    def summary(self) -> dict[str, Any]:
        shares = (0, 0.5, 1)
        return {
            "images": self.images,
            "instances": len(self.visible),
            "visible_share": [round(float(np.quantile(self.visible, share)), 3) for share in shares],
            "distance_mm": [round(float(np.quantile(self.distances_mm, share)), 1) for share in shares],
        }
