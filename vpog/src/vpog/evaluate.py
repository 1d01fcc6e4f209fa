"""Measuring a network, or anybody's result files, on pictures with true poses."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecore.draw import write_picture
from posecore.errors import InputError
from vpog.config.data import DatasetConfig
from vpog.config.inference import InferenceConfig
from vpog.data.boxes import box_of_bop
from vpog.data.detections import detections_for_targets, read_detections
from vpog.data.groups import Dataset
from vpog.data.opening import open_dataset, open_images, seen_points_mm
from vpog.data.targets import Target, read_targets
from vpog.draw.poses import draw_case
from vpog.estimates import Estimate
from vpog.layout import dataset_of_folder
from vpog.metrics.models import EvaluationModel
from vpog.metrics.report import Report
from vpog.metrics.score import score_estimates
from vpog.metrics.tables import report_to_json, write_report
from vpog.metrics.truths import visible_targets
from vpog.metrics.vsd_scenes import mesh_depths
from vpog.objects.mesh import Mesh
from vpog.objects.meshes import read_mesh
from vpog.objects.models_info import ModelInfo, read_models_info, symmetry_transforms
from vpog.pose_estimator import Detection, PoseEstimator
from vpog.results_csv import ResultName, read_results, write_results

logger = logging.getLogger(__name__)
WORST = 6
"""Pictures of the worst answers."""


@dataclass(frozen=True)
class Asked:
    """What is to be found in one picture."""

    index: int
    """Of its source."""
    detections: tuple[Detection, ...]
    seconds: float
    """That the detector took; 0 where the truth is the detector."""


def evaluate(
    checkpoint: Path,
    *,
    data: Sequence[Path] | None = None,
    split: str = "test",
    detections: Path | None = None,
    targets: Path | None = None,
    output: Path | None = None,
    method: str = "vpog",
    changes: Mapping[str, Any] | None = None,
    limit: int | None = None,
    part: tuple[int, int] | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Estimate all poses of some data sets, write BOP's result files and what they are worth.

    Args:
        data: Folders of splits; None: those of the training's configuration.
        split: Which of these, val or test.
        detections: BOP's detections; None: the true visible masks and their boxes.
        targets: What BOP asks for; None: all objects of which a tenth is visible.
        changes: Fields of the inference settings; None values are left out.
        limit: Only so many pictures, spread over the set.
        part: (i, n): of the pictures; writes the result file only.

    Returns:
        For each data set its numbers and files.

    Raises:
        InputError: A file is missing or damaged, or does not fit.
    """
    estimator = PoseEstimator.load(checkpoint, device)
    estimator.inference = changed(estimator.inference, changes or {})
    configs = _datasets(estimator, data, split)
    if len(configs) > 1 and (detections is not None or targets is not None):
        raise InputError("evaluate: --detections and --targets belong to one data set; give one --data")
    folder = output or checkpoint_folder(checkpoint) / "evaluation"
    results = {}
    for config in configs:
        own = folder if len(configs) == 1 else folder / config.name
        dataset = open_dataset(config, estimator.crop_px, estimator.config.data.templates.cache_mb)
        wanted = read_targets(targets) if targets is not None else _all_targets(dataset)
        asked = _asked(dataset, wanted, detections, limit, part)
        estimates, failures = estimate_dataset(estimator, dataset, asked)
        name = ResultName(
            method, dataset_name(config), "test", None, None if part is None else f"part{part[0]}of{part[1]}"
        )
        own.mkdir(parents=True, exist_ok=True)
        write_results(own / name.file_name, estimates)
        summary: dict[str, Any] = {"results": str(own / name.file_name), "pictures": len(asked), "unsolved": failures}
        if part is None:
            pictures = {(s, i) for s, i in (_ids(dataset, one.index) for one in asked)}
            within = [t for t in wanted if (t.scene_id, t.image_id) in pictures]
            report = score(dataset, models_folder(config), estimates, within)
            write_report(report, own)
            draw_worst(report, dataset, models_folder(config), estimates, own / "worst")
            summary |= {"metrics": report_to_json(report)["overall"], "report": str(own / "report.md")}
        results[config.name] = summary
    return results[configs[0].name] if len(configs) == 1 else results


def estimate_dataset(estimator: PoseEstimator, dataset: Dataset, asked: Sequence[Asked]) -> tuple[list[Estimate], int]:
    """Poses of all pictures, one picture at a time as BOP's times are told; and how many objects have none."""
    for obj_id in sorted({detection.obj_id for one in asked for detection in one.detections}):
        if obj_id not in dataset.templates.objects:
            raise InputError(f"{dataset.name}: object {obj_id} is asked for but has no templates")
        if obj_id not in dataset.models:
            raise InputError(f"{dataset.name}: object {obj_id} is asked for but is not in models_info.json")
        estimator.add_templates(dataset.templates.load_all(obj_id), dataset.models[obj_id])
    estimates: list[Estimate] = []
    failures = 0
    for one in asked:
        record = dataset.images.read(one.index, depth=False)
        answer = estimator.estimate([record.rgb], [record.K], one.detections)
        seconds = one.seconds + answer.seconds.total
        for result in answer.results:
            failures += not result.poses
            estimates += [
                Estimate(
                    record.scene_id, record.image_id, result.detection.obj_id, pose.score, pose.cam_from_obj_mm, seconds
                )
                for pose in result.poses
            ]
    return estimates, failures


def score_files(
    files: Sequence[Path], data: Path, models: Path, *, targets: Path | None = None, output: Path | None = None
) -> dict[str, Any]:
    """BOP's numbers of result files of any method; several files are parts of one result."""
    config = dataset_of_folder(data, needs_templates=False)
    estimates = [estimate for file in files for estimate in read_results(file)]
    images = open_images(config)
    wanted = read_targets(targets) if targets is not None else visible_targets(images)
    infos, meshes = _models(models, sorted({target.obj_id for target in wanted}))
    report = score_estimates(
        estimates, images, evaluation_models(infos, meshes), targets=wanted, render_depth=mesh_depths(meshes)
    )
    folder = output or files[0].parent / files[0].stem
    write_report(report, folder)
    return {"metrics": report_to_json(report)["overall"], "report": str(folder / "report.md")}


def score(dataset: Dataset, models: Path | None, estimates: Sequence[Estimate], targets: Sequence[Target]) -> Report:
    """With VSD where there are meshes and depth; else models are the points that templates show."""
    wanted = sorted({target.obj_id for target in targets})
    meshes = {} if models is None else _meshes(models, wanted, dataset.models)
    if meshes:
        known = evaluation_models(dataset.models, meshes)
        has_depth = dataset.images.read(0).depth_mm is not None
        return score_estimates(
            estimates, dataset.images, known, targets=targets, render_depth=mesh_depths(meshes) if has_depth else None
        )
    logger.warning("%s: there are no meshes beside models_info.json: VSD and AR are left out", dataset.name)
    points = {obj_id: seen_points_mm(dataset.templates.load_all(obj_id)) for obj_id in wanted}
    known = {
        obj_id: EvaluationModel(values, dataset.models[obj_id].diameter_mm, symmetry_transforms(dataset.models[obj_id]))
        for obj_id, values in points.items()
    }
    return score_estimates(estimates, dataset.images, known, targets=targets)


def evaluation_models(infos: Mapping[int, ModelInfo], meshes: Mapping[int, Mesh]) -> dict[int, EvaluationModel]:
    return {
        obj_id: EvaluationModel(mesh.vertices_mm, infos[obj_id].diameter_mm, symmetry_transforms(infos[obj_id]))
        for obj_id, mesh in meshes.items()
    }


def draw_worst(
    report: Report, dataset: Dataset, models: Path | None, estimates: Sequence[Estimate], folder: Path
) -> list[Path]:
    """Outlines of the worst answers and of the truth. Without meshes there is nothing to draw."""
    if models is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    table = report.targets
    images = {_ids(dataset, index): index for index in range(len(dataset.images))}
    written = []
    for place, row in enumerate(report.worst(WORST).tolist()):
        record = dataset.images.read(images[int(table.scene_id[row]), int(table.image_id[row])], depth=False)
        obj_id, which = int(table.obj_id[row]), int(table.estimate[row])
        mesh = _meshes(models, [obj_id], dataset.models)[obj_id]
        true = next(i.cam_from_obj_mm for i in record.instances if i.gt_index == int(table.gt_index[row]))
        found = estimates[which].cam_from_obj_mm if which >= 0 else None
        caption = (
            f"object {obj_id}, {table.symmetric_rotation_deg[row]:.0f} deg off"
            if which >= 0
            else f"object {obj_id}, no pose"
        )
        path = folder / f"{place:02d}_{record.scene_id:06d}_{record.image_id:06d}_{obj_id:06d}.png"
        write_picture(path, draw_case(record.rgb, mesh, record.K, true, found, caption))
        written.append(path)
    return written


def changed(inference: InferenceConfig, changes: Mapping[str, Any]) -> InferenceConfig:
    """The settings with some fields changed, checked again."""
    given = {name: value for name, value in changes.items() if value is not None}
    return InferenceConfig.from_dict(inference.to_json_dict() | given, "inference")


def checkpoint_folder(checkpoint: Path) -> Path:
    """Where reports of a run go: the run's own folder, or the checkpoint's."""
    if checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent
    return checkpoint if checkpoint.is_dir() else checkpoint.parent


def models_folder(config: DatasetConfig) -> Path | None:
    """The folder with the meshes: that of models_info.json, if there are any beside it."""
    if config.models_info is None:
        return None
    folder = config.models_info.parent
    return folder if any(folder.glob("obj_*.ply")) else None


def dataset_name(config: DatasetConfig) -> str:
    """As names of result files have it: letters and digits."""
    return "".join(c for c in config.name if c.isalnum()) or "data"


def _datasets(estimator: PoseEstimator, data: Sequence[Path] | None, split: str) -> list[DatasetConfig]:
    if data:
        return [dataset_of_folder(folder) for folder in data]
    configs = list(getattr(estimator.config.data, split))
    if not configs:
        raise InputError(f"evaluate: the training's configuration names no data.{split}; give --data FOLDER")
    return configs


def _all_targets(dataset: Dataset) -> tuple[Target, ...]:
    """Objects without templates cannot be asked for."""
    return tuple(target for target in visible_targets(dataset.images) if target.obj_id in dataset.templates.objects)


def _ids(dataset: Dataset, index: int) -> tuple[int, int]:
    table = dataset.images.instances
    row = int(np.flatnonzero(table.image == index)[0])
    return int(table.scene_id[row]), int(table.image_id[row])


def _asked(
    dataset: Dataset,
    targets: Sequence[Target],
    detections: Path | None,
    limit: int | None,
    part: tuple[int, int] | None,
) -> list[Asked]:
    """What to look for in each picture that has targets."""
    table = dataset.images.instances
    places = {
        (scene, image): index
        for scene, image, index in zip(
            table.scene_id.tolist(), table.image_id.tolist(), table.image.tolist(), strict=True
        )
    }
    unknown = [t for t in targets if (t.scene_id, t.image_id) not in places]
    if unknown:
        raise InputError(
            f"{dataset.name}: targets name scene {unknown[0].scene_id}, image {unknown[0].image_id}, which is not there"
        )
    by_picture: dict[int, list[Target]] = {}
    for target in targets:
        by_picture.setdefault(places[target.scene_id, target.image_id], []).append(target)
    indices = sorted(by_picture)
    if part is not None:
        indices = indices[len(indices) * part[0] // part[1] : len(indices) * (part[0] + 1) // part[1]]
    if limit is not None and limit < len(indices):
        indices = [indices[i] for i in np.linspace(0, len(indices) - 1, limit).round().astype(int)]
    if detections is None:
        return [Asked(index, _true_detections(dataset, index, by_picture[index]), 0.0) for index in indices]
    found = detections_for_targets(read_detections(detections), [t for index in indices for t in by_picture[index]])
    grouped: dict[int, list[Detection]] = {index: [] for index in indices}
    seconds = dict.fromkeys(indices, 0.0)
    for one in found:
        index = places[one.target.scene_id, one.target.image_id]
        box = box_of_bop(one.detection.bbox_xywh)
        mask = None if one.detection.mask is None else one.detection.mask.decode()
        grouped[index].append(Detection(one.target.obj_id, box_xyxy=box, mask=mask))
        seconds[index] = max(seconds[index], one.detection.time_s)
    return [Asked(index, tuple(grouped[index]), seconds[index]) for index in indices if grouped[index]]


def _true_detections(dataset: Dataset, index: int, targets: Sequence[Target]) -> tuple[Detection, ...]:
    """The most visible instances of each target, by their true masks."""
    record = dataset.images.read(index, depth=False)
    chosen = []
    for target in targets:
        own = sorted(
            (i for i in record.instances if i.obj_id == target.obj_id), key=lambda i: i.visib_fract, reverse=True
        )
        chosen += [
            Detection(i.obj_id, box_xyxy=box_of_bop(i.bbox_visib_xywh), mask=i.mask_visib.decode())
            for i in own[: target.inst_count]
        ]
    return tuple(chosen)


def _meshes(folder: Path, obj_ids: Sequence[int], infos: Mapping[int, ModelInfo]) -> dict[int, Mesh]:
    return {
        obj_id: read_mesh(folder / f"obj_{obj_id:06d}.ply", diameter_mm=infos[obj_id].diameter_mm) for obj_id in obj_ids
    }


def _models(folder: Path, obj_ids: Sequence[int]) -> tuple[dict[int, ModelInfo], dict[int, Mesh]]:
    infos = read_models_info(folder / "models_info.json")
    missing = [obj_id for obj_id in obj_ids if obj_id not in infos]
    if missing:
        raise InputError(f"{folder / 'models_info.json'}: has no object {missing[0]}, which targets ask for")
    return infos, _meshes(folder, obj_ids, infos)
