"""The system's part of `make demo`: objects, training, onboarding of objects that training never saw, their poses, page."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from posecore.config import load_config
from posecore.demo import make_room
from posecore.devices import one_thread
from posecore.draw import tile, write_picture
from posecore.report import Chart, Line, Picture, Row, Section, write_section
from vpog.config.data import DatasetConfig
from vpog.config.run import VpogConfig
from vpog.data.boxes import box_of_bop
from vpog.data.groups import Dataset
from vpog.data.opening import open_dataset
from vpog.data.synthetic import EASY, SyntheticOptions, synthesise
from vpog.draw.poses import draw_case
from vpog.estimates import Estimate
from vpog.evaluate import score
from vpog.experiment import train
from vpog.layout import dataset_of_folder
from vpog.metrics.report import Report
from vpog.metrics.tables import write_report
from vpog.metrics.truths import visible_targets
from vpog.objects.meshes import read_mesh
from vpog.onboarding import add_objects, onboard_files
from vpog.pose_estimator import Detection, PoseEstimator
from vpog.results_csv import write_results
from vpog.views import inplane_angle, rotations_about_axis

NEEDED = 2.0
"""By how much the median rotation error must beat a random template's."""
MARKER = ".vpog-demo"
WRITTEN = ("data", "run", "objects", "evaluation", "baseline", "pictures", "section.json")
SIZE = (160, 160)
TRAINING = SyntheticOptions(
    objects=30,
    images=700,
    size_hw=SIZE,
    dataset="seen",
    split="train",
    symmetric_share=0.0,
    scene=EASY,
    template_level=0,
)
VALIDATION = replace(TRAINING, images=24, split="val", seed=1)
HELD_OUT = replace(
    TRAINING, objects=8, images=60, dataset="unseen", split="test", seed=2, objects_seed=1, template_level=1
)
SHOWN = 6


def demo(output: Path, steps: int | None = None) -> Path:
    """Everything from nothing to a page; returns the section file that the page is made of.

    What an earlier demo left in the folder is replaced; a folder with anything else in it is refused.

    Args:
        steps: Of training; None: those of the preset.

    Raises:
        InputError: The folder holds something that no demo wrote.
    """
    started = time.perf_counter()
    make_room(output, WRITTEN, MARKER)
    data = output / "data"
    for options in (TRAINING, VALIDATION, replace(HELD_OUT, template_level=0)):
        synthesise(data, options)
    with one_thread():
        train(_config(data, steps), [], output / "run")
    unseen = dataset_of_folder(data / "unseen" / "test")
    meshes = sorted((data / "unseen" / "models").glob("obj_*.ply"))
    known = onboard_files(meshes, output / "run", output / "objects")
    report, baseline, pictures, seconds = _measure(output, unseen)
    section = _section(output, report, baseline, pictures, known, seconds, time.perf_counter() - started)
    return write_section(section, output / "section.json")


def _config(data: Path, steps: int | None) -> VpogConfig:
    values: dict[str, Any] = {
        "data.train": [dataset_of_folder(data / "seen" / "train").to_json_dict()],
        "data.val": [dataset_of_folder(data / "seen" / "val").to_json_dict()],
    }
    if steps is not None:
        values["train.steps"] = steps
    return load_config(VpogConfig, "tiny.json", [f"{key}={json.dumps(value)}" for key, value in values.items()])


def _measure(output: Path, config: DatasetConfig) -> tuple[Report, Report, list[Picture], float]:
    """Poses of all objects in the held-out pictures, by the onboarded templates; and those of random templates."""
    estimator = PoseEstimator.load(output / "run", "cpu")
    add_objects(estimator, output / "objects")
    dataset = open_dataset(config, estimator.crop_px, 64)
    started = time.perf_counter()
    estimates = _estimates(estimator, dataset)
    seconds = (time.perf_counter() - started) / len(dataset.images)
    models = config.models_info.parent if config.models_info is not None else None
    targets = visible_targets(dataset.images)
    report = score(dataset, models, estimates, targets)
    write_report(report, output / "evaluation")
    write_results(output / "evaluation" / "vpog_unseen-test.csv", estimates)
    baseline = score(dataset, models, random_templates(dataset, estimator), targets)
    write_report(baseline, output / "baseline")
    return report, baseline, _pictures(output, report, dataset, models, estimates), seconds


def _estimates(estimator: PoseEstimator, dataset: Dataset) -> list[Estimate]:
    """From the true visible masks; picture by picture."""
    found = []
    for index in range(len(dataset.images)):
        record = dataset.images.read(index, depth=False)
        detections = [
            Detection(i.obj_id, box_xyxy=box_of_bop(i.bbox_visib_xywh), mask=i.mask_visib.decode())
            for i in record.instances
        ]
        answer = estimator.estimate([record.rgb], [record.K], detections)
        found += [
            Estimate(
                record.scene_id,
                record.image_id,
                result.detection.obj_id,
                pose.score,
                pose.cam_from_obj_mm,
                answer.seconds.total,
            )
            for result in answer.results
            for pose in result.poses
        ]
    return found


def random_templates(dataset: Dataset, estimator: PoseEstimator, seed: int = 0) -> list[Estimate]:
    """What one gets without looking: a random template's pose, turned in the picture's plane as fits the truth best, and
    put where the object truly is."""
    rng = np.random.default_rng(seed)
    out = []
    for index in range(len(dataset.images)):
        record = dataset.images.read(index, depth=False)
        for instance in record.instances:
            templates = estimator.objects[instance.obj_id].templates.cam_from_obj_mm
            chosen = templates[int(rng.integers(len(templates)))]
            pose = instance.cam_from_obj_mm.copy()
            turn = inplane_angle(pose[:3, :3], chosen[:3, :3])
            pose[:3, :3] = rotations_about_axis(np.array([turn]))[0] @ chosen[:3, :3]
            out.append(Estimate(record.scene_id, record.image_id, instance.obj_id, 1.0, pose))
    return out


def _pictures(
    output: Path, report: Report, dataset: Dataset, models: Path | None, estimates: list[Estimate]
) -> list[Picture]:
    """The first answers as they come, and the worst."""
    if models is None:
        return []
    table = report.targets
    ids = {}
    for index in range(len(dataset.images)):
        record = dataset.images.read(index, depth=False)
        ids[record.scene_id, record.image_id] = record
    shown = []
    for name, rows, caption in (
        ("poses", np.linspace(0, len(table) - 1, SHOWN).round().astype(int), "Held-out objects, as they come"),
        ("worst", report.worst(SHOWN), "The worst answers on held-out objects"),
    ):
        cases = []
        for row in rows.tolist():
            record = ids[int(table.scene_id[row]), int(table.image_id[row])]
            obj_id, which = int(table.obj_id[row]), int(table.estimate[row])
            truth = next(i for i in record.instances if i.gt_index == int(table.gt_index[row])).cam_from_obj_mm
            mesh = read_mesh(models / f"obj_{obj_id:06d}.ply", diameter_mm=dataset.models[obj_id].diameter_mm)
            found = estimates[which].cam_from_obj_mm if which >= 0 else None
            text = f"{table.rotation_deg[row]:.0f} deg, {table.translation_mm[row]:.0f} mm" if which >= 0 else "no pose"
            cases.append(draw_case(record.rgb, mesh, record.K, truth, found, text))
        path = output / "pictures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, tile(cases, columns=1))
        shown.append(Picture(path=path, caption=f"{caption}: picture, truth (green), estimate (orange), both"))
    return shown


def _section(
    output: Path,
    report: Report,
    baseline: Report,
    pictures: list[Picture],
    known: dict[str, Any],
    seconds_per_picture: float,
    seconds: float,
) -> Section:
    ours, random = report.overall, baseline.overall
    within = [float((r.targets.rotation_deg < 15).mean()) for r in (report, baseline)]
    rows = [
        Row(
            name="median rotation error",
            ours=ours["median_rotation_deg"],
            baseline=random["median_rotation_deg"],
            unit="deg",
            needed_factor=NEEDED,
        ),
        Row(name="within 15 degrees", ours=100 * within[0], baseline=100 * within[1], unit="%", lower_is_better=False),
        Row(name="AR (BOP 2019)", ours=100 * ours["ar"], baseline=100 * random["ar"], unit="%", lower_is_better=False),
        Row(
            name="ADD recall at a tenth of the diameter",
            ours=100 * ours["add_recall"],
            baseline=100 * random["add_recall"],
            unit="%",
            lower_is_better=False,
        ),
    ]
    groups = sorted((output / "run" / "figures").glob("*groups*.png"))
    matches = sorted((output / "run" / "figures").glob("*matches*.png"))
    pictures = pictures + [
        Picture(path=path, caption=caption)
        for path, caption in (
            *((path, "Groups of templates: near and far views of the query, patch grid") for path in groups[-1:]),
            *((path, "Matches of query patches in each template") for path in matches[-1:]),
        )
    ]
    return Section(
        name="vpog",
        heading="vpog: 6D poses of objects that training never saw",
        question=(
            f"How far are the estimated poses of {len(known['objects'])} objects that training never saw from the true ones, "
            "compared with a template drawn at random, turned in the picture's plane as fits the truth best, at the true "
            f"place (which no method knows)? {int(ours['targets'])} objects in {HELD_OUT.images} pictures, cut by "
            f"their true masks, turned in its plane by up to {EASY.inplane_deg:.0f} degrees; a network of 1.2 million parameters; "
            "the median error of the place is "
            f"{ours['median_translation_mm']:.0f} mm; "
            f"{seconds_per_picture:.2f} s a picture; everything on this page was made in {seconds:.0f} s on this machine."
        ),
        baseline="random template",
        rows=rows,
        pictures=pictures,
        charts=_charts(output),
        links={
            "report of the training": "vpog/run/report.html",
            "metrics": "vpog/evaluation/metrics.json",
            "table of objects": "vpog/evaluation/report.md",
        },
    )


def _charts(output: Path) -> list[Chart]:
    log = [json.loads(line) for line in (output / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]

    def curve(name: str, key: str) -> Line:
        points = [(row["step"], row[key]) for row in log if row.get(key) is not None]
        return Line(name=name, steps=[step for step, _ in points], values=[value for _, value in points])

    return [
        Chart(title="Classification loss, training", lines=[curve("classification", "train/classification")]),
        Chart(
            title="Rotation error on pictures of the training's objects (deg)",
            lines=[curve("mean", "validation/rotation_deg")],
        ),
    ]
