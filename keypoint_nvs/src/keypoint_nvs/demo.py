"""The system's part of `make demo`: objects, autoencoder, novel views, joint keypoints, all measured on objects never seen."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from keypoint_nvs.assembly import build_network, find_beginning
from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.data.rgba_images import opaque
from keypoint_nvs.data.synthetic.dataset import synthesise
from keypoint_nvs.data.synthetic.options import SyntheticOptions
from keypoint_nvs.draw.canvas import enlarged, to_picture
from keypoint_nvs.draw.space import SpacePoints, space_sheet
from keypoint_nvs.draw.tokens import token_sheet
from keypoint_nvs.evaluate import FITTED, Evaluation, measure, open_views, write_evaluation
from keypoint_nvs.evaluation.keypoints import KeypointReport, measure_keypoints, untrained_tokens
from keypoint_nvs.experiment import train
from keypoint_nvs.predictor import Predictor
from posecore.config import load_config
from posecore.data.spread import spread
from posecore.demo import make_room
from posecore.draw import tile, write_picture
from posecore.report import Chart, Line, Picture, Row, Section, write_section

MARKER = ".keypoint-nvs-demo"
WRITTEN = ("data", "autoencoder", "nvs", "joint", "evaluation", "pictures", "section.json")
TRAINING = SyntheticOptions(objects=600, azimuth_range_deg=(-45.0, 45.0))
VALIDATION = replace(TRAINING, objects=12, first_object=10_000)
HELD_OUT = replace(TRAINING, objects=24, first_object=20_000)
STAGES = ("autoencoder", "nvs", "joint")
NEEDED_REGRESSION = 1.7
"""By how much the regression from tokens to part centres must beat the mean keypoint."""
NEEDED_CONSISTENCY = 2.0
"""By how much the median reprojection error must beat that of untrained tokens."""
NEEDED_CONDITION = 1 / 0.85
"""By how much the error of views must beat that of views of another object."""
SHOWN = 3


def demo(output: Path, effort: float = 1.0) -> Path:
    """Everything from nothing to a page; returns the section file that the page is made of.

    What an earlier demo left in the folder is replaced; a folder with anything else in it is refused.

    Args:
        effort: Share of the steps of each training, to try it quickly.

    Raises:
        InputError: The folder holds something that no demo wrote.
    """
    started = time.perf_counter()
    make_room(output, WRITTEN, MARKER)
    data = output / "data"
    data.mkdir()
    for name, options in (("train", TRAINING), ("val", VALIDATION), ("test", HELD_OUT)):
        synthesise(data / f"{name}.hdf5", options, workers=2 if options.objects > 300 else 0)
    last = None
    for stage in STAGES:
        train(_config(stage, data, last, effort), [], output / stage)
        last = output / stage
    predictor = Predictor.load(output / "joint", "cpu")
    held_out = open_views(predictor, str(data / "test.hdf5"), "val")
    training = open_views(predictor, None, "train")
    result = measure(predictor, held_out, training)
    fitted = spread(training, FITTED)
    before = measure_keypoints(untrained_tokens(_before_joint(predictor), fitted), held_out, fitted)
    pictures = _pictures(output, predictor, result)
    section = _section(result, before, _charts(output), pictures, time.perf_counter() - started)
    return write_section(section, output / "section.json")


def _before_joint(predictor: Predictor) -> Predictor:
    """The networks that the joint training began with."""
    loaded = predictor.loaded
    network = build_network(loaded.config, find_beginning(loaded.config)).eval().requires_grad_(False)
    return Predictor(replace(loaded, network=network), predictor.inference)


def _config(stage: str, data: Path, last: Path | None, effort: float) -> KeypointNvsConfig:
    preset = load_config(KeypointNvsConfig, f"tiny_{stage}.json", [])
    values: dict[str, Any] = {
        "data.train": [{"kind": "multiview", "path": str(data / "train.hdf5")}],
        "data.val": [{"kind": "multiview", "path": str(data / "val.hdf5")}],
        "train.steps": max(1, round(preset.train.steps * effort)),
    }
    if last is not None:
        values["model.weights"] = str(last)
    return load_config(
        KeypointNvsConfig, f"tiny_{stage}.json", [f"{key}={json.dumps(value)}" for key, value in values.items()]
    )


def _pictures(output: Path, predictor: Predictor, result: Evaluation) -> list[Picture]:
    paths = write_evaluation(result, output / "evaluation")
    captions = {
        "views": "Novel views of held-out objects: truth, ours, ours from another object's picture, baselines",
        "views_worst": "The worst novel views",
        "keypoints": "The same tokens in the true views of held-out objects",
        "keypoints_worst": "The least consistent objects",
        "equivalents": "What each token marks on six held-out objects",
    }
    path = output / "pictures" / "objects.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, tile([_object(predictor, result, index) for index in range(SHOWN)], columns=1))
    caption = "From one picture (left): tokens in the views generated from it, and their points in space"
    return [Picture(path=path, caption=caption), *(Picture(path=p, caption=captions[p.stem]) for p in paths)]


def _object(predictor: Predictor, result: Evaluation, index: int) -> UInt8[np.ndarray, "h w 3"]:
    """What is told of one held-out object by its input view alone."""
    assert result.views is not None  # the joint run has both parts
    image = to_picture(result.views.inputs[index].numpy())
    found = predictor.objects([opaque(image)])[0]
    points = np.stack([view.xy_px for view in found.view_keypoints])
    trust = np.stack([view.confidence for view in found.view_keypoints])
    side = 160
    parts = [
        enlarged(image, side),
        token_sheet(list(found.views), points, trust / max(float(trust.max()), 1e-12), columns=6, side=side),
        space_sheet(SpacePoints(found.points_world, found.counted), side=side),
    ]
    return tile(parts, columns=1)


def _section(
    result: Evaluation, before: KeypointReport, charts: list[Chart], pictures: list[Picture], seconds: float
) -> Section:
    views, ours, untrained = result.views, result.keypoints, result.untrained
    assert views is not None
    assert ours is not None
    assert untrained is not None
    return Section(
        name="keypoint-nvs",
        heading="keypoint_nvs: keypoints that nobody annotated, from novel views",
        question=(
            f"{len(views.truth)} animals that training never saw, each from six fixed cameras. Do tokens whose attention was "
            "trained without labels tell where the animal's parts are, and mark the same point in all views? And are the views "
            "that are generated from one picture those of that animal? Beside: random tokens in the networks as they were "
            "before the joint training, and in the trained ones; the mean keypoint; views generated from another animal's "
            "picture; the mean training view; the nearest training animal (chosen by the truth); the input itself. Pixels are "
            "those of views 320 wide; the networks have 2 million parameters and see 32 pixels; everything here was made from "
            f"nothing in {seconds:.0f} s on this machine."
        ),
        baseline="baseline",
        rows=[*_keypoint_rows(ours.summary(), before.summary(), untrained.summary()), *_view_rows(views.summary())],
        pictures=pictures,
        charts=charts,
        links={
            "training of the autoencoder": "keypoint-nvs/autoencoder/report.html",
            "training of novel views": "keypoint-nvs/nvs/report.html",
            "joint training": "keypoint-nvs/joint/report.html",
            "metrics": "keypoint-nvs/evaluation/metrics.json",
        },
    )


def _keypoint_rows(ours: dict[str, float], before: dict[str, float], random: dict[str, float]) -> list[Row]:
    regression, consistency, equivariance = "regression_error_px320", "median_px320", "equivariance_median_px320"
    others = {"tokens before training": before, "random tokens in the trained networks": random}

    def rows(what: str, key: str, needed: float | None) -> list[Row]:
        return [
            Row(name=f"{what}, against {name}", ours=ours[key], baseline=values[key], unit="px", needed_factor=factor)
            for (name, values), factor in zip(others.items(), (needed, None), strict=True)
        ]

    mean = Row(
        name="part centres by regression from tokens, against the mean keypoint",
        ours=ours[regression],
        baseline=ours["regression_mean_keypoint_px320"],
        unit="px",
        needed_factor=NEEDED_REGRESSION,
    )
    return [
        mean,
        *rows("part centres by regression", regression, 1.0),
        *rows("median reprojection error", consistency, NEEDED_CONSISTENCY),
        *rows("median equivariance error", equivariance, None),
    ]


def _view_rows(scores: dict[str, dict[str, float]]) -> list[Row]:
    names = {
        "other_condition": "another animal's picture",
        "mean_view": "the mean training view",
        "best_training_object": "the nearest training animal",
        "input_copy": "a copy of the input",
    }
    rows = [
        Row(
            name=f"novel views, squared error x 1000, against {label}",
            ours=1000 * scores["ours"]["mse"],
            baseline=1000 * scores[name]["mse"],
            needed_factor=NEEDED_CONDITION if name == "other_condition" else None,
        )
        for name, label in names.items()
    ]
    other = scores["other_condition"]["psnr_foreground_db"]
    ours = scores["ours"]["psnr_foreground_db"]
    return [
        *rows,
        Row(
            name="novel views, PSNR on the animal, against another's picture",
            ours=ours,
            baseline=other,
            unit="dB",
            lower_is_better=False,
        ),
    ]


def _charts(output: Path) -> list[Chart]:
    def curve(stage: str, name: str, key: str) -> Line:
        lines = (output / stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        points = [(row["step"], row[key]) for row in map(json.loads, lines) if row.get(key) is not None]
        return Line(name=name, steps=[step for step, _ in points], values=[value for _, value in points])

    return [
        Chart(
            title="Novel views: error of the velocity",
            lines=[curve("nvs", "training", "train/nvs"), curve("nvs", "validation", "validation/nvs")],
        ),
        Chart(
            title="Joint: reprojection error of the tokens (px at 320)",
            lines=[curve("joint", "training", "train/reprojection_px")],
        ),
        Chart(title="Joint: height of the attention peaks", lines=[curve("joint", "training", "train/peak")]),
    ]
